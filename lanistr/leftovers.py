"""Drafts that a process left which was killed outright: the next one removes them."""

import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lanistr.draft import draft_folder, draft_prefix

_YOUNG = 60.0
"""Seconds for which a draft is left alone, whoever made it."""

log = logging.getLogger(__name__)


@contextmanager
def held(draft: Path) -> Iterator[None]:
    """Keep others from sweeping a draft away, also once it has its place."""
    handle = os.open(draft, os.O_RDONLY)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove a folder's drafts that nobody holds any more; a young one may be about to be held."""
    name = re.compile(re.escape(draft_prefix(folder)) + "[a-z0-9_]{8}")
    for left in folder.parent.glob(".*") if folder.parent.is_dir() else ():
        if not name.fullmatch(left.name):
            continue
        with ExitStack() as opened, suppress(FileNotFoundError):  # another run may sweep too
            if time.time() - left.stat().st_mtime < _YOUNG:
                continue
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, handle)
            if _lock(handle):
                log.info("removing %s, which an interrupted run left", left)
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def swept_draft(folder: Path) -> Iterator[Path]:
    """Give a draft, see `draft_folder`, that nobody sweeps away; first remove those that were left.

    Raises:
        ConfigError: nothing can be made where the folder is to stand.
    """
    sweep(folder)
    with ExitStack() as held_too, draft_folder(folder) as draft:
        held_too.enter_context(held(draft))  # until after the draft has its place
        yield draft


def _lock(folder: int) -> bool:
    """Lock an open folder for as long as it is open; whether that worked."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system knows no locks
        return False
    return True
