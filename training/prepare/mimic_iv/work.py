"""What was extracted from the raw files, kept beside the data set until it stands."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from lanistr.errors import LanistrError
from training.prepare.problems import Problems

log = logging.getLogger(__name__)


class Notebook:
    """What a later run must know of a step that it takes over.

    Attributes:
        entries: problems that were passed on, so that a later run tells of them too.
        files: size and time of change of each file that was looked at; None: there was none.
    """

    def __init__(self, problems: Problems) -> None:
        self.entries: list[dict[str, Any]] = []
        self.files: dict[str, list[int] | None] = {}
        self._problems = problems

    def add(self, code: str, message: str, **where: Any) -> None:
        """Add a problem, see `Problems.add`."""
        self.entries.append({"code": code, "message": message, **where})
        self._problems.add(code, message, **where)

    def look_at(self, path: Path) -> None:
        """Remember a file that is about to be read; its content does not go into the key."""
        self.files[str(path)] = _state(path)


def _state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


class Work:
    """The steps of an extraction; one that an earlier run finished is not made again.

    Unless a file has changed that it looked at.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], problems: Problems) -> None:
        """Open the work folder of a data set.

        Args:
            out: the data set to be.
            key: everything that the steps depend on; what was made for another key is removed.
            problems: takes what the steps find, also those of an earlier run.
        """
        text = json.dumps(key, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._all = out.with_name(f".{out.name}.work")
        self._folder = self._all / name
        self._problems = problems
        for other in self._all.iterdir() if self._all.is_dir() else ():
            if other.name != name:
                shutil.rmtree(other)
        self._folder.mkdir(parents=True, exist_ok=True)

    def step(
        self, name: str, make: Callable[[Path, Notebook], Mapping[str, Any]]
    ) -> tuple[Path, dict[str, Any]]:
        """Return the file and the figures of a step.

        Args:
            name: of the step.
            make: writes the file at a path, adds problems and files, returns figures fit for JSON.
        """
        path, note = self._folder / f"{name}.parquet", self._folder / f"{name}.json"
        done = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
        if done and all(_state(Path(file)) == state for file, state in done["files"].items()):
            log.info("%s: reused from the previous run", name)
            for entry in done["problems"]:
                self._problems.add(**entry)
            return path, done["figures"]
        notebook = Notebook(self._problems)
        begun = self._folder / f"{name}.begun"
        figures = dict(make(begun, notebook))
        begun.replace(path)
        begun.write_text(
            json.dumps({"figures": figures, "problems": notebook.entries, "files": notebook.files}),
            encoding="utf-8",
        )
        begun.replace(note)
        return path, figures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        """Remove the folder: the data set stands, or cannot be made of these files.

        What ends a run otherwise, such as an interrupt or a full disk, leaves it for the next run.
        """
        if kind is None or issubclass(kind, LanistrError):
            shutil.rmtree(self._all)
