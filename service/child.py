"""A process of a service that is several: what it is told, and how it lives with the others."""

import fcntl
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from lanistr.schema import Schema

_VARIABLE = "LANISTR_CHILD"

WAITING = frozenset({signal.SIGINT, signal.SIGHUP})
"""Signals that wait from a process's first moment until it acts on them, or says that it will not.

An interrupt of the terminal reaches all, and in the middle of an import it would be a traceback:
it is the supervisor who lets the others go.
"""


class Child(Schema):
    """What `service.supervisor` tells a process that it starts, besides the service's options.

    Attributes:
        channel: descriptor of a socket to the supervisor, which ends with it.
        listener: descriptor of the socket to listen on.
        lock: descriptor that all hold of the locked folder: it is free when none of them is left.
        folder: that all processes share, and nobody else.
        runners: sockets of the runners.
        runner: a runner's place among them, which chooses its device.
        announces: a front end's, whether it says in the log what is served.
    """

    channel: int = -1
    listener: int = -1
    lock: int = -1
    folder: Path
    runners: tuple[Path, ...] = ()
    runner: int = 0
    announces: bool = False

    def environment(self) -> dict[str, str]:
        """Return the variables by which the process is told."""
        return {_VARIABLE: self.model_dump_json()}

    @classmethod
    def told(cls) -> Self:
        """Return what this process was told."""
        return cls.model_validate_json(os.environ[_VARIABLE])

    def socket(self) -> socket.socket:
        """Return the socket to listen on."""
        return socket.socket(fileno=self.listener)

    def live(self, orphaned: Callable[[], None]) -> Callable[[], None]:
        """Begin to watch the supervisor; return a function that tells it that all is set up.

        Args:
            orphaned: called, in a thread of its own, when the supervisor is no more.
        """
        channel = socket.socket(fileno=self.channel)

        def watch() -> None:
            channel.recv(1)
            orphaned()

        threading.Thread(target=watch, name="supervisor", daemon=True).start()

        def tell() -> None:
            with suppress(OSError):  # it has let this one go, or is no more, which `watch` learns
                channel.sendall(b"\n")

        return tell

    def leave(self) -> None:
        """Remove the folder, if there is nobody left who would."""
        with suppress(OSError):  # there is, or there was
            os.close(self.lock)
            fcntl.flock(os.open(self.folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self.folder)
