"""The service and what it is measured beside, each in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

HOST = "127.0.0.1"


@contextmanager
def running(words: Sequence[str], port: int | None = None) -> Iterator[int]:
    """Start a server; yield its port once it is ready.

    Args:
        words: module and options.
        port: to listen on; None: any that is free.
    """
    if port is None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = int(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        while not _ready(port):
            assert process.poll() is None, f"{words[0]} did not start"
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/readyz").is_success
    except httpx.TransportError:
        return False
