"""Where prepared records came from: the raw files and their hashes."""

from collections.abc import Iterable
from pathlib import Path

from training.data.store import file_hash


def file_hashes(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of each file by its path below `root`, in order of the paths."""
    return {path.relative_to(root).as_posix(): file_hash(path) for path in sorted(paths)}
