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

from lanistr.errors import LanistrError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """One that listens.

    Attributes:
        port: of it.
        process: the first of its processes.
    """

    port: int
    process: subprocess.Popen[bytes]

    def peak_bytes(self) -> int:
        """Return the most memory that its processes had, each at its own worst moment."""
        return self._bytes("VmHWM")

    def bytes_now(self) -> int:
        """Return the memory that its processes have."""
        return self._bytes("VmRSS")

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes have had."""
        return sum(map(_cpu_seconds, family(self.process.pid)))

    def _bytes(self, field: str) -> int:
        return sum(status_of(each, field) * 1024 for each in family(self.process.pid))


@contextmanager
def running(words: Sequence[str], log: int | IO[bytes] = subprocess.DEVNULL) -> Iterator[Server]:
    """Start a server on a port that is free; yield it once it is ready.

    Args:
        words: module and options.
        log: where it writes its log.

    Raises:
        LanistrError: it ended before.
    """
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = int(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=log
    )
    try:
        while not _ready(port):
            if process.poll() is not None:
                raise LanistrError(
                    "the server did not start; run by hand it says why",
                    code="not_started",
                    field=" ".join(["python -m", *words]),
                    seen=f"exit code {process.returncode}",
                )
            time.sleep(0.2)
        yield Server(port, process)
    finally:
        started = family(process.pid)
        process.terminate()
        process.wait()
        for each in started[1:]:  # left behind by some
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)


def family(process: int) -> list[int]:
    """Return a process and all that it began, and they in turn, by their ids."""
    parents = {each: status_of(each, "PPid") for each in _all()}
    found = [process]
    for parent in found:  # which grows meanwhile
        found += [each for each, of in parents.items() if of == parent]
    return found


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def _all() -> list[int]:
    return [int(each.name) for each in Path("/proc").glob("[0-9]*")]


def _cpu_seconds(process: int) -> float:
    """Return the processor time that a process has had; 0 where it has gone."""
    with suppress(OSError):
        # Its name may hold anything, also blanks; what follows has fixed places.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def status_of(process: int, field: str) -> int:
    """Return a number of `/proc/PID/status`; 0 where the process has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
    return 0
