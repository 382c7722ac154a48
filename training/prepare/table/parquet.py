"""Parquet: typed columns, read a batch of rows at a time; structs as JSON's objects."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.prepare.problems import Problems
from training.prepare.table.cells import Unreadable
from training.prepare.table.rows import Row, spread, stop

_ROWS_AT_ONCE = 1024

_BYTES_AT_ONCE = 16_000_000
"""Of rows that are decoded together, a single larger one aside."""

_BEYOND = (pa.ArrowException, ValueError, OverflowError)
"""What is raised of a value that Python cannot hold, such as a date after the year 9999."""


class ParquetTable:
    """A Parquet file."""

    def __init__(self, path: Path, name: str, problems: Problems) -> None:
        self._path, self._name, self._problems = path, name, problems
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as exc:
            raise self._damaged(exc, None) from exc
        self._columns = tuple(_names(schema))
        for column in schema.names:
            if schema.names.count(column) > 1:
                raise stop(problems, "repeated_column", "two columns have the same name", file=name,
                           column=column, accepted="a unique name for each column")  # fmt: skip

    def find(self, wanted: Collection[str] = ()) -> Collection[str]:
        """Return the columns that have a name."""
        return self._columns

    def rows(self) -> Iterator[Row]:
        """Yield the rows."""
        number = 0
        try:
            # Pages are read as they are needed: a group of rows with pictures may be large.
            with pq.ParquetFile(self._path, buffer_size=1 << 20, pre_buffer=False) as file:
                nested = any(pa.types.is_struct(each.type) for each in file.schema_arrow)
                for batch in file.iter_batches(_rows_at_once(file.metadata)):
                    for cells in _rows(batch):
                        number += 1
                        yield Row(self._name, number, None, spread(cells) if nested else cells)
        except (pa.ArrowException, OSError) as exc:
            raise self._damaged(exc, number + 1) from exc
        if not number:
            raise stop(self._problems, "no_rows", "no rows", file=self._name,
                       accepted="at least one row")  # fmt: skip

    def _damaged(self, exc: Exception, row: int | None) -> Exception:
        return stop(
            self._problems,
            "damaged_parquet",
            f"the file is damaged or truncated: {' '.join(str(exc).split())}",
            file=self._name,
            row=row,
            accepted="the complete file; copy it again",
        )


def _rows_at_once(metadata: Any) -> int:
    """Return how many rows are decoded together; of the group with the longest rows as few."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    sizes = ((each.num_rows, each.total_byte_size) for each in groups if each.num_rows)
    fit = (_BYTES_AT_ONCE * rows // max(1, size) for rows, size in sizes)
    return max(1, min([_ROWS_AT_ONCE, *fit]))


def _names(fields: Iterable[Any], within: str = "") -> Iterator[str]:
    """Yield the names of columns, and of the fields within structs behind their own."""
    for field in fields:
        yield within + field.name
        if pa.types.is_struct(field.type):
            inner = [field.type.field(i) for i in range(field.type.num_fields)]
            yield from _names(inner, f"{within}{field.name}.")


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch, their cells by column."""
    names, columns = batch.schema.names, [_values(column) for column in batch.columns]
    for cells in zip(*columns, strict=True):
        yield dict(zip(names, cells, strict=True))


def _values(column: Any) -> list[Any]:
    """Return the values of a column, `Unreadable` in the place of what Python cannot hold."""
    try:
        return list(_in_microseconds(column).to_pylist())
    except _BEYOND:
        if len(column) > 1:
            half = len(column) // 2
            return _values(column[:half]) + _values(column[half:])
        if not pa.types.is_struct(column.type):
            return [Unreadable(_told(column))]
        names = [field.name for field in column.type]
        return [{n: _values(each)[0] for n, each in zip(names, column.flatten(), strict=True)}]


def _in_microseconds(column: Any) -> Any:
    """Return a column whose durations and times are those that Python knows.

    Raises:
        ArrowInvalid: one is too far from now for that.
    """
    kind = _coarse(column.type)
    if kind == column.type:
        return column
    return column.cast(options=pc.CastOptions(kind, allow_time_truncate=True))


def _coarse(kind: Any) -> Any:
    """Return a type with microseconds in the place of all that is finer or coarser."""
    types = pa.types
    if types.is_duration(kind):
        return pa.duration("us")
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if types.is_time64(kind):
        return pa.time64("us")
    if types.is_struct(kind):
        return pa.struct([each.with_type(_coarse(each.type)) for each in kind])
    if types.is_map(kind):
        return pa.map_(_coarse(kind.key_type), _coarse(kind.item_type))
    if types.is_list(kind):
        return pa.list_(_coarse_items(kind))
    if types.is_large_list(kind):
        return pa.large_list(_coarse_items(kind))
    if types.is_fixed_size_list(kind):
        return pa.list_(_coarse_items(kind), kind.list_size)
    return kind


def _coarse_items(kind: Any) -> Any:
    return kind.value_field.with_type(_coarse(kind.value_type))


def _told(cell: Any) -> str:
    """Say what a single cell holds that cannot be read."""
    if pa.types.is_temporal(cell.type):
        return f"{cell[0].value} as {cell.type}"
    if pa.types.is_string(cell.type) or pa.types.is_large_string(cell.type):
        data: bytes = cell.cast(pa.large_binary())[0].as_py()
        return data.decode("utf-8", "backslashreplace")
    return f"a value of {cell.type}"
