"""What a table is, whatever its format: rows that are read one by one, columns that are written."""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from clients.errors import InvalidInput

Row = Mapping[str, Any] | InvalidInput
"""Cells by column, without those that the row lacks; or why the row cannot be read."""


class Table(Protocol):
    """A table that can be read from any row.

    Attributes:
        columns: names, in order; what stands in an object within an object is ``outer.inner``.
        inner: more names, of what stands in a value with its unit, each with that of the value,
            which is a column too.
        rows: how many there are.
        text_only: whether every cell is text, so that text says nothing of a value's type.
    """

    @property
    def columns(self) -> Sequence[str]: ...  # noqa: D102 - see above

    @property
    def inner(self) -> Mapping[str, str]: ...  # noqa: D102 - see above

    @property
    def rows(self) -> int: ...  # noqa: D102 - see above

    @property
    def text_only(self) -> bool: ...  # noqa: D102 - see above

    def read(self, start: int, wanted: Collection[str]) -> Iterator[Row]:
        """Yield the rows from one on, with the columns wanted at the least.

        Raises:
            InvalidInput: the rest of the file cannot be made sense of.
        """
        ...


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table that is written.

    Attributes:
        name: of it.
        kind: what its cells are: text; numbers; lists of texts; or anything that JSON has, which
            stands as JSON where the format has nothing of the kind.
    """

    name: str
    kind: Literal["text", "number", "texts", "json"]


Writer = Callable[[Path, Sequence[Column], Iterable[Sequence[Any]]], None]
"""Writes rows to a path; None is a missing value."""


def open_text(path: Path, encoding: str, newline: str | None = None) -> IO[str]:
    """Open a file of text to be read, packed by gzip where its name ends so. Raises `OSError`."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding=encoding, newline=newline)
    return path.open(encoding=encoding, newline=newline)


def spread(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return cells, and those of objects in them as ``outer.inner``.

    An object of a value and its unit, which is one value, stays beside them.

    Raises:
        InvalidInput: two of them have one name.
    """
    found: dict[str, Any] = {}
    for name, cell in cells.items():
        inner = {name: cell}
        if isinstance(cell, dict):
            within = {f"{name}.{each}": value for each, value in spread(cell).items()}
            inner = inner | within if cell.keys() <= {"value", "unit"} else within
        for each in inner.keys() & found.keys():
            raise InvalidInput(each, "appears twice in a row", accepted="one value")
        found |= inner
    return found


def inner_names(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of what stands in a row's values with their units, each with the value's.

    Args:
        row: see `spread`.
    """
    found: dict[str, str] = {}
    for name, cell in row.items():
        if isinstance(cell, dict) and name not in found:
            found |= {f"{name}.{each}": name for each in spread(cell)}
    return found


def to_text(value: Any) -> str:
    """Return a value as JSON in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def refuse_repeated(path: Path, columns: Sequence[str]) -> None:
    """Refuse a table two of whose columns have one name. Raises `InvalidInput`."""
    for name, times in Counter(columns).items():
        if times > 1:
            raise unreadable(path, f"two columns are named {name!r}")


def unreadable(path: Path, reason: str, accepted: str = "") -> InvalidInput:
    """Return the error of a table that cannot be read."""
    return InvalidInput("input", f"cannot read {path}: {reason}", accepted=accepted)
