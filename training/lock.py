"""One command at a time in a folder: a lock that ends with the process, however it ends."""

import errno
import fcntl
import logging
import os
from pathlib import Path

from lanistr.errors import ConfigError

LOCK = ".lock"

_UNKNOWN = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
"""What a file system says that knows no locks, such as Lustre's as it is often mounted."""

_HANDLES: dict[Path, list[int]] = {}
"""Of the lock files of every folder that this process is at work on."""

log = logging.getLogger(__name__)


def lock_folder(there: Path, folder: Path | None = None) -> None:
    """Keep other processes from a folder until this one ends or lets go of it.

    Where the file system knows no locks, a warning says so, and nobody is kept from it.

    Args:
        there: where the folder stands now.
        folder: where it will stand, if elsewhere.

    Raises:
        ConfigError: another process has it.
    """
    folder = folder or there
    handle = os.open(there / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno not in _UNKNOWN:
            os.close(handle)
            if exc.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise ConfigError(
                "another command is using this folder",
                code="in_use",
                field=str(folder),
                accepted="the folder after that command has finished; or another folder",
            ) from exc
        log.warning(
            "%s: the file system does not support locks; do not run several commands on it at once",
            folder,
        )
    _HANDLES.setdefault(folder, []).append(handle)


def unlock_folder(folder: Path) -> None:
    """Let others have a folder; the end of the process does so too."""
    (folder / LOCK).unlink(missing_ok=True)
    for handle in _HANDLES.pop(folder, ()):
        os.close(handle)
