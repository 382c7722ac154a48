"""Checked cases and their series, kept on disk while a table is prepared."""

import errno
import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self

from lanistr.draft import draft_prefix

_TABLES = """
    CREATE TABLE cases (position INTEGER PRIMARY KEY, record TEXT NOT NULL, bare INTEGER NOT NULL);
    CREATE TABLE measured (position INTEGER NOT NULL, hours REAL NOT NULL, vals TEXT NOT NULL);
"""


@contextmanager
def _disk_faults(folder: Path) -> Iterator[None]:
    """Raise what SQLite says of the disk as the system would say it."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        # The first byte is the kind, the second where it happened.
        if exc.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        raise OSError(errno.EIO, f"the disk is full or failing: {exc}", str(folder)) from exc


class CaseStore:
    """Cases by their position, from 0, and measurements by case in the order of their file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def beside(cls, out: Path) -> Iterator[Self]:
        """Open a store on the disk of `out`, which vanishes with the block, or with the process.

        It holds notes and names, so its file loses its own before anything is in it: then the
        system removes it however the process ends.

        Raises:
            OSError: the disk is full or fails.
        """
        out.parent.mkdir(parents=True, exist_ok=True)
        with _disk_faults(out.parent), ExitStack() as held:
            with tempfile.TemporaryDirectory(prefix=draft_prefix(out), dir=out.parent) as folder:
                path = Path(folder) / "cases.sqlite"
                # The vocabulary's trainer draws notes in a thread of its own; one reads at a time.
                connection = sqlite3.connect(path, check_same_thread=False)
                held.enter_context(closing(connection))
                # Without a journal no second file is ever wanted beside this one.
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")
                connection.executescript(_TABLES)
            yield cls(connection)

    def add(self, position: int, record: Mapping[str, Any], *, bare: bool) -> None:
        """Keep a case; `bare`: its record has none of its parts."""
        self._connection.execute(
            "INSERT INTO cases VALUES (?, ?, ?)",
            (position, json.dumps(record, ensure_ascii=False), bare),
        )

    def take_bare(self) -> Iterator[dict[str, Any]]:
        """Take out and yield the cases without a part in their record and without measurements."""
        query = (
            "SELECT position, record FROM cases WHERE bare "
            "AND position NOT IN (SELECT position FROM measured) ORDER BY position"
        )
        for position, record in self._connection.execute(query).fetchall():
            self._connection.execute("DELETE FROM cases WHERE position = ?", (position,))
            yield json.loads(record)

    def measure(self, rows: Iterable[tuple[int, float, Mapping[str, Any]]]) -> None:
        """Keep measurements: position of the case, hours, values by variable."""
        self._connection.executemany(
            "INSERT INTO measured VALUES (?, ?, ?)",
            ((at, hours, json.dumps(values, ensure_ascii=False)) for at, hours, values in rows),
        )

    def close_measured(self) -> None:
        """Make measurements quick to find, once all are there."""
        self._connection.execute("CREATE INDEX by_case ON measured (position)")

    def cases(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield every case with its position, in order."""
        found = self._connection.execute("SELECT position, record FROM cases ORDER BY position")
        for position, record in found:
            yield position, json.loads(record)

    def is_measured(self, position: int) -> bool:
        """Whether a case has measurements."""
        query = "SELECT 1 FROM measured WHERE position = ? LIMIT 1"
        return self._connection.execute(query, (position,)).fetchone() is not None

    def measured(self, position: int) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield hours and values of a case's measurements, in the order in which they came."""
        query = "SELECT hours, vals FROM measured WHERE position = ? ORDER BY rowid"
        for hours, values in self._connection.execute(query, (position,)):
            yield hours, json.loads(values)
