"""What is wrong with a user's raw files: told by file, row and column, and bounded."""

import json
import logging
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanistr.draft import written_to
from lanistr.errors import ConfigError, DataError, shorten
from training.prepare.report.issues import EXAMPLES, field_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing in a raw file that could not be used as it stands.

    Attributes:
        code: stable short name of the kind of problem, such as ``unreadable_picture``.
        file: the file, as the user called it.
        row: number of the record in its file, from 1, without a header; None: the file as a whole.
        column: name of the column; empty: the row as a whole.
        seen: what stood there, shortened.
        message: what is wrong and what is accepted.
    """

    code: str
    file: str
    row: int | None
    column: str
    seen: Any
    message: str

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        column = f", column {self.column}" if self.column else ""
        seen = "" if self.seen is None else f"; seen {self.seen!r}"
        return f"{self.file}{row}{column}: {self.message}{seen}"


class Problems:
    """Collects problems, writes each down at once, and stops the run when there are too many.

    Attributes:
        counts: how many there were of each kind.
    """

    def __init__(self, path: Path, limit: int, *, quiet: bool = False) -> None:
        """Begin without problems.

        Args:
            path: the problems file, one JSON object a line; made with the first problem.
            limit: the largest number that the run goes on with.
            quiet: whether the first one goes without a word in the log, as it may be taken back.

        Raises:
            ConfigError: the limit is below 0.
        """
        if limit < 0:
            raise ConfigError(
                "not a number of problems",
                field="--most-problems",
                seen=limit,
                accepted="0, to stop at the first, or more",
            )
        self.counts: Counter[str] = Counter()
        self._times: Counter[tuple[str, str]] = Counter()
        self._first: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._path = path
        self._limit = limit
        self._quiet = quiet
        path.unlink(missing_ok=True)

    def add(
        self,
        code: str,
        message: str,
        *,
        file: Path | str,
        row: int | None = None,
        column: str = "",
        seen: Any = None,
    ) -> None:
        """Write one problem down.

        Raises:
            DataError: it is one more than the limit.
        """
        problem = Problem(code, str(file), row, column, shorten(seen), message)
        line = json.dumps(asdict(problem), ensure_ascii=False)
        # JSON writes half a character, which UTF-8 cannot hold, with this very backslash.
        with (
            written_to(self._path),
            self._path.open("a", encoding="utf-8", errors="backslashreplace") as lines,
        ):
            lines.write(line + "\n")
        self.counts[code] += 1
        self._note(problem)
        if self.counts.total() == 1 and not self._quiet:
            log.warning("%s (this and further problems: %s)", problem, self._path)
        if self.counts.total() > self._limit:
            raise DataError(
                f"too many problems, the last: {problem}",
                code="too_many_problems",
                field=str(self._path),
                seen=dict(self.counts),
                accepted=f"at most {self._limit} (--most-problems)",
            )

    def by_column(self) -> list[dict[str, Any]]:
        """Return how many there were by column and code, with the first few as examples."""
        return [
            {"column": column, "code": code, "times": times, "examples": self._first[column, code]}
            for (column, code), times in sorted(self._times.items())
        ]

    def take_back(self, counts: Counter[str]) -> None:
        """Forget all but the first problems, of a file that is read from the start once more.

        Args:
            counts: those that were there before.
        """
        if counts == self.counts:
            return
        self.counts = counts
        with written_to(self._path):
            lines = self._path.read_bytes().splitlines(keepends=True)[: counts.total()]
            self._path.write_bytes(b"".join(lines))
        if not counts:
            self._path.unlink()
        self._times.clear()
        self._first.clear()
        for line in lines:
            self._note(Problem(**json.loads(line)))

    def _note(self, problem: Problem) -> None:
        """Count a problem by column; keep it as an example if it is one of the first."""
        kind = field_of(problem.column), problem.code
        self._times[kind] += 1
        if self._times[kind] <= EXAMPLES:
            self._first[kind].append({"row": problem.row, "seen": problem.seen})


def problems_path(out: Path) -> Path:
    """Return where the problems of a data set are listed: beside it, as it may not come about."""
    return out.with_name(out.name + ".problems.jsonl")
