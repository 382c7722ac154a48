"""How every command begins and ends: a strict command line; 0 when done, 2 for a user's mistake."""

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

from lanistr.draft import DISK_FULL
from lanistr.errors import LanistrError, one_line, unknown_name

# What a path that the user named can be, or the disk it is on. Everything else that the operating
# system refuses (a broken pipe, a process that is gone, too many open files) is not about a path.
_OF_A_PATH = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EBUSY,
        errno.EIO,
    }
)

_OURS = frozenset({"lanistr", "service", "training", "export", "clients", "benchmarks"})
"""Packages one of whose modules can only be missing by our own fault."""


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that reports a mistake in one line and names what may have been meant.

    Options are not abbreviated: what is short for one today may be short for two tomorrow.
    Descriptions and examples keep their line breaks.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ours: dict[str, Any] = {
            "allow_abbrev": False,
            "formatter_class": argparse.RawDescriptionHelpFormatter,
        }
        super().__init__(*args, **ours | kwargs)

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2, without the usage that would push the line out of sight."""
        self.exit(2, f"error: {one_line(message)} (see {self.prog} --help)\n")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Parse as always; an option that there is not is answered with the nearest."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            options = dict.fromkeys(each for each in self._known(found) if each[:2] == "--")
            nearest = f"; accepted: {unknown_name(name, options)}" if name.startswith("-") else ""
            self.error(f"unrecognized argument {name}{nearest}")
        assert isinstance(found, argparse.Namespace)
        return found

    def _known(self, found: argparse.Namespace) -> list[str]:
        """Return every option of this parser and of the command that was chosen."""
        options: list[str] = []
        for action in self._actions:
            options += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                options += action.choices[getattr(found, action.dest)]._known(found)
        return options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name the nearest choice; argparse lists them only."""
        if action.choices is not None and value not in action.choices:
            accepted = unknown_name(value, action.choices)
            raise argparse.ArgumentError(
                action, f"invalid choice; seen {value!r}; accepted: {accepted}"
            )


def run_command(main: Callable[[], None]) -> None:
    """Run a command's main function and leave with its exit code.

    A `LanistrError`, a path that cannot be read or written, and a full disk become one line on
    standard error and exit code 2; an interrupt leaves with 130, as shells expect; anything else is
    a defect and keeps its traceback.
    """
    if signal.getsignal(signal.SIGINT) is _leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except LanistrError as exc:
        print(f"error: {exc}", file=sys.stderr)
        sys.exit(2)
    except OSError as exc:
        if not _is_users(exc):
            raise
        print(f"error: {_said(exc)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def command_begins() -> bool:
    """Whether Python still looks for the module of a command to run, and imports its package."""
    return sys.argv[:1] == ["-m"]  # what it puts there meanwhile


def name_missing_packages(extras: str) -> None:
    """Have a command say in one line which package it lacks, and leave with 2.

    To be called where a package of ours begins, which is before any command in it imports others'.
    Does nothing to programs that only import ours.

    Args:
        extras: of this software that bring what is needed, in words.
    """
    if not command_begins():
        return
    told = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if not missing or missing.partition(".")[0] in _OURS:
            told(kind, error, trace)
            return
        print(f"error: {missing} is not installed; accepted: {extras}", file=sys.stderr)
        sys.exit(2)

    sys.excepthook = tell


def leave_at_once() -> None:
    """Leave at once on an interrupt until `run_command`, on SIGTERM until another handler is set.

    The exit codes are 130 and 143, as shells expect. To be called where a package of ours begins:
    its commands then import what may take seconds, and have begun nothing that is to be cleared
    away. An exception in the middle of an import is a traceback, or a crash where it is an
    extension module that cannot take one; and of a container's first process the system drops
    signals that it does not handle. Does nothing to programs that only import ours.
    """
    if command_begins():
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, _leave_at_once)


@contextmanager
def signals_waiting() -> Iterator[None]:
    """Have interrupts and SIGTERM wait while extension modules are imported, see `leave_at_once`.

    A mask would not do: other threads, as numpy has some, take the signals for this one. In another
    than the main thread, which alone they interrupt, nothing has to wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        each: signal.signal(each, lambda number, _: came.append(number))
        for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in came:
            signal.raise_signal(number)


def leave_when_asked() -> None:
    """From now on leave on SIGTERM as on an interrupt, so that what was begun is cleared away.

    The exit code is 143, as shells expect.
    """
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _leave_at_once(number: int, frame: object) -> None:
    os._exit(128 + number)


def _is_users(exc: OSError) -> bool:
    """Whether the user can mend it: a full disk, or a path that is named.

    Writing to a file that is open names no path (but see `written_to`), so a full disk is
    recognised by its number alone.
    """
    return exc.errno in DISK_FULL or (exc.errno in _OF_A_PATH and exc.filename is not None)


def _said(exc: OSError) -> str:
    where = "" if exc.filename is None else f"{exc.filename}: "
    return one_line(f"{where}{exc.strerror or exc}")
