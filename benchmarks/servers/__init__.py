"""The service and what it is measured beside, each in processes of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
<<<<<<< HEAD
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
=======
from contextlib import contextmanager
from pathlib import Path
from typing import IO
>>>>>>> main

import httpx

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """One that listens.

    Attributes:
        port: of it.
        pid: of its first process.
    """

    port: int
    pid: int

    def peak_bytes(self) -> int:
        """Return the most memory that its processes had, each at its own worst moment."""
        return sum(_peak(each) for each in self.processes())

    def processes(self) -> list[int]:
        """Return its processes: the first one, and what came of it."""
        parents = {each: _said(each, "PPid") for each in _all()}
        found = [self.pid]
        for parent in found:  # which grows meanwhile
            found += [each for each, of in parents.items() if of == parent]
        return found


@contextmanager
def running(words: Sequence[str], port: int | None = None) -> Iterator[Server]:
    """Start a server; yield it once it is ready.

    Args:
        words: module and options.
        port: to listen on; None: any that is free.
    """
    with started(words, port) as (port, _):
        yield port


@contextmanager
def started(
    words: Sequence[str], port: int | None = None, log: int | IO[bytes] = subprocess.DEVNULL
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a server; yield its port and its process once it is ready.

    Args:
        words: module and options.
        port: to listen on; None: any that is free.
        log: where it writes its log.
    """
    if port is None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = int(free.getsockname()[1])
<<<<<<< HEAD
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(port, process.pid)
=======
    process = subprocess.Popen([sys.executable, "-m", *words, "--port", str(port)], stderr=log)
>>>>>>> main
    try:
        while not _ready(port):
            assert process.poll() is None, f"{words[0]} did not start"
            time.sleep(0.2)
<<<<<<< HEAD
        yield server
=======
        yield port, process
>>>>>>> main
    finally:
        started = server.processes()
        process.terminate()
        process.wait()
        for each in started[1:]:  # left behind by some
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)


def family(process: int) -> list[int]:
    """Return a process and all that it began, and they in turn, by their ids."""
    found = [process]
    for each in found:
        try:
            children = Path(f"/proc/{each}/task/{each}/children").read_text()
        except FileNotFoundError:  # it has ended meanwhile
            continue
        found += map(int, children.split())
    return found


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def _all() -> list[int]:
    return [int(each.name) for each in Path("/proc").glob("[0-9]*")]


def _peak(process: int) -> int:
    return _said(process, "VmHWM") * 1024


def _said(process: int, field: str) -> int:
    """Return a number that the system says of a process; 0 where it has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
    return 0
