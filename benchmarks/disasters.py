"""What may happen to a service, and what its clients note meanwhile; see `benchmarks.chaos`."""

import asyncio
import json
import os
import random
import resource
import shutil
import signal
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
from benchmarks.servers import HOST, family

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
        versions: of the model; which of them is served now stands last in `serving`.
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
        reply = asyncio.create_task(_reply(reader, which, began))
        try:
            with suppress(ConnectionError):  # refused by now, and the answer read
                writer.write(_head(ask, name, len(body)))
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
        writer.write(_head(ask, name, len(body)) + body[: int(when * len(body))])
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


# ---- what happens -------------------------------------------------------------------------------


async def clients_leave(scene: Scene, client: httpx.AsyncClient) -> str:
    """Leave in the middle of the body, before the answer, in the middle of the answer."""
    for _ in range(5):
        await asyncio.gather(*(scene.leave(when) for when in (0.0, 0.3, 0.9, 1.0, 1.0, 2.0, 2.0)))
    return ""


async def slow_clients(scene: Scene, client: httpx.AsyncClient) -> str:
    """Send bodies slowly but in time, and one that is not."""
    await asyncio.gather(
        *(scene.slow(0.2) for _ in range(4)), scene.slow(0.2, "stream"), _too_slow(scene)
    )
    return ""


async def _too_slow(scene: Scene) -> None:
    """Send half a body: the answer is a 408."""
    which, ask, name = scene.draw("predict")
    body, began = ask.body(name), time.monotonic()
    reader, writer = await asyncio.open_connection(HOST, scene.port)
    writer.write(_head(ask, name, len(body)) + body[: len(body) // 2])
    try:
        reply = await _reply(reader, which, began)
        scene.note(name, reply)
        if reply.status not in (408, 503):
            scene.faults.append(f"{name}: {reply.status} to half a body")
    except (ConnectionError, EOFError) as exc:
        scene.faults.append(f"{name}: lost: {exc!r}")
    finally:
        writer.close()


async def overload(scene: Scene, client: httpx.AsyncClient) -> str:
    """Come ten times as many as there are places."""
    before = len(scene.replies)
    for _ in range(2):
        await asyncio.gather(*(scene.ask(client) for _ in range(10 * scene.places)))
    codes = [each.code for each in list(scene.replies.values())[before:]]
    if "too_busy" not in codes or "ok" not in codes:
        scene.faults.append(f"under overload all answers were alike: {set(codes)}")
    return ""


async def exchange(scene: Scene, client: httpx.AsyncClient) -> str:
    """Put the other version in the place of the one that is served; whoever asks later gets it."""
    bundles = scene.work / "bundles"
    served = {each.name for each in bundles.iterdir()}
    fresh = next(each for each in scene.versions if served != {each})
    _put(scene.work / "kept" / fresh, bundles / fresh)
    for old in served - {fresh}:
        shutil.rmtree(bundles / old)
    os.kill(scene.process.pid, signal.SIGHUP)
    await scene.until(lambda: scene.serves(client, fresh), f"version {fresh}")
    for _ in range(8):
        reply = await scene.ask(client)
        if reply and reply.status == 200 and fresh not in reply.body.decode():
            scene.faults.append(f"{reply.name}: answered by a version that was gone")
    return ""


async def broken_bundle(scene: Scene, client: httpx.AsyncClient) -> str:
    """Put one beside the good one."""
    bundles = scene.work / "bundles"
    served = (await client.get("/tasks")).json()["tasks"][0]["versions"]
    draft = scene.work / "broken"
    shutil.copytree(scene.work / "kept" / scene.versions[0], draft)
    graph = sorted(draft.rglob("fusion.onnx"))[0]
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    told = scene.log().count("bundle not loaded")
    draft.rename(bundles / "broken")
    os.kill(scene.process.pid, signal.SIGHUP)

    async def refused() -> bool:
        return scene.log().count("bundle not loaded") > told

    await scene.until(refused, "the refusal of a broken bundle")
    if not await scene.serves(client, *served):
        scene.faults.append("a broken bundle changed what is served")
    shutil.rmtree(bundles / "broken")
    return ""


async def full_disk(scene: Scene, client: httpx.AsyncClient) -> str:
    """Let nothing more be written to the audit log: no file may grow, which root feels too."""
    size = (scene.work / "audit.jsonl").stat().st_size
    processes = family(scene.process.pid)
    hard = {each: resource.prlimit(each, resource.RLIMIT_FSIZE)[1] for each in processes}
    with scene.bad_time("audit_unavailable"):
        for each in processes:
            resource.prlimit(each, resource.RLIMIT_FSIZE, (size, hard[each]))
        try:

            async def unavailable() -> bool:
                answer = await client.get("/readyz")
                return answer.json()["status"] == "audit_unavailable"

            await scene.until(unavailable, "/readyz to say that the audit log cannot be written")
            await asyncio.sleep(0.5)
        finally:
            for each in processes:
                resource.prlimit(each, resource.RLIMIT_FSIZE, (hard[each], hard[each]))
        await scene.until(lambda: scene.is_ready(client), "the audit log to be written again")
    return ""


async def hangup(scene: Scene, client: httpx.AsyncClient) -> str:
    """Let the service look where nothing has changed."""
    for _ in range(5):
        os.kill(scene.process.pid, signal.SIGHUP)
        await asyncio.sleep(0.02)
    return ""


async def runner_killed(scene: Scene, client: httpx.AsyncClient) -> str:
    """Kill it: who waits gets an error, who comes later an answer; meanwhile it is not ready."""
    runner = next(filter(_is_runner, family(scene.process.pid)), None)
    if runner is None:
        return "there is no process of its own for it"
    with scene.bad_time("runner_lost"):
        os.kill(runner, signal.SIGKILL)

        async def noticed() -> bool:
            return not await scene.is_ready(client)

        await scene.until(noticed, "/readyz to say that the runner is lost")
        await scene.until(lambda: scene.is_ready(client), "another runner")
    return ""


DISASTERS = (
    clients_leave,
    slow_clients,
    overload,
    exchange,
    broken_bundle,
    full_disk,
    hangup,
    runner_killed,
)


# ---- HTTP by hand, for those who do not keep to it ----------------------------------------------


def _head(ask: Ask, name: str, size: int) -> bytes:
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


async def _reply(reader: asyncio.StreamReader, which: int, began: float) -> Reply:
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


def _put(bundle: Path, place: Path) -> None:
    """Copy a bundle so that it appears as a whole; one that is there already stays."""
    if not place.exists():
        draft = place.with_name(f".{place.name}")
        shutil.copytree(bundle, draft)
        draft.rename(place)


def _is_runner(process: int) -> bool:
    try:
        return b"service.engine.process" in Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
