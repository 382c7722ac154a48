"""The service in a process of its own: as a user starts it, or forked with all imported."""

import asyncio
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from lanistr.bundle import CARD, write_bundle
from lanistr.manifest import MANIFEST, read_manifest
from service.protocol import bounded
from service.settings import DEMO_BUNDLES
from tests.forked import Command

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Server:
    """A service in a process of its own."""

    url: str
    process: subprocess.Popen[bytes] | Command
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
def running(
    log_file: Path,
    *options: str,
    command: Sequence[str] = (sys.executable, "-W", "error", "-m", "service"),
    folder: Path = ROOT,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start `python -m service`, wait until it is ready, stop it in the end.

    Args:
        log_file: where its log goes.
        options: of the service.
        command: that starts it.
        folder: in which it is started.
        variables: its environment; None: this process's.
    """
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", "0", *options],
            cwd=folder,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with _served(process, log_file) as server:
        yield server


@contextmanager
def forked(log_file: Path, *options: str) -> Iterator[Server]:
    """Do so without the seconds in which a service is imported."""
    words = ["service", "--port", "0", *options]
    log_file.touch()
    with _served(Command(words, log_file, warned=True), log_file) as server:
        yield server


@contextmanager
def _served(process: subprocess.Popen[bytes] | Command, log_file: Path) -> Iterator[Server]:
    """Wait until a service is ready, stop it in the end."""
    try:
        server = Server(_await_url(process, log_file), process, log_file)
        with httpx.Client(base_url=server.url) as client:
            _await(lambda: client.get("/readyz").status_code == 200, process, log_file)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_url(process: subprocess.Popen[bytes] | Command, log_file: Path) -> str:
    found: list[str] = []

    def look() -> bool:
        found.extend(re.findall(r"listening on (http://\S+),", log_file.read_text()))
        return bool(found)

    _await(look, process, log_file)
    return found[0]


def _await(
    done: Callable[[], bool], process: subprocess.Popen[bytes] | Command, log_file: Path
) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert process.poll() is None, log_file.read_text()
        assert time.monotonic() < deadline, log_file.read_text()
        time.sleep(0.05)


def wait_for(done: Callable[[], Any], what: str = "it", seconds: int = 30) -> None:
    """Wait until something is done."""
    for _ in range(20 * seconds):
        if done():
            return
        time.sleep(0.05)
    pytest.fail(f"waited in vain for {what}")


async def leave(app: Any, path: str, media_type: bytes, body: bytes, when: Awaitable[Any]) -> Any:
    """Send a request whose client leaves at a given moment; return what it was sent until then."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await when
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"", "app": app,
        "headers": [(b"content-type", media_type)],
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), timeout=30)
    return sent


@asynccontextmanager
async def connected(
    app: Any, header_seconds: float = 10
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve an application in this process; return the two ends of a connection to it."""
    config = Config(app, lifespan="off", log_config=None)
    config.load()
    state, protocol = ServerState(), bounded(header_seconds, 65_536, 30, lambda *_: None)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1")
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def cut_off(words: Sequence[str], number: signal.Signals, folder: Path, begun: str) -> int:
    """Start one of our commands and send it a signal in the middle; return its exit code.

    Args:
        words: module and options.
        number: the signal.
        folder: in which the command makes a draft.
        begun: the file of a draft that shows that the command is in the middle.
    """
    process = Command([*words], Path(os.devnull))
    while not any(folder.glob(f".*/{begun}")):
        assert process.poll() is None, "it ended before anything could interrupt it"
        time.sleep(0.005)
    process.send_signal(number)
    return process.wait(300)


def exported_later(folder: Path) -> str:
    """Write the demo of stays once more, with another card; return its version."""
    demo = DEMO_BUNDLES / "mortality"

    def fill(draft: Path) -> None:
        shutil.copytree(demo, draft, dirs_exist_ok=True)
        (draft / MANIFEST).unlink()
        (draft / CARD).write_text("# Another card\n", encoding="utf-8")

    described = read_manifest(demo).model_dump(exclude={"format", "version", "created", "files"})
    return write_bundle(folder, fill, lambda: described).manifest.version


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """Return of an answer what does not depend on when and in which request it was asked."""
    return {name: each for name, each in answer.items() if name not in ("request_id", "timing_ms")}
