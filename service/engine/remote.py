"""The graphs of one bundle, run by processes of their own, as a front end sees it.

A runner may die, of a driver's fault or of too little memory. Jobs that wait for it fail at once;
`service.supervisor` starts it again, and meanwhile other runners, if there are any, do its work.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

import orjson

from lanistr.bundle import Bundle
from lanistr.errors import BundleError, ConfigError, InputError, LanistrError
from lanistr.manifest import Build
from service.engine.arena import Blocks, Memory, shared_file
from service.engine.runner import Job, Result
from service.engine.scheduler import Outcome
from service.engine.wire import line, read_result, size_of, write_job

_ROOM = 2**28
"""Bytes of the cases of one bundle that are inside at once; taken from the machine as needed."""

_TRIES = 5
_AGAIN_SECONDS = 0.2
_SOON = 0.01

_log = logging.getLogger(__name__)


class RunnerLostError(LanistrError):
    """The process that ran the job has died; another is being started."""

    retry_after = 1

    def __init__(self) -> None:
        super().__init__(
            "the model's process has failed and is being restarted",
            code="runner_lost",
            accepted=f"a retry in {self.retry_after} s",
        )


class RunnerError(Exception):
    """Running a job has failed in the runner, whose log says more."""


class RemoteEngine:
    """See `service.engine.engine.Engine`.

    Args:
        bundle: whose graphs.
        addresses: sockets of the runners, one a device.

    Raises:
        BundleError: a runner cannot open it.
        ConfigError: the runners took different graphs of it.
    """

    def __init__(self, bundle: Bundle, addresses: Sequence[Path]) -> None:
        with ExitStack() as opened:
            self._links = [opened.enter_context(_Link(each, bundle)) for each in addresses]
            self._refuse_mixed()
            opened.pop_all()
        self.build = self._links[0].build
        self.device = " and ".join(dict.fromkeys(each.device for each in self._links))

    def _refuse_mixed(self) -> None:
        builds = dict.fromkeys(each.build.name for each in self._links)
        if len(builds) > 1:
            raise ConfigError(
                "the devices would give different answers",
                code="mixed_builds",
                field="device",
                seen=" and ".join(builds),
                accepted="devices of one kind, or one --precision for all",
            )

    @property
    def available(self) -> bool:
        """Whether a runner lives."""
        return any(each.available for each in self._links)

    def start(self) -> None:
        """See `Engine`."""
        for each in self._links:
            each.start()

    async def close(self) -> None:
        """See `Engine`."""
        await asyncio.gather(*(each.close() for each in self._links))

    async def submit(self, job: Job) -> Outcome[Result]:
        """See `Engine`."""
        living = [each for each in self._links if each.available]
        if not living:
            raise RunnerLostError
        # Where several are equally free, equal rows go to the same runner: its cache may have them.
        first = next(iter(job.keys.values()))[0][0] if job.keys else 0
        order = [living[(first + i) % len(living)] for i in range(len(living))]
        return await min(order, key=lambda each: each.inside).submit(job)

    def run_at_once(self, job: Job) -> None:
        """Run nothing: the graphs are elsewhere."""

    def wait(self, inside: int) -> float:
        """See `Engine`."""
        living = [each for each in self._links if each.available]
        if not living:
            return 0.0
        coming = max(0, inside - sum(each.inside for each in living))
        soonest = min(living, key=lambda each: each.wait)
        return soonest.wait + coming * soonest.pace / len(living)


@dataclass(slots=True)
class _Sent:
    """A job that was sent, and who waits for it."""

    job: Job
    message: dict[str, Any]
    block: tuple[int, int]
    waiter: asyncio.Future[Outcome[Result]]


class _Link:
    """One runner, about one bundle; found again when it dies.

    Attributes:
        pace: seconds that a job took lately.
    """

    def __init__(self, address: Path, bundle: Bundle) -> None:
        self._address = address
        self._hello = {"folder": str(bundle.folder), "version": bundle.manifest.version}
        self._shape = bundle.task.label.outputs, bundle.manifest.embedding
        self._numbers = count()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reported = 0.0
        self.pace = 0.0
        said = self._meet()
        runtime, precision = said["build"].split(" ")
        self.build: Build = bundle.build(runtime, precision)
        self.device: str = said["device"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def start(self) -> None:
        """Begin to listen to the runner."""
        self._task = asyncio.create_task(self._live())

    async def close(self) -> None:
        """Wait for what is under way and leave."""
        while self._sent:
            await asyncio.wait([each.waiter for each in self._sent.values()])
            await asyncio.sleep(_SOON)  # a runner may yet have to say that it dropped one
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            with suppress(OSError):  # whoever waits in a thread for a runner to come back
                self._socket.shutdown(socket.SHUT_RDWR)
            with suppress(asyncio.CancelledError):
                await self._task
        self._socket.close()

    @property
    def available(self) -> bool:
        """Whether the runner lives, as far as is known."""
        return self._writer is not None or self._task is None

    @property
    def inside(self) -> int:
        """Jobs that were sent and not answered yet."""
        return len(self._sent)

    @property
    def wait(self) -> float:
        """Seconds that jobs sent will take: this front end's, or all as last reported, if more."""
        return max(self._reported if self._sent else 0.0, self.inside * self.pace)

    async def submit(self, job: Job) -> Outcome[Result]:
        """See `Engine`."""
        writer, memory, blocks, sent = self._writer, self._memory, self._blocks, self._sent
        if writer is None:
            raise RunnerLostError
        size = size_of(job, *self._shape)
        if size > blocks.size:
            raise InputError(
                "the record is too large",
                code="too_many_tokens",
                field="body",
                seen=f"{size:,} bytes when preprocessed",
                accepted=f"at most {blocks.size:,} bytes",
            )
        try:
            offset = await blocks.take(size)
        except ConnectionResetError:
            raise RunnerLostError from None
        if writer.is_closing():  # its death is known; the jobs that wait are about to fail
            raise RunnerLostError
        number = next(self._numbers)
        message = {"job": number} | write_job(job, *self._shape, memory, offset)
        writer.write(line(message))
        waiter: asyncio.Future[Outcome[Result]] = asyncio.get_running_loop().create_future()
        sent[number] = _Sent(job, message, (offset, size), waiter)
        try:
            return await waiter
        finally:
            if waiter.cancelled() and not writer.is_closing():
                writer.write(line({"drop": number}))

    async def _live(self) -> None:
        while True:
            reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=2**20)
            try:
                while (answer := await reader.readline()).endswith(b"\n"):
                    self._take(orjson.loads(answer))
            except ConnectionError:
                pass
            finally:
                self._writer.close()
                self._writer = None
                self._lose()
            await self._find_again()

    def _take(self, answer: dict[str, Any]) -> None:
        """Hand a job's answer to its waiter, and free its block."""
        sent = self._sent.pop(answer["job"])
        if not sent.waiter.done():
            if "error" in answer:
                sent.waiter.set_exception(RunnerError(answer["error"]))
            else:
                self._reported, self.pace = answer["wait"], answer["pace"]
                result = read_result(sent.job, sent.message, self._memory)
                outcome = Outcome(result, answer["queue_ms"], answer["inference_ms"])
                sent.waiter.set_result(outcome)
        self._blocks.give(*sent.block)

    def _lose(self) -> None:
        """Fail the jobs that wait: nothing runs them any more. The supervisor logs it."""
        self._blocks.close()
        for each in self._sent.values():
            if not each.waiter.done():
                each.waiter.set_exception(RunnerLostError())
        self._sent.clear()

    async def _find_again(self) -> None:
        complaint = ""
        while True:
            try:
                await asyncio.to_thread(self._meet)
                return
            except (LanistrError, OSError) as exc:  # another bundle stands there, or files ran out
                self._socket.close()
                if complaint != (complaint := str(exc)):
                    _log.error("the runner cannot continue: %s", exc)
                await asyncio.sleep(_AGAIN_SECONDS)

    def _meet(self) -> dict[str, Any]:
        """Connect to the runner and have it open the bundle; return what it says of it.

        Raises:
            BundleError: it cannot open it, or dies of that.
        """
        for _ in range(_TRIES):
            said = self._ask()
            if said is None and self._closing:
                break
            if said is None:
                continue
            if "error" in said:
                self._socket.close()
                raise BundleError(said["error"].pop("message"), **said["error"])
            return said
        raise BundleError(
            "the runner crashed while opening the bundle",
            code="bad_bundle",
            field=self._hello["folder"],
        )

    def _ask(self) -> dict[str, Any] | None:
        """Return the answer to the hello; None if the runner dies before it answers.

        Each connection has its own memory: a runner that still reads the last one's reads nothing
        wrong.
        """
        self._socket = connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._address))  # the supervisor holds it open, runner or not
        file = shared_file(_ROOM)
        try:
            socket.send_fds(connection, [line(self._hello)], [file])
            with connection.makefile("rb") as answers:
                answer = answers.readline()
            memory = Memory(file)
        except ConnectionError:
            answer = b""
        finally:
            os.close(file)
        if not answer:
            connection.close()
            return None
        self._memory, self._blocks = memory, Blocks(_ROOM)
        self._sent: dict[int, _Sent] = {}
        said: dict[str, Any] = orjson.loads(answer)
        return said
