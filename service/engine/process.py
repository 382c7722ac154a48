"""A runner: a process that runs the graphs of all bundles on one device, for every front end.

    python -m service.engine.process        started by `service.supervisor`

Each connection is a front end's, about one bundle; see `service.engine.wire`. A bundle that several
ask for is loaded once, and let go when the last of them leaves.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from uvicorn.loops.auto import auto_loop_factory

from lanistr.bundle import Bundle
from lanistr.command import run_command
from lanistr.errors import LanistrError
from lanistr.manifest import bad_bundle
from service import logs
from service.child import Child
from service.engine.arena import Memory
from service.engine.cache import TokenCache
from service.engine.local import LocalEngine
from service.engine.runner import Result
from service.engine.scheduler import Outcome
from service.engine.wire import line, read_job, write_result
from service.garbage import freeze_objects
from service.metrics import Metrics
from service.settings import Settings, read_settings

_HELLO = 65_536
"""Bytes of a hello, at most: it holds a path."""

_log = logging.getLogger(__name__)


class RunnerProcess:
    """The bundles that are open here, and who uses them.

    Args:
        settings: where and how graphs are run.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._cache = TokenCache(settings.cache_bytes, self._metrics)
        self._open: dict[tuple[str, str], LocalEngine] = {}
        self._users: dict[tuple[str, str], int] = {}
        self._turn = asyncio.Lock()

    async def serve(self, listener: socket.socket) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        async with asyncio.TaskGroup() as group:
            while True:
                connection, _ = await loop.sock_accept(listener)
                connection.setblocking(True)  # until its hello is read, in a thread
                group.create_task(self._attend(connection))

    async def _attend(self, connection: socket.socket) -> None:
        """Work for one front end until it leaves."""
        try:
            hello, memory = await asyncio.to_thread(_receive, connection)
            reader, writer = await asyncio.open_connection(sock=connection, limit=2**24)
            try:
                async with self._engine(hello["folder"], hello["version"]) as engine:
                    said = {"build": engine.build.name, "device": engine.device}
                    writer.write(line(said))
                    await _Session(engine, memory, writer).run(reader)
            except LanistrError as exc:
                error = {name: getattr(exc, name) for name in _ERROR}
                writer.write(line({"error": error}))
            finally:
                writer.close()
        except ConnectionError:
            pass  # it died
        except Exception as exc:  # the others have nothing to do with it
            _log.error("disconnected a front end: %s", logs.place_of(exc))

    @asynccontextmanager
    async def _engine(self, folder: str, version: str) -> AsyncIterator[LocalEngine]:
        """Hold the engine of a bundle.

        Raises:
            BundleError: it cannot be opened, or is another by now.
        """
        name = folder, version
        async with self._turn:
            if name not in self._open:
                self._open[name] = await asyncio.to_thread(self._load, *name)
                self._open[name].start()
                self._users[name] = 0
                freeze_objects()
            self._users[name] += 1
        try:
            yield self._open[name]
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                await self._open.pop(name).close()
                freeze_objects()

    def _load(self, folder: str, version: str) -> LocalEngine:
        bundle = Bundle.open(Path(folder))
        if bundle.manifest.version != version:
            found = bundle.manifest.version
            raise bad_bundle(
                Path(folder),
                "the bundle was replaced by another version in the meantime",
                found,
                version,
            )
        return LocalEngine(bundle, self._settings, self._cache, self._metrics, inline=True)


class _Session:
    """The jobs of one front end."""

    def __init__(self, engine: LocalEngine, memory: Memory, writer: asyncio.StreamWriter) -> None:
        self._engine = engine
        self._memory = memory
        self._writer = writer
        self._jobs: dict[int, asyncio.Future[Outcome[Result]]] = {}

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Take jobs until the front end leaves, and drop those that it left behind."""
        try:
            while (said := await reader.readline()).endswith(b"\n"):  # or it died within a line
                message = orjson.loads(said)
                if (number := message.get("drop")) is None:
                    self._take(message)
                elif number in self._jobs:
                    self._jobs[number].cancel()
        except ConnectionError:
            pass
        finally:
            for job in [*self._jobs.values()]:
                job.cancel()

    def _take(self, message: dict[str, Any]) -> None:
        try:
            job = self._engine.enqueue(read_job(message, self._memory))
        except Exception as exc:
            self._tell(message, _failed(exc))
            return
        self._jobs[message["job"]] = job
        job.add_done_callback(partial(self._answer, message))

    def _answer(self, message: dict[str, Any], job: asyncio.Future[Outcome[Result]]) -> None:
        """Answer a job, also one that was dropped before its turn."""
        del self._jobs[message["job"]]
        if job.cancelled():
            self._tell(message, {"error": "dropped"})
        elif exc := job.exception():
            self._tell(message, _failed(exc))
        else:
            outcome = job.result()
            write_result(outcome.result, message, self._memory)
            spent = {"queue_ms": outcome.queue_ms, "inference_ms": outcome.inference_ms}
            told = {"wait": self._engine.wait(0), "pace": self._engine.pace}
            self._tell(message, spent | told)

    def _tell(self, message: dict[str, Any], answer: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(line({"job": message["job"]} | answer))


def _failed(exc: BaseException) -> dict[str, Any]:
    _log.error("a case failed: %s", logs.place_of(exc))
    return {"error": type(exc).__name__}


_ERROR = ("message", "code", "field", "seen", "accepted")


def _receive(connection: socket.socket) -> tuple[dict[str, Any], Memory]:
    """Return a front end's hello and the memory that it shares."""
    said, files, _, _ = socket.recv_fds(connection, _HELLO, 1)
    if not files:
        raise ConnectionResetError
    memory = Memory(files[0])
    os.close(files[0])
    return orjson.loads(said), memory


def main() -> None:
    """Run until the supervisor ends."""
    child, settings = Child.from_environment(), read_settings()
    logs.set_up(settings.log_format)
    # Front ends finish what is under way; a runner that is stopped with them must outlive them.
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    child.live(partial(_orphaned, child))()
    share = settings.shares()[child.runner]
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(RunnerProcess(share).serve(child.socket()))


def _orphaned(child: Child) -> None:
    child.leave()
    os._exit(0)


if __name__ == "__main__":
    run_command(main)
