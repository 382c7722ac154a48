"""One process of a service that has several: its settings, and how it lives with the others."""

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
"""Signals that are blocked from a process's first moment until it handles or ignores them.

An interrupt from the terminal reaches all processes, and in the middle of an import it would be a
traceback; to stop the others is the supervisor's task.
"""


class Child(Schema):
    """What `service.supervisor` tells a process that it starts, besides the service's options.

    Attributes:
        channel: descriptor of a socket to the supervisor, which ends with it.
        listener: descriptor of the socket to listen on.
        lock: descriptor that all hold of the locked folder: it is free when none of them is left.
        folder: private folder that all processes share.
        runners: sockets of the runners.
        runner: a runner's place among them, which chooses its device.
        announces: whether this front end logs what is served.
    """

    channel: int = -1
    listener: int = -1
    lock: int = -1
    folder: Path
    runners: tuple[Path, ...] = ()
    runner: int = 0
    announces: bool = False

    def environment(self) -> dict[str, str]:
        """Return the environment variables that carry these settings."""
        return {_VARIABLE: self.model_dump_json()}

    @classmethod
    def from_environment(cls) -> Self:
        """Return the settings that the supervisor gave this process."""
        return cls.model_validate_json(os.environ[_VARIABLE])

    def socket(self) -> socket.socket:
        """Return the socket to listen on."""
        return socket.socket(fileno=self.listener)

    def live(self, orphaned: Callable[[], None]) -> Callable[[], None]:
        """Begin to watch the supervisor; return a function that reports to it that all is set up.

        Args:
            orphaned: called, in a separate thread, when the supervisor is gone.
        """
        channel = socket.socket(fileno=self.channel)

        def watch() -> None:
            channel.recv(1)
            orphaned()

        threading.Thread(target=watch, name="supervisor", daemon=True).start()

        def tell() -> None:
            with suppress(OSError):  # it has stopped this one, or is gone, which `watch` notices
                channel.sendall(b"\n")

        return tell

    def leave(self) -> None:
        """Remove the folder, if no other process is left to do so."""
        with suppress(OSError):  # another is left, or has removed it
            os.close(self.lock)
            fcntl.flock(os.open(self.folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self.folder)
