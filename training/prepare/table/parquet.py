"""Parquet: typed columns, read a batch of rows at a time; structs as JSON's objects."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from training.prepare.problems import Problems
from training.prepare.table.rows import Row, spread, stop

_ROWS_AT_ONCE = 1024


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
                raise stop(problems, "repeated_column", "two columns have one name", file=name,
                           column=column, accepted="a name of its own for each column")  # fmt: skip

    def find(self, wanted: Collection[str] = ()) -> Collection[str]:
        """Return the columns that have a name."""
        return self._columns

    def rows(self) -> Iterator[Row]:
        """Yield the rows."""
        number = 0
        try:
            with pq.ParquetFile(self._path) as file:
                nested = any(pa.types.is_struct(each.type) for each in file.schema_arrow)
                for batch in file.iter_batches(_ROWS_AT_ONCE):
                    for cells in _plain(batch).to_pylist():
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
            f"the file is damaged or cut off: {' '.join(str(exc).split())}",
            file=self._name,
            row=row,
            accepted="the whole file; copy it again",
        )


def _names(fields: Iterable[Any], within: str = "") -> Iterator[str]:
    """Yield the names of columns, and of the fields within structs behind their own."""
    for field in fields:
        yield within + field.name
        if pa.types.is_struct(field.type):
            inner = [field.type.field(i) for i in range(field.type.num_fields)]
            yield from _names(inner, f"{within}{field.name}.")


def _plain(batch: Any) -> Any:
    """Return a batch whose durations and times are those that Python knows."""
    columns = []
    for column, field in zip(batch.columns, batch.schema, strict=True):
        if pa.types.is_duration(field.type):
            column = column.cast(pa.duration("us"), safe=False)
        elif pa.types.is_timestamp(field.type):
            column = column.cast(pa.timestamp("us", field.type.tz), safe=False)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
