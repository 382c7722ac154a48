"""Parquet, of which a few rows are decoded at a time, and columns that nobody wants are not.

Nothing smaller than a page of a column can be read, and a compressed one takes its room two or
three times. How large pages are is up to whoever writes the file: pyarrow puts up to 1,024 rows
into one, whatever their size.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clients.errors import InvalidInput
from clients.tables.table import Column, Row, refuse_repeated, spread, to_text

_READ, _WRITTEN = 64, 10_000
"""Rows that are decoded, and that are written, at a time."""

_DECODED = 4_000_000
"""Bytes that are decoded at a time, a single larger row aside."""

_UNREADABLE = (ValueError, OverflowError)
"""What Python cannot have, and Parquet can: text that is not UTF-8, the year 10000."""

_TYPES = {
    "text": pa.string(),
    "number": pa.float64(),
    "texts": pa.list_(pa.string()),
    "json": pa.string(),
}


class ParquetTable:
    """A Parquet file, see `clients.tables.table`.

    Raises:
        InvalidInput: it is not Parquet, is damaged, or names a column twice.
        OSError: it cannot be read.
    """

    text_only = False

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                refuse_repeated(path, file.schema_arrow.names)
                names = list(_names(file.schema_arrow))
                self.rows: int = file.metadata.num_rows
        except pa.ArrowException as error:
            raise self._damaged(error) from error
        self.columns = [name for name, _, outer in names if not outer]
        self.inner = {name: outer for name, _, outer in names if outer}
        refuse_repeated(path, [name for name, *_ in names])
        self._roots = {name: root for name, root, _ in names}

    def read(self, start: int, wanted: Collection[str]) -> Iterator[Row]:
        """Yield the rows, see `clients.tables.table`."""
        roots = sorted({self._roots[name] for name in wanted})
        try:
            # Pages are read as they are needed: a group of rows with pictures may be large.
            with pq.ParquetFile(self._path, buffer_size=1 << 20, pre_buffer=False) as file:
                before = 0
                for number in range(file.num_row_groups):
                    group = file.metadata.row_group(number)
                    before += group.num_rows
                    if before <= start:
                        continue
                    passed = max(0, start - (before - group.num_rows))
                    few = max(
                        1, min(_READ, _DECODED * group.num_rows // max(1, group.total_byte_size))
                    )
                    for batch in file.iter_batches(few, row_groups=[number], columns=roots):
                        yield from _rows(batch.slice(min(passed, len(batch))))
                        passed = max(0, passed - len(batch))
        except pa.ArrowException as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InvalidInput:
        reason = " ".join(str(error).split())
        return InvalidInput("input", f"cannot read {self._path}: {reason}")


def write(path: Path, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, see `clients.tables.table`."""
    schema = pa.schema([(column.name, _TYPES[column.kind]) for column in columns])
    waiting = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while some := list(islice(waiting, _WRITTEN)):
            cells = zip(columns, zip(*some, strict=True), strict=True)
            writer.write_table(
                pa.Table.from_arrays([_array(*each) for each in cells], schema=schema)
            )


def _rows(batch: Any) -> Iterator[Row]:
    """Yield rows; one that Python cannot have fails for itself alone."""
    try:
        rows = batch.to_pylist()
    except _UNREADABLE:
        yield from (_row(batch.slice(i, 1)) for i in range(len(batch)))
    else:
        yield from map(spread, rows)


def _row(batch: Any) -> Row:
    cells = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            (cells[name],) = column.to_pylist()
        except _UNREADABLE as error:
            return InvalidInput("row", f"{name} cannot be read: {error}")
    return spread(cells)


def _array(column: Column, cells: Sequence[Any]) -> Any:
    if column.kind == "json":
        cells = [None if cell is None else to_text(cell) for cell in cells]
    return pa.array(cells, _TYPES[column.kind])


def _names(
    fields: Iterable[Any], within: str = "", root: str = "", outer: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield the names of columns and of the fields in structs.

    Each with that of its column, and of the value with its unit that it stands in, if in one.
    """
    for field in fields:
        name, column = within + field.name, root or field.name
        inner = field.type if pa.types.is_struct(field.type) else ()
        united = {each.name for each in inner} <= {"value", "unit"}
        if united:
            yield name, column, outer
        yield from _names(inner, f"{name}.", column, outer or (name if united else ""))
