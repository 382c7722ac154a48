"""The service and what it is measured beside, each in processes of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """One that listens.

    Attributes:
        port: of it.
        process: its first one.
    """

    port: int
    process: subprocess.Popen[bytes]

    def peak_bytes(self) -> int:
        """Return the most memory that its processes had, each at its own worst moment."""
        return sum(map(_peak, family(self.process.pid)))


@contextmanager
def running(
    words: Sequence[str], port: int | None = None, log: int | IO[bytes] = subprocess.DEVNULL
) -> Iterator[Server]:
    """Start a server; yield it once it is ready.

    Args:
        words: module and options.
        port: to listen on; None: any that is free.
        log: where it writes its log.
    """
    if port is None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = int(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=log
    )
    try:
        while not _ready(port):
            assert process.poll() is None, f"{words[0]} did not start"
            time.sleep(0.2)
        yield Server(port, process)
    finally:
        begun = family(process.pid)
        process.terminate()
        process.wait()
        for each in begun[1:]:  # some leave them behind
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)


def family(process: int) -> list[int]:
    """Return a process and all that it began, and they in turn, by their ids."""
    found = [process]
    for each in found:
        for thread in Path(f"/proc/{each}/task").glob("*"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                found += map(int, (thread / "children").read_text().split())
    return found


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def _peak(process: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
