"""Notes from the columns of a table."""

from typing import Any

from lanistr.errors import InputError
from lanistr.issues import IssueLog
from lanistr.preprocess.text import TextPreprocessor
from lanistr.sample import Items
from training.prepare.table.parts import CaseName, PartReader, Setting
from training.prepare.table.rows import Row


class TextReader(PartReader):
    """Takes each column's note, or puts the columns together to one."""

    def __init__(self, setting: Setting) -> None:
        assert setting.source.text is not None
        self._setting = setting
        self._join = setting.source.text.join
        self.columns = setting.source.text.columns

    def read(self, row: Row, case: CaseName) -> Any:
        """Return the notes."""
        notes: list[str] = []
        for column in self.columns:
            value = self._setting.missing.value(row, column)
            try:
                found = TextPreprocessor.read(value, self._setting.task, IssueLog())
            except InputError as exc:
                row.lose_value(self._setting.problems, column, exc)
            else:
                notes += found or ()
        if self._join is not None and notes:
            notes = [self._join.join(notes)]
        return notes or None

    def restore(self, kept: Any, position: int) -> Any:
        """Return the notes as a `Sample` has them."""
        if kept is None:
            return None
        names = ["text"] if len(kept) == 1 else [f"text[{i}]" for i in range(len(kept))]
        return Items(kept, names)
