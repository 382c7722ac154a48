"""A service to which much may happen, and what its clients note meanwhile."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from subprocess import Popen

import httptools
import httpx

from benchmarks.mixed import Ask, Known
from benchmarks.servers import HOST

PATIENCE = 60.0
"""Seconds within which a service gets over a disaster."""

BODY_SECONDS = 4
"""That a body may take."""

_LOOKS = 12
"""Connections by which it is asked what is served: no front end of two or three is missed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and how it came about.

    Attributes:
        name: that the answer bears.
        which: request, of those that are known.
        status: of the answer.
        body: of it.
        retry_after: the header; "" where there is none.
        began, ended: when it was sent and answered.
        timed: it had a deadline.
    """

    name: str
    which: int
    status: int
    body: bytes
    retry_after: str
    began: float
    ended: float
    timed: bool = False

    @property
    def code(self) -> str:
        """The code of the problem; ok where there is none."""
        return "ok" if self.status == 200 else str(json.loads(self.body)["code"])


@dataclass
class Scene:
    """A service, what is asked of it and what it answered.

    Attributes:
        work: holds `bundles`, and `kept` with both versions.
        port: of the service.
        process: its first one.
        known: requests and answers.
        versions: of the model, of which one is served.
        random: draws all there is to draw.
        places: for requests inside.
        replies: by name.
        cut: names of requests whose clients left.
        faults: seen on the way.
        bad_times: codes that may be answered for a time: from, to.
    """

    work: Path
    port: int
    process: Popen[bytes]
    known: Known
    versions: Sequence[str]
    random: random.Random
    places: int
    replies: dict[str, Reply] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    bad_times: list[tuple[str, float, float]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    PREFIX = "chaos-"

    # ---- asking ---------------------------------------------------------------------------------

    def client(self) -> httpx.AsyncClient:
        """Return a client for everything that is asked properly."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(base_url=f"http://{HOST}:{self.port}", timeout=60, limits=limits)

    def draw(self, *kinds: str) -> tuple[int, Ask, str]:
        """Draw a request, of some kinds or of all, and name it."""
        asks = self.known.asks
        which = self.random.choice([i for i, a in enumerate(asks) if not kinds or a.kind in kinds])
        return which, asks[which], f"{self.PREFIX}{next(self._numbers)}"

    async def ask(self, client: httpx.AsyncClient, milliseconds: int | None = None) -> Reply | None:
        """Send one request and note its answer; None, and a fault, where there is none."""
        which, ask, name = self.draw()
        headers = {"Content-Type": ask.media_type, "X-Request-ID": name}
        if milliseconds is not None:
            headers["X-Request-Timeout-Ms"] = str(milliseconds)
        began = time.monotonic()
        try:
            answer = await client.post(ask.path, content=ask.body(name), headers=headers)
        except httpx.TransportError as exc:
            self.faults.append(f"{name}: lost: {exc!r}")
            return None
        return self.note(
            name,
            Reply(
                answer.headers.get("X-Request-ID", ""),
                which,
                answer.status_code,
                answer.content,
                answer.headers.get("Retry-After", ""),
                began,
                time.monotonic(),
                timed=milliseconds is not None,
            ),
        )

    def note(self, name: str, reply: Reply) -> Reply:
        """Keep a reply."""
        self.replies[name] = reply
        return reply

    async def keep_asking(self, client: httpx.AsyncClient, stop: asyncio.Event) -> None:
        """Send requests, one after the other; one in twenty with a deadline of a moment."""
        while not stop.is_set():
            hurry = self.random.random() < 0.05
            reply = await self.ask(client, self.random.randint(1, 30) if hurry else None)
            if reply is None or reply.status == 503:
                await asyncio.sleep(0.05)

    async def slow(self, pause: float, *kinds: str) -> None:
        """Send a body in five pieces, with pauses, and take the answer."""
        which, ask, name = self.draw(*kinds)
        body = ask.body(name)
        began, size = time.monotonic(), -(-len(body) // 5)
        reader, writer = await asyncio.open_connection(HOST, self.port)
        reply = asyncio.create_task(read_reply(reader, which, began))
        try:
            with suppress(ConnectionError):  # refused by now, and the answer read
                writer.write(head(ask, name, len(body)))
                for at in range(0, len(body), size):
                    await asyncio.sleep(pause)
                    writer.write(body[at : at + size])
                    await writer.drain()
            self.note(name, await reply)
        except (ConnectionError, EOFError) as exc:
            self.faults.append(f"{name}: lost: {exc!r}")
        finally:
            writer.close()

    async def leave(self, when: float) -> None:
        """Send a share of a body and go; with more than 1, when the answer has begun."""
        _, ask, name = self.draw()
        self.cut.add(name)
        body = ask.body(name)
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(head(ask, name, len(body)) + body[: int(when * len(body))])
        with suppress(ConnectionError):  # refused before it left
            await writer.drain()
            await (reader.read(100) if when > 1 else asyncio.sleep(0.01))
        writer.transport.abort()

    # ---- waiting --------------------------------------------------------------------------------

    @contextmanager
    def bad_time(self, *codes: str) -> Iterator[None]:
        """Let requests that are inside meanwhile be answered with one of these codes."""
        began = time.monotonic()
        yield
        self.bad_times += [(code, began, time.monotonic()) for code in codes]

    def excused(self, reply: Reply) -> set[str]:
        """Return the codes of problems that what happened just then excuses."""
        codes = {
            code
            for code, began, end in self.bad_times
            if reply.began <= end and reply.ended >= began
        }
        codes.add("too_busy")
        if reply.timed:
            codes.add("deadline_exceeded")
        if reply.ended - reply.began > BODY_SECONDS:  # by whose clock it may have been too slow
            codes.add("body_too_slow")
        return codes

    async def until(self, done: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for something; it is a fault if it does not come."""
        end = time.monotonic() + PATIENCE
        while not await done():
            if time.monotonic() > end:
                self.faults.append(f"waited in vain for {what}")
                return
            await asyncio.sleep(0.05)

    async def settle(self, client: httpx.AsyncClient) -> None:
        """Wait until the service is ready and nobody is inside, who left or who is slow."""
        await self.until(lambda: self.is_ready(client), "readiness")
        await asyncio.sleep(1)

    async def is_ready(self, client: httpx.AsyncClient) -> bool:
        """Whether the service says that it is ready."""
        return (await client.get("/readyz")).status_code == 200

    async def serves(self, client: httpx.AsyncClient, *versions: str) -> bool:
        """Whether these versions are served and no others, by whichever front end is asked."""
        for _ in range(_LOOKS):
            asked = await client.get("/tasks", headers={"Connection": "close"})
            if [each["versions"] for each in asked.json()["tasks"]] != [list(versions)]:
                return False
        return True

    def log(self) -> str:
        """Return what the service has logged."""
        return (self.work / "log.txt").read_text(errors="replace")


# ---- HTTP by hand, for those who do not keep to it ----------------------------------------------


def head(ask: Ask, name: str, size: int) -> bytes:
    """Return the head of a request, under a name, with a body of `size` bytes."""
    return (
        f"POST {ask.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {ask.media_type}\r\n"
        f"X-Request-ID: {name}\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


class _Answer:
    """Takes in what the service says; called by the parser."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


async def read_reply(reader: asyncio.StreamReader, which: int, began: float) -> Reply:
    """Read an answer.

    Raises:
        EOFError: the service hung up before its end.
    """
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.done:
        data = await asyncio.wait_for(reader.read(1 << 16), 60)
        if not data:
            raise EOFError("hung up")
        parser.feed_data(data)
    return Reply(
        answer.headers.get("x-request-id", ""),
        which,
        parser.get_status_code(),
        answer.body,
        answer.headers.get("retry-after", ""),
        began,
        time.monotonic(),
    )
