"""The task's fields from the columns of a table."""

from typing import Any

from lanistr.errors import InputError
from lanistr.fields import listed_words
from lanistr.preprocess.values import read_value
from lanistr.sample import Quantity
from training.prepare.table.cells import read_field
from training.prepare.table.columns import unknown_names
from training.prepare.table.parts import CaseName, PartReader, Setting
from training.prepare.table.rows import Row, fold_words


class TabularReader(PartReader):
    """Reads each field's column, of the same name where none is given."""

    def __init__(self, setting: Setting) -> None:
        assert setting.task.tabular is not None
        self._setting = setting
        fields = setting.task.tabular.fields
        unknown_names(setting.source.tabular, fields, "source.tabular", "fields of the task")
        self._fields = {
            name: (setting.source.tabular.get(name, name), spec, fold_words(listed_words(spec)))
            for name, spec in fields.items()
        }
        self.columns = tuple(column for column, *_ in self._fields.values())

    def read(self, row: Row, case: CaseName) -> Any:
        """Return the row of the fields that have a value."""
        values: dict[str, Any] = {}
        for name, (column, spec, listed) in self._fields.items():
            raw = self._setting.missing.value(row, column, listed)
            if raw is None:
                continue
            try:
                value = read_field(raw, spec, self._setting.source.decimal)
            except InputError as exc:
                row.lose_value(self._setting.problems, column, exc)
            else:
                values[name] = stored(value)
        return values or None

    def restore(self, kept: Any, position: int) -> Any:
        """Return the row as a `Sample` has it."""
        if kept is None:
            return None
        return {name: read_value(value, name) for name, value in kept.items()}


def stored(value: Any) -> Any:
    """Return a value as JSON has it, and as `read_value` takes it."""
    if isinstance(value, Quantity):
        return {"value": value.value, "unit": value.unit}
    return value
