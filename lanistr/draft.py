"""Folders and files that appear as a whole or not at all."""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lanistr.errors import ConfigError

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_NOT_FOR_FOLDERS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})


@contextmanager
def draft_folder(
    folder: Path, *, new: bool = False, check: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield a hidden folder to fill; once on the disk, it takes the place of `folder`.

    If the block fails, the draft vanishes and what stood at `folder` stays.

    Args:
        folder: where it is to stand.
        new: take the place of nothing but an empty folder.
        check: raises what it likes if what stands at `folder` may not be replaced. It is asked
            before anything is made, and once more when the draft, maybe hours later, is on the
            disk and takes the place.

    Raises:
        ConfigError: nothing can be made where the folder is to stand, or with `new`, something
            stands there when the block ends.
    """
    check()
    draft = folder.with_name(draft_prefix(folder) + secrets.token_hex(4))
    try:
        with _making(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir()  # mkdtemp's would be for the owner alone, whatever the umask
        with written_to(folder):
            yield draft
            _fsync_all(draft)
        check()
        (_place if new else _replace)(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """Yield a hidden file to write; once on the disk, it takes the place of `path`.

    If the block fails, the draft vanishes and what stood at `path` stays.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with written_to(path):
            yield draft
            fsync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Name the place where a disk is full; of writing to an open file, the system does not."""
    try:
        yield
    except OSError as exc:
        if exc.errno in DISK_FULL and exc.filename is None:
            exc.filename = str(path)
        raise


def is_free(folder: Path) -> bool:
    """Whether a new folder may be put there: nothing stands there, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def make_parent(folder: Path) -> None:
    """Make the folder in which `folder` is to stand, if it is not there.

    Raises:
        ConfigError: it cannot be made.
    """
    with _making(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _making(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(
            f"the folder cannot be created in {folder.parent}: {exc.strerror}",
            code="no_folder",
            field=str(folder),
            accepted="a path in a writable folder",
        ) from exc


def fsync(path: Path) -> None:
    """Have the system write a file or folder to the disk now; a folder, where that can be had."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as exc:  # which does not say of which file
        if not (exc.errno in _NOT_FOR_FOLDERS and path.is_dir()):  # as some network drives answer
            exc.filename = str(path)
            raise
    finally:
        os.close(handle)


def draft_prefix(folder: Path) -> str:
    """Return the prefix of the names of a folder's drafts; eight letters or digits follow."""
    return f".{folder.name}-draft-"


def aside_prefix(folder: Path) -> str:
    """Return the prefix of folders that hold the old folder while it is replaced; as for drafts."""
    return f".{folder.name}-old-"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep others from sweeping a draft away, also once it has its place; or what is set aside."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


def lock(folder: int) -> bool:
    """Lock an open folder for as long as it is open; whether that worked."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system knows no locks
        return False
    return True


def _fsync_all(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        # An empty file is written with its folder. To open and close it could cost a lock on it:
        # the system takes all that a process has on a file once it closes it anywhere.
        if path.is_dir() or path.stat().st_size:
            fsync(path)


def _place(draft: Path, folder: Path) -> None:
    """Put the draft where nothing stands; the system checks and renames in one step."""
    try:
        draft.rename(folder)
    except OSError as exc:
        if exc.errno not in _TAKEN:
            raise
        raise ConfigError(
            "something was put there in the meantime, perhaps by the same command",
            code="exists",
            field=str(folder),
            accepted="a new folder, or an empty one",
        ) from exc
    _fsync_parent(folder)


def _replace(draft: Path, folder: Path) -> None:
    """Put the draft in the folder's place; what stands there takes the draft's."""
    if not folder.exists():
        draft.rename(folder)
        _fsync_parent(folder)
        return
    aside = folder.with_name(aside_prefix(folder) + secrets.token_hex(4))
    old = aside / folder.name
    try:
        aside.mkdir()
        with held(aside):
            folder.rename(old)
            draft.rename(folder)
            aside.rename(draft)  # so that nothing of it is ever taken for what to put back
    except BaseException:  # also Ctrl-C between them
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _fsync_parent(folder)


def _fsync_parent(folder: Path) -> None:
    with suppress(PermissionError):  # one may write to a folder that one may not read
        fsync(folder.parent)
