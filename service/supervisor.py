"""A service of several processes: front ends that read, runners that compute, a supervisor.

    python -m service --workers 2

    supervisor
    ├── service.frontend          one a worker, each with a socket on the same port
    └── service.engine.process    one a device, for all front ends

A process that dies is started again, its socket outlives it. Where a front end does not come up
again, it goes too: the system would deal it connections, which would wait for nobody. On SIGTERM
the front ends finish what is under way, then the runners go; SIGHUP is passed on to the front ends.
"""

import asyncio
import fcntl
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

from prometheus_client.multiprocess import mark_process_dead

from lanistr.errors import ConfigError
from service.child import WAITING, Child
from service.metrics import FOLDER, PROCESS
from service.server import listen_anew, listen_together
from service.settings import Settings

METRICS = "metrics"
"""Folder of the files of `service.metrics`, in the one that all processes share."""

_FRONT_END, _RUNNER = "service.frontend", "service.engine.process"

_BACKLOG = 128

_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds before a process that died is started again: doubled each time that it did not last."""

_LASTS = 10.0
_PATIENCE = 10.0
"""Seconds that a process has to leave beyond what requests under way may take."""

_log = logging.getLogger(__name__)


def supervise(settings: Settings, arguments: Sequence[str]) -> None:
    """Serve with several processes until told to stop.

    Args:
        settings: of the service.
        arguments: of the command line, from which each process reads the same settings.

    Raises:
        ConfigError: the port cannot be taken, or the folder of temporary files holds no sockets.
        SystemExit: a process could not start; it has said why.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lanistr-")))
        (folder / METRICS).mkdir()
        lock = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        sockets = [
            stack.enter_context(each)
            for each in listen_together(settings.host, settings.port, settings.workers)
        ]
        addresses, runners = [], []
        for i in range(len(settings.shares())):
            addresses.append(folder / f"runner-{i}")
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            _bind(listener, addresses[-1])
            listener.listen(_BACKLOG)
            child = Child(folder=folder, lock=lock, runner=i)
            runners.append(
                _Process(_RUNNER, f"runner {i}", listener, arguments, child, decisive=True)
            )
        front_ends = []
        for i, each in enumerate(sockets):
            child = Child(folder=folder, lock=lock, runners=tuple(addresses), announces=not i)
            front_ends.append(
                _Process(
                    _FRONT_END,
                    f"front end {i}",
                    each,
                    arguments,
                    child,
                    decisive=not i,
                    renew=listen_anew,
                )
            )
        code = asyncio.run(_run(runners, front_ends, settings.drain_seconds + _PATIENCE))
    if code:
        sys.exit(code)
    _log.info("left")


def _bind(listener: socket.socket, address: Path) -> None:
    try:
        listener.bind(str(address))
    except OSError as exc:
        raise ConfigError(
            f"cannot create a socket: {exc.strerror or exc}",
            code="no_socket",
            field="TMPDIR",
            seen=str(address.parent.parent),
            accepted="a writable folder whose path has at most 80 bytes",
        ) from None


