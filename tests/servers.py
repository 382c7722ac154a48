"""The service as a user starts it: `python -m service` in a process of its own."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Server:
    """A service in a process of its own."""

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text()

    def says(self, text: str) -> bool:
        """Whether the log says so, or will in a moment: its line follows the answer."""
        deadline = time.monotonic() + 5
        while text not in self.log() and time.monotonic() < deadline:
            time.sleep(0.02)
        return text in self.log()


@contextmanager
def running(log_file: Path, *options: str) -> Iterator[Server]:
    """Start `python -m service`, wait until it is ready, stop it in the end."""
    command = [sys.executable, "-W", "error", "-m", "service", "--port", "0", *options]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        server = Server(_await_url(process, log_file), process, log_file)
        with httpx.Client(base_url=server.url) as client:
            _await(lambda: client.get("/readyz").status_code == 200, process, log_file)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_url(process: subprocess.Popen[bytes], log_file: Path) -> str:
    found: list[str] = []

    def look() -> bool:
        found.extend(re.findall(r"listening on (http://\S+),", log_file.read_text()))
        return bool(found)

    _await(look, process, log_file)
    return found[0]


def _await(done: Callable[[], bool], process: subprocess.Popen[bytes], log_file: Path) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert process.poll() is None, log_file.read_text()
        assert time.monotonic() < deadline, log_file.read_text()
        time.sleep(0.05)


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """Return of an answer what does not depend on when and in which request it was asked."""
    return {name: each for name, each in answer.items() if name not in ("request_id", "timing_ms")}
