"""So many clients that each send their next request when the last is answered, over HTTP/1.1.

The client must cost little beside a tiny model, on the same cores: bodies are made before, and
answers are only counted, or kept whole for whoever looks into them.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, count, takewhile
from multiprocessing import get_context
from typing import Any

import httptools

import clients.load


@dataclass
class Load(clients.load.Load):
    """What came of a load.

    Attributes:
        sent: which body each answer is to.
        answers: their bodies.
    """

    sent: list[int] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    @property
    def good(self) -> "Load":
        """Only what was answered well: a refusal comes fast and is no answer to wait for."""
        at = [i for i, status in enumerate(self.statuses) if status == 200]
        return Load(
            self.seconds,
            [self.latencies[i] for i in at],
            [200] * len(at),
            [self.sent[i] for i in at],
            [self.answers[i] for i in at],
        )


class _Answer:
    """Takes in what a server says; called by the parser."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.done = False
        self.kept = False
        self.parser: Any = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.done = True
        self.kept = self.parser.should_keep_alive()  # once it is through, it no longer knows


async def send(
    host: str, port: int, path: str, bodies: Sequence[bytes], clients: int, asked: Iterable[int]
) -> Load:
    """Send bodies, each by whichever client is free.

    Args:
        host: of the server.
        port: of it.
        path: that is posted to.
        bodies: JSON.
        clients: that send at a time.
        asked: which of the bodies are sent, in order, as they are asked for.
    """
    load, asked = Load(), iter(asked)
    heads = [
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        for body in bodies
    ]

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        used = False
        for which in asked:
            started = time.perf_counter()
            while True:
                writer.write(heads[which] + bodies[which])
                try:
                    status, answer, kept = await _read(reader)
                    break
                except ConnectionError:
                    if not used:
                        raise
                # The server has closed it since, unasked: sent again, as by any client.
                writer.close()
                reader, writer = await asyncio.open_connection(host, port)
                used = False
            used = kept
            load.latencies.append(time.perf_counter() - started)
            load.statuses.append(status)
            load.sent.append(which)
            load.answers.append(answer)
            if not kept:
                writer.close()
                reader, writer = await asyncio.open_connection(host, port)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - started
    return load


def in_turn(bodies: int, requests: int) -> Iterator[int]:
    """Yield so many numbers of bodies, in turn."""
    return (number % bodies for number in range(requests))


class Senders:
    """Processes that send at the same time: a fast server is asked for more than one can send.

    Args:
        processes: of them.
        host: of the server.
        path: that is posted to.
        bodies: JSON.
    """

    def __init__(self, processes: int, host: str, path: str, bodies: Sequence[bytes]) -> None:
        context = get_context("spawn")  # no thread of this process is copied half
        self._processes = processes
        self._bodies = len(bodies)
        self._pool = ProcessPoolExecutor(
            processes, context, _settle, (context.Barrier(processes), host, path, bodies)
        )

    def send(self, port: int, clients: int, seconds: float) -> Load:
        """Send for so long, each process its own stretch of the bodies, again and again.

        No two clients send the same body at a time where there are several for each.

        Args:
            port: of the server.
            clients: that send at a time, over all processes.
            seconds: after which none begins another request.
        """
        shares = [len(range(k, clients, self._processes)) for k in range(self._processes)]
        first = [k * self._bodies // self._processes for k in range(self._processes)]
        tasks = [(port, share, start, seconds) for share, start in zip(shares, first, strict=True)]
        return joined(list(self._pool.map(_send_a_share, tasks)))

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown()


def joined(loads: Sequence[Load]) -> Load:
    """Return loads that were sent at the same time as one."""
    return Load(
        max(each.seconds for each in loads),
        list(chain.from_iterable(each.latencies for each in loads)),
        list(chain.from_iterable(each.statuses for each in loads)),
        list(chain.from_iterable(each.sent for each in loads)),
        list(chain.from_iterable(each.answers for each in loads)),
    )


_settled: tuple[Any, str, str, Sequence[bytes]]
"""Of a process that sends: where all wait for one another, host, path, bodies."""


def _settle(*given: Any) -> None:
    global _settled
    _settled = given


def _send_a_share(task: tuple[int, int, int, float]) -> Load:
    barrier, host, path, bodies = _settled
    port, clients, first, seconds = task
    barrier.wait()  # so that each process has one share, and all begin together
    end = time.perf_counter() + seconds
    asked = (number % len(bodies) for number in count(first))
    timely = takewhile(lambda _: time.perf_counter() < end, asked)
    return asyncio.run(send(host, port, path, bodies, clients, timely))


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Return status and body of an answer, and whether the connection is kept."""
    answer = _Answer()
    while not answer.done:
        data = await reader.read(1 << 16)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        answer.parser.feed_data(data)
    status: int = answer.parser.get_status_code()
    answer.parser = None  # which holds the answer: neither would go by itself
    return status, b"".join(answer.body), answer.kept