class _Process:
    """A child that is started again whenever it dies, until it is let go.

    Args:
        module: that it runs.
        name: for the log.
        listener: the socket that it listens on, which outlives it.
        arguments: of its command line.
        child: its further settings; the descriptors are filled in here.
        decisive: whether the service fails if this never came up.
        renew: returns a replacement for the listener where it ended without coming up, and closes
            the old one; by default it stays.
    """

    def __init__(
        self,
        module: str,
        name: str,
        listener: socket.socket,
        arguments: Sequence[str],
        child: Child,
        *,
        decisive: bool,
        renew: Callable[[socket.socket], socket.socket] = lambda listener: listener,
    ) -> None:
        self._command = [
            sys.executable, *(f"-W{each}" for each in sys.warnoptions), "-m", module, *arguments
        ]  # fmt: skip
        self._name = name
        self._listener = listener
        self._child = child
        self._decisive = decisive
        self._renew = renew
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._leaving = asyncio.Event()
        self.up = asyncio.Event()
        """Whether it was ever ready."""

    async def keep(self) -> int:
        """Keep it alive; return 0 when let go, its exit code where that decides the start."""
        pause = _PAUSE
        while not self._leaving.is_set():
            try:
                code, lasted = await self._live()
                became = f"ended with {code}"
            except OSError as exc:  # no memory or no descriptor for it just now
                code, lasted, became = 1, 0.0, f"cannot be started: {exc}"
            if self._leaving.is_set():
                break
            if self._in_vain:
                if not lasted or code < 0:  # else it has said itself why
                    _log.error("the %s %s", self._name, became)
                return code if code > 0 else 1
            _log.error("the %s %s and is being restarted", self._name, became)
            pause = _PAUSE if lasted > _LASTS else min(2 * pause, _LONGEST_PAUSE)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), pause)
        return 0

    async def _live(self) -> tuple[int, float]:
        """Start it and wait for its end; return exit code and seconds."""
        started = monotonic()
        ours, its = socket.socketpair()
        ours.setblocking(False)
        descriptors = {"channel": its.fileno(), "listener": self._listener.fileno()}
        child = self._child.model_copy(update=descriptors)
        place = self._name.replace(" ", "-")
        variables = {FOLDER: str(child.folder / METRICS), PROCESS: place} | child.environment()
        with ours, its:
            signal.pthread_sigmask(signal.SIG_BLOCK, WAITING)  # which the child inherits
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    pass_fds=(*descriptors.values(), child.lock),
                    env=os.environ | variables,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING)
            its.close()
            self._process, self._channel = process, ours
            if self._leaving.is_set():
                self.let_go()
            hearing = asyncio.create_task(self._hear(ours))
            code = await process.wait()
            came_up = hearing.done() and hearing.result()
            hearing.cancel()
        self._process = self._channel = None
        mark_process_dead(place, variables[FOLDER])  # type: ignore[no-untyped-call]
        if not (came_up or self._in_vain or self._leaving.is_set()):
            try:
                self._listener = self._renew(self._listener)
            except OSError as exc:  # no descriptor for another; how the process ended counts
                _log.error("the %s could not get a new socket: %s", self._name, exc)
        return code, monotonic() - started

    @property
    def _in_vain(self) -> bool:
        return self._decisive and not self.up.is_set()

    async def _hear(self, channel: socket.socket) -> bool:
        """Return whether it came up, when it did or ended."""
        with suppress(ConnectionError):
            if await asyncio.get_running_loop().sock_recv(channel, 1):
                if self.up.is_set():
                    _log.info("the %s is running again", self._name)
                self.up.set()
                return True
        return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def let_go(self) -> None:
        """Let it go: a front end finishes what is under way, a runner leaves at once.

        New connections are refused as soon as it stops listening: while any process held its
        socket, the system would go on accepting connections that nobody serves.
        """
        self._leaving.set()
        self._listener.close()
        if self._channel is not None:
            self._channel.shutdown(socket.SHUT_RDWR)


async def _run(runners: Sequence[_Process], front_ends: Sequence[_Process], patience: float) -> int:
    """Keep all processes alive until a signal; return the exit code.

    Args:
        runners: that front ends need.
        front_ends: of which the first is up before the others begin: an error is then logged once.
        patience: seconds that front ends have to leave.
    """
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def pass_on() -> None:
        for each in front_ends:
            each.send(signal.SIGHUP)

    loop.add_signal_handler(signal.SIGHUP, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    stop = asyncio.create_task(stopping.wait())
    kept: list[asyncio.Task[int]] = []
    for each in (*runners, front_ends[0]):
        kept.append(asyncio.create_task(each.keep()))
        up = asyncio.create_task(each.up.wait())
        await asyncio.wait((stop, up, *kept), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if stopping.is_set() or any(each.done() for each in kept):
            break
    else:
        kept += [asyncio.create_task(each.keep()) for each in front_ends[1:]]
        await asyncio.wait((stop, *kept), return_when=asyncio.FIRST_COMPLETED)
    code = max((each.result() for each in kept if each.done()), default=0)
    stop.cancel()
    leaving = kept[len(runners) :]
    for each in front_ends:
        each.let_go()
    if leaving:
        _, late = await asyncio.wait(leaving, timeout=patience)
        if late:
            _log.error("killing front ends that did not stop")
            for each in front_ends:
                each.send(signal.SIGKILL)
    for each in runners:
        each.let_go()
    await asyncio.wait(kept)
    return code
