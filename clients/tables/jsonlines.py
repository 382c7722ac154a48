"""JSON lines: an object a line."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from clients.errors import InvalidInput
from clients.parts import from_json
from clients.tables.table import Column, Row, inner_names, open_text, spread, to_text


class JsonTable:
    """JSON lines: an object a line.

    Raises:
        OSError, UnicodeError: it cannot be read.
    """

    text_only = False

    def __init__(self, path: Path, encoding: str) -> None:
        self._path, self._encoding = path, encoding
        found: dict[str, None] = {}
        inner: dict[str, str] = {}
        self.rows = 0
        for row in self.read(0, ()):
            self.rows += 1
            if not isinstance(row, InvalidInput):
                within = inner_names(row)
                inner |= within
                found.update(dict.fromkeys(name for name in row if name not in within))
        self.columns = list(found)
        self.inner = {name: outer for name, outer in inner.items() if name not in found}

    def read(self, start: int, wanted: Collection[str]) -> Iterator[Row]:
        """Yield the rows, see `clients.tables.table`."""
        with open_text(self._path, self._encoding) as file:
            for line in islice((each for each in file if not each.isspace()), start, None):
                yield _json_row(line)


def write(path: Path, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, see `clients.tables.table`."""
    names = [column.name for column in columns]
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(to_text(dict(zip(names, row, strict=True))) + "\n")


def _json_row(line: str) -> Row:
    try:
        cells = from_json(line)
    except (ValueError, RecursionError) as error:
        return InvalidInput("row", f"is not JSON: {error}")
    if not isinstance(cells, dict):
        return InvalidInput("row", "is not an object", accepted="one JSON object per line")
    try:
        return spread(cells)
    except InvalidInput as error:
        return error
