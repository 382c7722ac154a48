"""Where prepared records came from: the raw files and their hashes."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_hashes(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of each file by its path below `root`, in order of the paths."""
    hashes = {}
    for path in sorted(paths):
        with path.open("rb") as file:
            name = path.relative_to(root).as_posix()
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
