"""Files that a task file or the cells of a table name: below their folder, and only files."""

import hashlib
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from lanistr.errors import ConfigError, InputError


def find_below(folder: Path, named: Path, outside: bool, field: str) -> Path:
    """Return where a file or folder that the task file names is.

    Args:
        folder: the path starts here.
        named: the path.
        outside: whether it may be absolute, or lead out of the folder.
        field: where the task file names it.

    Raises:
        ConfigError: it does, and may not.
    """
    path = folder / named
    if not outside and (named.is_absolute() or not _real(path).is_relative_to(_real(folder))):
        raise ConfigError(
            "an absolute path, or one that leads out of the folder",
            code="outside_folder",
            field=field,
            seen=str(named),
            accepted=f"a path inside {folder}; or add outside: true beside it",
        )
    return path


class NamedFiles:
    """Finds, opens and counts the files that cells name.

    Attributes:
        folder: the paths start here.
    """

    def __init__(self, folder: Path, outside: bool) -> None:
        self.folder = folder
        self._real = _real(folder)
        self._outside = outside
        self._hash = hashlib.sha256()
        self._count = 0

    def read(self, named: Any, largest: int) -> tuple[Path, bytes]:
        """Return where a file is, and what is in it.

        Args:
            named: the path as the cell has it.
            largest: more bytes are refused.

        Raises:
            InputError: the path is none, leads out of the folder, or to no file that can be read.
        """
        path = self._find(named)
        try:
            size = path.stat().st_size
            if size > largest:
                raise InputError(
                    "the file is too large",
                    code="huge_file",
                    seen=f"{named}: {size:,} bytes",
                    accepted=f"at most {largest:,} bytes",
                )
            data = path.read_bytes()
        except OSError as exc:
            raise InputError(
                f"cannot be read: {exc.strerror}",
                code="cannot_read",
                seen=named,
                accepted="a readable file",
            ) from exc
        if not data:
            raise InputError(
                "an empty file", code="empty_file", seen=named, accepted="a file with content"
            )
        self._hash.update(hashlib.sha256(data).digest())
        self._count += 1
        return path, data

    def provenance(self) -> dict[str, Any]:
        """Return how many files were read, and one hash of them all in order."""
        return {"files": self._count, "sha256": self._hash.hexdigest()}

    def _find(self, named: Any) -> Path:
        if not isinstance(named, str):
            raise InputError("not a path", code="not_a_path", seen=named, accepted="text")
        if "://" in named:
            raise InputError(
                "a URL, not a path",
                code="not_a_path",
                seen=named,
                accepted="the path of a file; nothing is downloaded",
            )
        if not self._outside and (
            PurePosixPath(named).is_absolute() or PureWindowsPath(named).drive
        ):
            raise InputError(
                "an absolute path",
                code="outside_folder",
                seen=named,
                accepted=f"a path inside {self.folder}; or, in `source`, outside: true",
            )
        try:
            path = self.folder / named
            if "\\" in named and not path.exists():
                path = self.folder / named.replace("\\", "/")  # written on Windows
            real = _real(path)
            exists, is_file = real.exists(), real.is_file()
        except (OSError, ValueError) as exc:
            raise InputError(
                f"not a path: {exc}", code="not_a_path", seen=named, accepted="the path of a file"
            ) from exc
        if not self._outside and not real.is_relative_to(self._real):
            raise InputError(
                "the path leads out of the folder",
                code="outside_folder",
                seen=named,
                accepted=f"a path inside {self.folder}; or, in `source`, outside: true",
            )
        if not exists:
            raise InputError(
                "no such file",
                code="no_such_file",
                seen=named,
                accepted=f"the path of a file in {self.folder}{self._like(path)}",
            )
        if not is_file:
            raise InputError(
                "a folder, not a file" if real.is_dir() else "not a regular file",
                code="not_a_file",
                seen=named,
                accepted="the path of a file",
            )
        return path

    def _like(self, path: Path) -> str:
        """Name a file that differs in case or ending, which is what goes wrong most."""
        wanted = path.stem.casefold()
        if not path.parent.is_dir():
            return ""
        like = (each for each in path.parent.iterdir() if each.stem.casefold() == wanted)
        found = min((each.name for each in like if each.is_file()), default=None)
        return f" (did you mean {found!r}?)" if found else ""


def _real(path: Path) -> Path:
    """Follow the links of a path; `Path.resolve` raises at a loop of them, or not, by version."""
    return Path(os.path.realpath(path))
