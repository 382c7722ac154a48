"""Folders that appear as a whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lanistr.errors import ConfigError


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """Give a hidden folder to fill, which then takes the place of `folder`.

    If the block fails, the draft vanishes and what stood at `folder` stays. It is for the caller
    to know that what stands there may be replaced.

    Raises:
        ConfigError: nothing can be made where the folder is to stand.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=draft_prefix(folder), dir=folder.parent))
    except OSError as exc:
        raise ConfigError(
            f"the folder cannot be made in {folder.parent}: {exc.strerror}",
            code="no_folder",
            field=str(folder),
            accepted="a path below a folder that can be written to",
        ) from exc
    try:
        draft.chmod(0o755)  # mkdtemp's is for the owner alone
        yield draft
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def settle(path: Path) -> None:
    """Have the system write a file or folder to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def draft_prefix(folder: Path) -> str:
    """Return how the names of a folder's drafts begin; eight letters or digits follow."""
    return f".{folder.name}-draft-"


def _replace(draft: Path, folder: Path) -> None:
    """Put the draft in the folder's place; what stands there is set aside first, then removed."""
    if not folder.exists():
        draft.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(aside / folder.name)
    try:
        draft.rename(folder)
    except OSError:
        (aside / folder.name).rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
