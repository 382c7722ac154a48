"""What killed processes left behind: the next process for the same place clears it up.

So do the commands that export, prepare, train and convert, of what is older than a minute.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lanistr.draft import aside_prefix, draft_folder, draft_prefix, held, lock

_YOUNG = 60.0
"""Seconds for which a draft is left alone, whoever made it."""

log = logging.getLogger(__name__)


def sweep(folder: Path) -> None:
    """Clear up what processes left of a folder that nobody holds any more.

    A draft is removed. What was set aside to be replaced is put back where nothing has taken its
    place. What is young may be about to be held, and what cannot be cleared up stays.
    """
    prefixes = "|".join(re.escape(of(folder)) for of in (draft_prefix, aside_prefix))
    name = re.compile(f"({prefixes})[a-z0-9_]{{8}}")
    for left in folder.parent.glob(".*") if folder.parent.is_dir() else ():
        if not name.fullmatch(left.name):
            continue
        try:
            if time.time() - left.stat().st_mtime >= _YOUNG:
                _clear_unheld(left, folder)
        except FileNotFoundError:  # another run may sweep too
            pass
        except OSError as exc:  # somebody else's: nothing waits for it
            log.info("could not remove %s, left by an interrupted run: %s", left, exc.strerror)


@contextmanager
def swept_draft(
    folder: Path, *, new: bool = False, check: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield a draft that no other process sweeps away; first clear up what was left.

    Args:
        folder: see `draft_folder`.
        new: likewise.
        check: likewise; what was left may be put back before.

    Raises:
        ConfigError: likewise.
    """
    sweep(folder)
    with ExitStack() as held_too, draft_folder(folder, new=new, check=check) as draft:
        held_too.enter_context(held(draft))  # until after the draft has its place
        yield draft


def left_of(path: Path) -> list[Path]:
    """Return what processes left of a file (`draft_file`) that nobody writes now."""
    name = re.compile(re.escape(f".{path.name}.") + "[0-9]+")
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    return [each for each in there if name.fullmatch(each.name)]


def _clear_unheld(left: Path, folder: Path) -> None:
    handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if lock(handle):
            _clear(left, folder)
    finally:
        os.close(handle)


def _clear(left: Path, folder: Path) -> None:
    old = left / folder.name
    if left.name.startswith(aside_prefix(folder)) and old.exists() and not folder.exists():
        log.info("restoring %s, which an interrupted run had moved aside", folder)
        old.rename(folder)
    else:
        log.info("removing %s, left by an interrupted run", left)
    shutil.rmtree(left, ignore_errors=True)
