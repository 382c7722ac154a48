"""The audit log: who asked which model what, and what it said; one JSON object a line.

    {"time": "2026-11-26T04:17:04.123+00:00", "request": "r-1", "key": "ward-7",
     "task": "mortality", "version": "8928cf984a32", "status": 200, "code": "ok",
     "input_sha256": "9f86d0...",
     "cases": [{"index": 0, "code": "ok", "used": ["text"], "output": {"label": "died", ...},
                "issues": [{"code": "out_of_range", "field": "timeseries[3].heart_rate",
                            "action": "dropped"}]}]}

No value of a payload stands there, nor the name that its sender gave the case: the input that
belongs to a line is found by its hash.

A thread of its own writes, all lines that wait at once. An answer waits for its line, so that none
leaves that is not on record: what cannot be written down is answered with 503, unless `count` is
chosen. Written means handed to the operating system; a machine that loses power may lose the last.
"""

import asyncio
import errno
import fcntl
import logging
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal

import orjson

from lanistr.errors import ConfigError, LanistrError
from service.logs import place_of
from service.metrics import Metrics

_MOST_WAITING = 10_000
"""Lines that may wait to be written."""

_AGAIN_SECONDS = 1.0
"""Seconds between attempts to write to a file that failed."""

_ROOM = 65_536
"""Bytes that must be free before it is: this line would often fit where no other does."""

_PATIENCE_SECONDS = 5.0
"""How long an answer waits for its line: a disk may hang, or another program lock the file."""

_LONGEST_PAUSE = 0.02
"""Seconds between two looks whether the file is locked; the first follow closer on one another."""

_Word = Literal["reopen", "look", "close"]
"""Messages to the thread that are not lines."""

_log = logging.getLogger(__name__)


class AuditUnavailableError(LanistrError):
    """What is answered cannot be put on record, so it is not answered."""

    def __init__(self) -> None:
        super().__init__(
            "the audit log cannot be written",
            code="audit_unavailable",
            accepted="a retry once the log can be written again, see /readyz",
        )


