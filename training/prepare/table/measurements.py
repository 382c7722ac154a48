"""Rows of a series, long or wide, as hours and the task's variables."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lanistr.errors import ConfigError, InputError, unknown_name
from lanistr.fields import FieldSpec, NumberField, listed_words, whole
from training.prepare.table.cells import read_field, read_hours, read_name
from training.prepare.table.columns import SeriesColumns, unknown_names
from training.prepare.table.parts import Setting
from training.prepare.table.rows import MissingWords, Row, fold_words, outer_names
from training.prepare.table.tabular import stored


class MeasurementReader:
    """Reads one row after the other; reports a name that nobody knows once, and counts the rest.

    Attributes:
        missing: which words mean a missing value in a series.
        columns: what every series must have beside its variables.
        variables: the columns of wide rows.
        strays: how many values of unknown variables were left out, by name.
        met: the variables that a series named.
    """

    def __init__(self, source: SeriesColumns, setting: Setting) -> None:
        assert setting.task.timeseries is not None
        self._source, self._setting = source, setting
        self.missing = MissingWords(
            setting.source.missing, setting.source.missing_in, source.decimal
        )
        variables = setting.task.timeseries.variables
        unknown_names(source.names, variables, "source.timeseries.names", "variables of the task")
        self._specs: dict[str, tuple[str, FieldSpec]] = {
            source.names.get(name, name): (name, spec) for name, spec in variables.items()
        }
        if len(self._specs) < len(variables):
            raise ConfigError(
                "two variables have the same column",
                code="repeated_column",
                field="source.timeseries.names",
                seen=dict(source.names),
                accepted="a separate column or name for each variable",
            )
        folded = Counter(word.casefold() for word in self._specs)
        self._words = {word: word for word in self._specs} | {
            word.casefold(): word for word in self._specs if folded[word.casefold()] == 1
        }
        self._listed = {c: fold_words(listed_words(spec)) for c, (_, spec) in self._specs.items()}
        self._named = fold_words(self._specs)
        self.long = source.variable is not None
        named = (source.time, source.variable, source.value, source.unit)
        self.columns = tuple(column for column in named if column is not None)
        self.variables = () if self.long else tuple(self._specs)
        self._known = {*self.columns, *self._specs, *source.ignore}
        self._outer = {outer for column in self._known for outer in outer_names(column)}
        self._ignored = {word.casefold() for word in source.ignore}
        self.strays: dict[str, int] = {}
        self.met: set[str] = set()

    def read(self, row: Row, start: datetime | None) -> tuple[float, dict[str, Any]] | None:
        """Return hours and values of one row; None where nothing can be used.

        Args:
            row: of a series.
            start: the date from which the case's hours count, where its times are dates.
        """
        missing, problems = self.missing, self._setting.problems
        time = missing.value(row, self._source.time)
        try:
            if time is None:
                raise InputError("the row has no time", code="no_time", accepted="a time")
            hours = read_hours(time, self._source.time_unit, start, self._source.decimal)
        except InputError as exc:
            row.leave_out(problems, self._source.time, exc)
            return None
        values = self._long(row) if self.long else self._wide(row)
        return (hours, values) if values else None

    def strangers(self, row: Row) -> None:
        """Report the columns of a case's own series that are none of the variables."""
        if not self.long:
            for column in row.cells:
                if column not in self._known and not self._is_spread(row, column):
                    self._stray(row, column, column)

    def _is_spread(self, row: Row, column: str) -> bool:
        """Whether a column is an object with a known one in it, or stands in a known object."""
        if column in self._outer:
            return row.cells[column] is None or isinstance(row.cells[column], Mapping)
        found = (row.cells.get(outer) for outer in outer_names(column) if outer in self._known)
        return any(isinstance(each, Mapping) for each in found)

    def _wide(self, row: Row) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if len(self.met) < len(self._specs):
            self.met.update(self._specs[column][0] for column in self._specs.keys() & row.cells)
        for column, (name, spec) in self._specs.items():
            raw = self.missing.value(row, column, self._listed[column])
            if raw is not None:
                self._take(values, row, column, name, spec, raw)
        return values

    def _long(self, row: Row) -> dict[str, Any]:
        source, missing, problems = self._source, self.missing, self._setting.problems
        assert source.variable is not None
        assert source.value is not None
        word = missing.value(row, source.variable, self._named)
        values: dict[str, Any] = {}
        if word is None:
            exc = InputError("the row names no variable", code="no_variable", accepted="a variable")
            row.leave_out(problems, source.variable, exc)
            return values
        try:
            name = read_name(word)
        except InputError as exc:
            row.leave_out(problems, source.variable, exc)
            return values
        words, number = self._words, whole(name, source.decimal)
        column = words.get(name) or words.get(name.casefold()) or words.get(number or name)
        if column is None:
            if self._ignored.isdisjoint({name.casefold(), number}):
                self._stray(row, source.variable, name)
            return values
        name, spec = self._specs[column]
        self.met.add(name)
        raw = missing.value(row, source.value, self._listed[column])
        if raw is None:
            return values
        # What stands beside a category, such as "points", says nothing of it.
        united = isinstance(spec, NumberField) and not isinstance(raw, Mapping)
        unit = missing.value(row, source.unit) if united and source.unit else None
        if unit is not None:
            raw = {"value": raw, "unit": str(unit)}
        self._take(values, row, source.value, name, spec, raw)
        return values

    def _take(
        self, values: dict[str, Any], row: Row, column: str, name: str, spec: FieldSpec, raw: Any
    ) -> None:
        try:
            values[name] = stored(read_field(raw, spec, self._source.decimal))
        except InputError as exc:
            row.lose_value(self._setting.problems, column, exc)

    def _stray(self, row: Row, column: str, name: str) -> None:
        self.strays[name] = self.strays.get(name, 0) + 1
        if self.strays[name] == 1:
            accepted = unknown_name(name, self._specs)
            row.lose_value(
                self._setting.problems,
                column,
                InputError(
                    "not a variable of the task (reported once per name)",
                    code="unknown_variable",
                    seen=name,
                    accepted=f"{accepted}; or list it in `source`, timeseries.ignore",
                ),
            )

    def report_unmet(self, file: str) -> None:
        """Report the variables that no series named."""
        for column, (name, _) in self._specs.items():
            if name not in self.met:
                self._setting.problems.add(
                    "never_measured",
                    f"no series has the variable {name!r}; accepted: its name in `source`, "
                    "timeseries.names, or a task without it; the variable counts as missing",
                    file=file,
                    column=column,
                )
