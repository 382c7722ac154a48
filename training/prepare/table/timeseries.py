"""Series of the cases: one table for all, one file each, or rows in a cell of the main table."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from lanistr.errors import ConfigError, DataError, InputError
from lanistr.preprocess.values import read_value
from lanistr.sample import Measurements
from training.prepare.lazy import Lazy
from training.prepare.sources import file_hashes
from training.prepare.table.cells import read_date, read_key
from training.prepare.table.files import NamedFiles, find_below
from training.prepare.table.measurements import MeasurementReader
from training.prepare.table.parts import CaseName, PartReader, Setting
from training.prepare.table.rows import Row, require, stop
from training.prepare.table.tables import Table, open_table

_LARGEST = 200_000_000
"""Bytes of a case's own file."""

Kept = tuple[int, float, Mapping[str, Any]]
"""Position of the case, hours, values by variable."""


class SeriesReader(PartReader):
    """Keeps a case's own series at once; the table of all series is read after the main one."""

    def __init__(self, setting: Setting) -> None:
        source = setting.source.timeseries
        assert source is not None
        if source.file is not None and setting.source.id is None:
            raise ConfigError(
                "a table of all series needs the cases' ids",
                code="no_id",
                field="source.id",
                accepted="the main table's column with the case's id",
            )
        self._setting, self._source = setting, source
        self._reader = MeasurementReader(source, setting)
        named = "folder" if source.file is None else "file"
        # The table of all series, or the folder of one file a case.
        self._path = find_below(
            setting.files,
            getattr(source, named),
            source.outside,
            f"source.timeseries.{named}",
        )
        self._files = NamedFiles(self._path, source.outside)
        self._cases: dict[str, tuple[int, datetime | None]] = {}
        self._undated: set[str] = set()
        self._others = self._rows_undated = 0
        self._main = ""
        self.columns = tuple(each for each in (source.column, source.start) if each is not None)

    def read(self, row: Row, case: CaseName) -> Any:
        """Keep the case's own series, or remember the case; its record says nothing of either."""
        source, problems = self._source, self._setting.problems
        self._main, start = row.file, None
        if source.start is not None:
            try:
                start = self._start(row, source.start)
            except InputError as exc:
                row.lose_value(problems, source.start, exc)
                self._undated.add(case.id)
                return None
        if source.column is None:
            self._cases[case.id] = (case.position, start)
            return None
        value = self._setting.missing.value(row, source.column)
        if value is None:
            return None
        try:
            rows = self._inline(row, value) if isinstance(value, list) else self._own(value)
            # A series that breaks off is not kept in part.
            found = [kept for each in rows if (kept := self._reader.read(each, start))]
        except InputError as exc:
            row.lose_value(problems, source.column, exc, seen=value)
        except DataError as exc:  # of the case's own file, and written down
            if exc.code == "too_many_problems":
                raise
        else:
            self._setting.store.measure((case.position, *each) for each in found)
        return None

    def restore(self, kept: Any, position: int) -> Any:
        """Return the case's measurements, to be fetched when they are looked at."""
        measured = self._setting.store.is_measured(position)
        return Lazy(partial(self._fetch, position)) if measured else None

    def finish(self) -> None:
        """Read the table of all series."""
        if self._source.file is None:
            self._reader.report_unmet(self._main)
        else:
            path = self._path
            table = open_table(path, self._source, self._setting.problems)
            assert self._source.id is not None
            wanted = (self._source.id, *self._reader.columns, *self._reader.variables)
            require(wanted, table.find(wanted), str(path), self._setting.problems)
            self._setting.store.measure(self._all(table, self._source.id, str(path)))
            self._reader.report_unmet(str(path))
        self._setting.store.close_measured()

    def provenance(self) -> dict[str, Any]:
        """Hash what was read, and count what was in it and not used."""
        strays = dict(sorted(self._reader.strays.items()))
        if self._source.file is None:
            return {"series": self._files.provenance(), "unknown_variables": strays}
        return {
            "series": file_hashes(self._path.parent, [self._path]),
            "rows_of_other_cases": self._others,
            "rows_without_start": self._rows_undated,
            "unknown_variables": strays,
        }

    def _fetch(self, position: int) -> Iterator[Measurements]:
        for hours, values in self._setting.store.measured(position):
            yield Measurements(hours, {name: read_value(v, name) for name, v in values.items()})

    def _all(self, table: Table, id_column: str, name: str) -> Iterator[Kept]:
        matched, row = 0, None
        for row in table.rows():
            value = self._reader.missing.value(row, id_column)
            try:
                if value is None:
                    raise InputError(
                        "the row has no case id", code="missing_id", accepted="a case's id"
                    )
                key = read_key(value, self._source.decimal)
            except InputError as exc:
                row.leave_out(self._setting.problems, id_column, exc)
                continue
            case = self._cases.get(key)
            if case is None:
                self._rows_undated += key in self._undated
                self._others += key not in self._undated
                continue
            matched += 1
            found = self._reader.read(row, case[1])
            if found:
                yield case[0], *found
        known = [*self._cases, *self._undated]
        if not matched + self._rows_undated and row is not None and known:
            raise stop(
                self._setting.problems,
                "no_case_matches",
                "no row belongs to a case of the main table",
                file=name,
                column=id_column,
                seen=row.cells.get(id_column),
                accepted=f"ids as in the main table, such as {known[0]!r}",
            )

    def _own(self, named: Any) -> Iterator[Row]:
        """Yield the rows of a case's own file."""
        path, _ = self._files.read(named, _LARGEST)
        table = open_table(path, self._source, self._setting.problems, str(path))
        needed = self._reader.columns
        require(needed, table.find(needed), str(path), self._setting.problems)
        for row in table.rows():
            self._reader.strangers(row)
            yield row

    def _inline(self, row: Row, items: Iterable[Any]) -> Iterator[Row]:
        for i, item in enumerate(items):
            if not isinstance(item, Mapping):
                raise InputError(
                    "not a row of a series",
                    code="wrong_type",
                    accepted=f'objects like {{"{self._source.time}": 0.5, "variable": value}}',
                )
            within = f"{self._source.column}[{i}]."
            inner = Row(row.file, row.number, row.line, item, within)
            self._reader.strangers(inner)
            yield inner

    def _start(self, row: Row, column: str) -> datetime:
        value = self._setting.missing.value(row, column)
        if value is None:
            raise InputError(
                "there is no start date for the hours of the series",
                code="no_start",
                accepted="a date; without it the series cannot be used",
            )
        return read_date(value)
