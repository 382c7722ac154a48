"""CSV: , ; tab or | between cells, whichever the header has most of outside quotes."""

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import IO, Any

from clients.errors import InvalidInput
from clients.tables.table import Column, Row, open_text, refuse_repeated, to_text, unreadable

_DELIMITERS = ",;\t|"
_LONGEST_CELL = 64_000_000
"""Characters. A longer one is a quote that was never closed."""

_LONGEST_HEADER = 64
"""Lines. More are a quote that was never closed."""

_BLANK = re.compile(r"[\s,;|]*")
"""A line that names nothing, above the one that does."""

_SAID = re.compile(r'"?sep=([,;\t|])"?[\r\n]*')
"""Excel's first line, which tells the delimiter and is no part of the table."""


class CsvTable:
    """CSV, its header naming the columns, separated by whichever of , ; tab | it has.

    A column without a name is called by its place, ``(column 3)``; one that holds nothing is left
    out.

    Raises:
        InvalidInput: it names a column twice, or none.
        OSError, UnicodeError, csv.Error: it cannot be read.
    """

    text_only = True

    def __init__(self, path: Path, encoding: str) -> None:
        self._path, self._encoding = path, encoding
        csv.field_size_limit(_LONGEST_CELL)  # csv's own is shorter than many a note
        with open_text(path, encoding, newline="") as file:
            head = _head(file)
        said = _SAID.fullmatch(head)
        self._passed = 1 if said else 0
        outside = "".join(head.split('"')[::2])
        self._delimiter = said[1] if said else max(_DELIMITERS, key=outside.count)
        self._header: list[str] = []
        records = self._records()
        self._header = [name.strip() for name in next(records, [])]
        if not any(self._header):
            raise unreadable(path, "there is no header line")
        unnamed = [k for k, name in enumerate(self._header) if not name]
        self.rows = 0
        for cells in records:
            self.rows += 1
            for k in unnamed:
                if k < len(cells) and cells[k].strip():
                    self._header[k] = f"(column {k + 1})"
        self.columns = [name for name in self._header if name]
        self.inner: dict[str, str] = {}
        refuse_repeated(path, self.columns)

    def read(self, start: int, wanted: Collection[str]) -> Iterator[Row]:
        """Yield the rows, see `clients.tables.table`."""
        width = len(self._header)
        for cells in islice(self._records(), 1 + start, None):
            if not any(cell.strip() for cell in cells[width:]):
                cells = cells[:width]  # delimiters at the end of the line, nothing between them
            if len(cells) == width:
                yield dict(zip(self._header, cells, strict=True))
            else:
                seen = f"has {len(cells)} cells, but the header has {width}"
                yield InvalidInput("row", seen)

    def _records(self) -> Iterator[list[str]]:
        with open_text(self._path, self._encoding, newline="") as file:
            for _ in range(self._passed):
                next(file)
            records = csv.reader(file, delimiter=self._delimiter, strict=True)
            named = (cells for cells in records if not all(map(_BLANK.fullmatch, cells)))
            yield from islice(named, 1)
            empty = 0
            for cells in records:
                if not cells:
                    empty += 1
                    continue
                if len(self._header) == 1:  # an empty line is then a row, but not at the end
                    yield from ([""] for _ in range(empty))
                empty = 0
                yield cells


def _head(file: IO[str]) -> str:
    """Return Excel's first line where there is one, and else the header.

    That is the first line that is not blank, with those over which a name in quotes runs on.
    """
    first = next(file, "")
    if _SAID.fullmatch(first):
        return first
    lines: list[str] = []
    for line in islice(dropwhile(_BLANK.fullmatch, chain([first], file)), _LONGEST_HEADER):
        lines.append(line)
        if "".join(lines).count('"') % 2 == 0:
            return "".join(lines)
    return "".join(lines[:1])


def write(path: Path, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, see `clients.tables.table`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow([column.name for column in columns])
        for row in rows:
            cells = [
                cell if cell is None or column.kind in ("text", "number") else to_text(cell)
                for column, cell in zip(columns, row, strict=True)
            ]
            # Readers take a lone \r for the end of a line, which the module does not quote.
            alone = any(isinstance(each, str) and "\r" in each for each in cells)
            (quoting if alone else writer).writerow(cells)
