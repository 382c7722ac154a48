"""So many clients that each send their next request when the last is answered, over HTTP/1.1.

The client must cost little beside a tiny model, on the same cores: bodies are made before, and
answers are only counted, or kept whole for whoever looks into them.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httptools
import numpy as np


@dataclass
class Load:
    """What came of a load.

    Attributes:
        seconds: from the first request to the last answer.
        latencies: seconds of each answer.
        statuses: of each answer, in the same order.
        sent: which body each of them answers.
        answers: their bodies.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses.count(200) / self.seconds

    def percentile(self, share: float) -> float:
        """Return the latency, in seconds, that so many per cent of the answers keep to."""
        return float(np.percentile(self.latencies, share))


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
    host: str, port: int, path: str, bodies: Sequence[bytes], clients: int, requests: int
) -> Load:
    """Send so many requests, the bodies in turn.

    Args:
        host: of the server.
        port: of it.
        path: that is posted to.
        bodies: JSON.
        clients: that send at a time.
        requests: in all.
    """
    load, numbers = Load(), count()
    heads = [
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        for body in bodies
    ]

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        while (number := next(numbers)) < requests:
            which = number % len(bodies)
            started = time.perf_counter()
            writer.write(heads[which] + bodies[which])
            status, answer, kept = await _read(reader)
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
