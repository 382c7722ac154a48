"""The service and what it is measured beside, each in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

HOST = "127.0.0.1"


@contextmanager
def running(words: Sequence[str], port: int | None = None) -> Iterator[int]:
    """Start a server; yield its port once it is ready.

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
    process = subprocess.Popen([sys.executable, "-m", *words, "--port", str(port)], stderr=log)
    try:
        while not _ready(port):
            assert process.poll() is None, f"{words[0]} did not start"
            time.sleep(0.2)
        yield port, process
    finally:
        process.terminate()
        process.wait()


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
