"""CSV: , ; tab or | between cells, whichever the first line has most of."""

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from clients.errors import InvalidInput
from clients.tables.table import Column, Row, to_text, unreadable

_DELIMITERS = ",;\t|"
_LONGEST_CELL = 64_000_000
"""Characters. A longer one is a quote that was never closed."""


class CsvTable:
    """CSV in UTF-8, its first line naming the columns, separated by whichever of , ; tab | it has.

    Raises:
        InvalidInput: it names a column twice, or none.
        OSError, UnicodeDecodeError, csv.Error: it cannot be read.
    """

    text_only = True

    def __init__(self, path: Path) -> None:
        self._path = path
        csv.field_size_limit(_LONGEST_CELL)  # csv's own is shorter than many a note
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
        self._delimiter = max(_DELIMITERS, key=head.count)
        records = self._records()
        self._header = [name.strip() for name in next(records, [])]
        self.columns = [name for name in self._header if name]
        for name in self.columns:
            if self.columns.count(name) > 1:
                raise unreadable(path, f"two columns are called {name!r}")
        if not self.columns:
            raise unreadable(path, "no line that names columns")
        self.rows = sum(1 for _ in records)

    def read(self, start: int, wanted: Collection[str]) -> Iterator[Row]:
        """Yield the rows, see `clients.tables.table`."""
        for cells in islice(self._records(), 1 + start, None):
            if len(cells) == len(self._header):
                yield dict(zip(self._header, cells, strict=True))
            else:
                seen = f"has {len(cells)} cells where the first line has {len(self._header)}"
                yield InvalidInput("row", seen)

    def _records(self) -> Iterator[list[str]]:
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            for cells in csv.reader(file, delimiter=self._delimiter, strict=True):
                if cells:
                    yield cells


def write(path: Path, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, see `clients.tables.table`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in columns])
        for row in rows:
            writer.writerow(
                [
                    cell if cell is None or column.kind in ("text", "number") else to_text(cell)
                    for column, cell in zip(columns, row, strict=True)
                ]
            )