class AuditLog:
    """A file of lines and the thread that writes them.

    Args:
        path: the file; lines are added to what it holds.
        failure: refuse: what cannot be written raises; count: it is counted, and told in the log.
        metrics: where lost lines are counted.
        patience: seconds that an answer waits for its line, and the end for the writer. A lock is
            waited for half as long, so that it is reported as such.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        failure: Literal["refuse", "count"],
        metrics: Metrics,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self._path = path
        self._failure = failure
        self._metrics = metrics
        self._patience = patience
        self._waiting: queue.SimpleQueue[_Line | _Word] = queue.SimpleQueue()
        self._lost = 0
        self._moved_away = False
        self._torn = False
        self._fault = ""
        self._lock = threading.Lock()
        try:
            self._file = _open(path)
        except OSError as exc:
            raise ConfigError(
                f"cannot write the audit log: {exc.strerror}",
                code="no_audit",
                field=str(path),
                accepted="a writable file in an existing folder",
            ) from None
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    # ---- asking ---------------------------------------------------------------------------------

    @property
    def available(self) -> bool:
        """Whether requests may be answered."""
        return not self._fault or self._failure == "count"

    async def write(self, record: dict[str, Any]) -> None:
        """Write a record; return once it is written.

        One that is not waited for any more is not on record afterwards: nobody was answered so.

        Raises:
            AuditUnavailableError: it cannot be written, or not in time, and that matters.
        """
        if self._fault or self._waiting.qsize() >= _MOST_WAITING:
            self._lose(1)
            return
        line = _Line(record)
        self._waiting.put(line)
        if self._failure == "count":
            return
        done = asyncio.wrap_future(line.done)
        try:
            await asyncio.wait([done], timeout=self._patience)
        finally:
            given_up = line.done.cancel()
        if given_up:
            self._fail(f"nothing was written for {self._patience:g} s")
            self._waiting.put("look")
            raise AuditUnavailableError
        await done

    def reopen(self) -> None:
        """Open the file anew, after a rotation moved it away."""
        self._waiting.put("reopen")

    async def close(self) -> None:
        """Write what waits and close the file; leave it where that takes too long."""
        self._waiting.put("close")
        await asyncio.to_thread(self._thread.join, self._patience)
        if self._thread.is_alive():
            _log.error("giving up on the audit log: nothing was written for %g s", self._patience)

    # ---- the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            items = self._take()
            lines = [each for each in items if isinstance(each, _Line)]
            try:
                if lines:
                    self._put(lines)
                if "reopen" in items:
                    self._open_anew()
                if self._fault and not lines:  # which wait, and need not to learn of it
                    self._try_again()
            except Exception as exc:  # a bug; without this thread nothing would be answered again
                self._fail(_reason(exc))
            if "close" in items:
                os.close(self._file)
                return

    def _take(self) -> "list[_Line | _Word]":
        """Return all that waits, at least one; nothing where it is time to try again."""
        try:
            found = [self._waiting.get(timeout=_AGAIN_SECONDS if self._fault else None)]
        except queue.Empty:
            return []
        while isinstance(found[-1], _Line):
            try:
                found.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return found

    def _put(self, lines: "Sequence[_Line]") -> None:
        """Write lines, all but those that are given up before they are written."""
        lines = [each for each in lines if not each.done.cancelled()]
        try:
            if self._fault:  # they joined before it was known; a line about it comes first
                raise OSError(self._fault)
            with _turn(self._file, self._patience / 2):
                while lines:
                    before = self._append(b"".join(each.data for each in lines))
                    kept = [each for each in lines if each.keep()]
                    if len(kept) == len(lines) or not _cut(self._file, before):
                        break
                    lines = kept
        except Exception as exc:  # whatever it is, those who wait must get it
            self._fail(_reason(exc))
            for each in lines:
                each.end(AuditUnavailableError())
            if self._failure == "count":
                self._count(len(lines))
        else:
            for each in lines:
                each.end()

    def _open_anew(self) -> None:
        self._moved_away = True
        try:
            fresh = _open(self._path)
        except OSError as exc:
            self._fail(_reason(exc))
        else:
            self._moved_away = False
            self._torn &= os.path.samestat(os.fstat(fresh), os.fstat(self._file))
            os.close(self._file)
            self._file = fresh
            _log.info("audit log reopened")

    def _try_again(self) -> None:
        """Write a line that says that some are missing; where it goes through, go on.

        Not into a file that was moved away: there nobody looks for it.
        """
        if self._moved_away:
            self._open_anew()
        if self._moved_away:
            return
        lost = self._lost
        gap = {"time": _now(), "gap": self._fault, "lost": lost}
        try:
            with _turn(self._file, self._patience / 2):
                self._append(orjson.dumps(gap) + b"\n", _ROOM)
        except OSError:
            return
        self._fault = ""
        with self._lock:
            self._lost -= lost
        _log.warning("the audit log can be written again; records lost: %d", lost)

    def _append(self, data: bytes, room: int = 0) -> int:
        """Write all of it or nothing, as far as anything can be taken away; return where it begins.

        Args:
            data: whole lines; it is our turn to write.
            room: bytes that must be free behind them; written, and taken away again, where they can
                be.

        Raises:
            OSError: nothing was written, or a part that cannot be taken away.
        """
        if self._torn:
            os.write(self._file, b"\n")  # or both lines would be lost
            self._torn = False
        before = os.fstat(self._file).st_size
        if room and not _cut(self._file, before):
            room = 0
        whole = memoryview(data + bytes(room))
        rest, kept = whole, before
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            kept += len(data)
        finally:
            if kept < before + len(whole) - len(rest):
                self._torn = True  # also where the next line fails
                self._torn = not _cut(self._file, kept)
        return before

    def _fail(self, why: str) -> None:
        if self._fault:
            return
        self._fault = why
        refused = "requests are refused" if self._failure == "refuse" else "records are lost"
        _log.error("the audit log cannot be written (%s): %s", why, refused)

    def _lose(self, lines: int) -> None:
        """Do without lines.

        Raises:
            AuditUnavailableError: that must not be.
        """
        if self._failure == "refuse":
            raise AuditUnavailableError
        self._count(lines)

    def _count(self, lines: int) -> None:
        with self._lock:
            self._lost += lines
        self._metrics.audit_lost.inc(lines)


class _Line:
    """A line, and whether it is written by now; cancelled when it is given up."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.data = orjson.dumps({"time": _now()} | record) + b"\n"
        self.done: Future[None] = Future()

    def keep(self) -> bool:
        """Whether it is still waited for, from now on until the end."""
        if self.done.done():  # given up; a future may be asked once alone
            return False
        return self.done.running() or self.done.set_running_or_notify_cancel()

    def end(self, exc: AuditUnavailableError | None = None) -> None:
        """Tell those who still wait for it."""
        if not self.keep():
            return
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _reason(exc: Exception) -> str:
    """Return what the system said; of a bug of ours, where it was raised."""
    return exc.strerror or str(exc) if isinstance(exc, OSError) else place_of(exc)


def _open(path: Path) -> int:
    # For the user who runs the service alone: predictions are about people. To open a pipe that
    # nobody reads would take for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    file = os.open(path, flags, 0o600)
    os.set_blocking(file, True)
    return file


@contextmanager
def _turn(file: int, seconds: float) -> Iterator[None]:
    """Hold a file that several processes write; what is written meanwhile is of one piece.

    Raises:
        OSError: another holds it for longer than so many seconds.
    """
    end, pause = monotonic() + seconds, _LONGEST_PAUSE / 64
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as exc:
            if monotonic() > end:
                raise OSError(exc.errno, "another program has locked it") from None
        sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _cut(file: int, size: int) -> bool:
    """Take away what stands behind so many bytes; say whether anything can be, as of no pipe."""
    try:
        os.ftruncate(file, size)
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.EPERM):  # a pipe or device; a file to append to alone
            return False
        raise
    return True
