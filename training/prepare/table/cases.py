"""The rows of the main table as checked cases: who, which split, which label, which parts."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from lanistr.errors import ConfigError, InputError, TaskError, unknown_name
from lanistr.fields import fold, whole
from lanistr.modalities import Modality
from lanistr.sample import Sample
from training.data.store import SPLITS, Split
from training.prepare.table.cells import counts_hours, read_amount, read_key, read_name, read_number
from training.prepare.table.columns import SPLIT_WORDS
from training.prepare.table.image import ImageReader
from training.prepare.table.parts import CaseName, PartReader, Setting
from training.prepare.table.rows import Row, fold_words, require, stop
from training.prepare.table.tables import Table
from training.prepare.table.tabular import TabularReader
from training.prepare.table.text import TextReader
from training.prepare.table.timeseries import SeriesReader

READERS: Mapping[Modality, type[PartReader]] = {
    Modality.TEXT: TextReader,
    Modality.IMAGE: ImageReader,
    Modality.TABULAR: TabularReader,
    Modality.TIMESERIES: SeriesReader,
}


class CaseReader:
    """Checks each row once and keeps what can be used; tells the cases as often as wanted.

    Attributes:
        split_of: the split of every group, where a column says it; empty otherwise.
        groups: every group.
        unlabelled: how many cases have no label.
    """

    def __init__(self, table: Table, name: str, setting: Setting) -> None:
        """Hold the columns that are needed against those that there are.

        Args:
            table: the main table.
            name: as the user called it.
            setting: what the readers share.

        Raises:
            DataError: a column is missing.
            ConfigError: a name in `source` is none of the task's.
        """
        self._table, self._name, self._setting = table, name, setting
        self._parts = {m: READERS[m](setting) for m in setting.task.modalities}
        source = setting.source
        singles = (source.id, source.group, source.split, source.label)
        self._columns = dict.fromkeys(
            [
                *(each for each in singles if each is not None),
                *source.subgroups,
                *(column for part in self._parts.values() for column in part.columns),
            ]
        )
        for m, part in self._parts.items():
            if source.label in part.columns and source.label is not None:
                raise ConfigError(
                    f"the label is also an input in {m}, which would reveal the answer",
                    code="label_as_input",
                    field="source.label",
                    seen=source.label,
                    accepted="a task whose inputs do not include the label",
                )
        found = table.find([*self._columns, *source.missing_in])
        require(self._columns, found, name, setting.problems)
        if source.timeseries is None:  # whose columns may be meant
            require(source.missing_in, found, name, setting.problems)
        words = ((read_key(word, source.decimal), s) for word, s in source.split_words.items())
        self._splits = {**SPLIT_WORDS, **{fold(word): split for word, split in words}}
        self._classes = _Classes(setting)
        self._rows_of: dict[str, int] = {}
        self._seen: set[bytes] = set()
        self.split_of: dict[str, Split] = {}
        self.groups: set[str] = set()
        self.unlabelled = 0

    def check(self, *, learns: bool = True) -> None:
        """Read the table, and the series' table where there is one.

        Args:
            learns: whether something is fitted on the training split.

        Raises:
            DataError: they cannot be made sense of, or there are too many problems.
        """
        position = 0
        for row in self._table.rows():
            try:
                record = self._record(row)
            except _LeftOutError:
                continue
            name = CaseName(position, record["id"])
            kept = {m: part.read(row, name) for m, part in self._parts.items()}
            record["parts"] = {m: part for m, part in kept.items() if part is not None}
            self._setting.store.add(position, record, bare=not record["parts"])
            position += 1
        if learns and self.split_of and "train" not in self.split_of.values():
            raise stop(
                self._setting.problems,
                "no_training",
                "the training split is empty",
                file=self._name,
                column=self._setting.source.split or "",
                accepted="training cases; in `source`, split_words; or --preprocessing from"
                " elsewhere",
            )
        for part in self._parts.values():
            part.finish()
        self._refuse_bare()

    def samples(self) -> Iterator[Sample]:
        """Yield the cases in the order of the table."""
        for position, record in self._setting.store.cases():
            parts = {
                m: part.restore(record["parts"].get(m), position) for m, part in self._parts.items()
            }
            yield Sample(
                {m: part for m, part in parts.items() if part is not None},
                id=record["id"],
                label=record["label"],
                group=record["group"],
                subgroups=record["subgroups"],
            )

    def place_of(self, case: Sample) -> tuple[str, int]:
        """Return the table and the row that a case is of."""
        return self._name, self._rows_of[str(case.id)]

    def provenance(self) -> dict[str, Any]:
        """Say what was read beside the main table."""
        return {
            name: value
            for part in self._parts.values()
            for name, value in part.provenance().items()
        }

    # ---- one row --------------------------------------------------------------------------------

    def _record(self, row: Row) -> dict[str, Any]:
        """Return all but the parts of a row.

        Raises:
            _LeftOutError: the row cannot be used, and was reported.
        """
        source = self._setting.source
        if source.repeated_rows == "leave out":
            self._refuse_repeated(row)
        case_id = self._case_id(row)
        group = case_id if source.group is None else self._named(row, source.group, "group")
        if source.split is not None:
            self._deal(row, source.split, group)
        self.groups.add(group)
        label = self._label(row)
        self.unlabelled += label is None
        self._rows_of[case_id] = row.number
        subgroups = {column: self._subgroup(row, column) for column in source.subgroups}
        return {
            "row": [row.number, row.line],
            "id": case_id,
            "group": group,
            "label": label,
            "subgroups": {column: word for column, word in subgroups.items() if word is not None},
        }

    def _refuse_repeated(self, row: Row) -> None:
        cells = json.dumps(row.cells, sort_keys=True, default=str, ensure_ascii=False)
        digest = hashlib.blake2b(cells.encode("utf-8", "replace"), digest_size=16).digest()
        if digest in self._seen:
            raise self._leave_out(
                row, "", "repeated_row", "a copy of an earlier row",
                accepted="each row once; or, in `source`, repeated_rows: keep",
            )  # fmt: skip
        self._seen.add(digest)

    def _case_id(self, row: Row) -> str:
        column = self._setting.source.id
        if column is None:
            return f"row-{row.number}"
        case_id = self._named(row, column, "id")
        if case_id in self._rows_of:
            raise self._leave_out(
                row, column, "repeated_id", f"the same id as row {self._rows_of[case_id]}",
                seen=case_id, accepted="a unique id for each case",
            )  # fmt: skip
        return case_id

    def _named(self, row: Row, column: str, what: str) -> str:
        """Return the name of a case or group, without which the row is of no use."""
        value = self._setting.missing.value(row, column)
        if value is None:
            raise self._leave_out(
                row, column, f"missing_{what}", f"no {what}", accepted="a name or number"
            )
        try:
            return read_key(value, self._setting.source.decimal)
        except InputError as exc:
            row.leave_out(self._setting.problems, column, exc)
            raise _LeftOutError from None

    def _deal(self, row: Row, column: str, group: str) -> None:
        word = self._named(row, column, "split")
        split = self._splits.get(fold(word))
        if split is None:
            raise self._leave_out(
                row, column, "unknown_split", "no split", seen=word,
                accepted=f"{', '.join(SPLITS)}; or, in `source`, split_words",
            )  # fmt: skip
        settled = self.split_of.setdefault(group, split)
        if settled != split:
            raise self._leave_out(
                row, column, "group_in_two_splits",
                f"{group!r} is already in {settled}", seen=word,
                accepted="the same split for all rows of a group",
            )  # fmt: skip

    def _label(self, row: Row) -> str | float | None:
        column = self._setting.source.label
        if column is None:
            return None
        value = self._setting.missing.value(row, column, self._classes.listed)
        if value is None:
            return None
        try:
            return self._classes.read(value)
        except (InputError, TaskError) as exc:
            row.lose_value(self._setting.problems, column, exc)
            return None

    def _subgroup(self, row: Row, column: str) -> str | None:
        value = self._setting.missing.value(row, column)
        try:
            return None if value is None else read_name(value)
        except InputError as exc:
            row.lose_value(self._setting.problems, column, exc)
            return None

    def _leave_out(
        self, row: Row, column: str, code: str, message: str, *, seen: Any = None, accepted: str
    ) -> "_LeftOutError":
        row.leave_out(
            self._setting.problems,
            column,
            InputError(message, code=code, seen=seen, accepted=accepted),
        )
        return _LeftOutError()

    def _refuse_bare(self) -> None:
        for record in self._setting.store.take_bare():
            number, line = record["row"]
            self._leave_out(
                Row(self._name, number, line, {}),
                "",
                "nothing_usable",
                "nothing in the row can be used",
                accepted="at least one of " + ", ".join(self._parts),
            )


class _LeftOutError(Exception):
    """A row cannot be used; it was reported."""


class _Classes:
    """Reads the label's column.

    Attributes:
        listed: the words that mean something in it, folded.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        label = setting.task.label
        self._known = {fold(each): each for each in label.classes}
        if len(self._known) < len(label.classes):  # they differ in case alone
            self._known = {each: each for each in label.classes}
        for word, meaning in setting.source.label_words.items():
            label.encode(_number(meaning) if label.kind == "regression" else meaning)
            self._known[fold(word)] = meaning
        self.listed = fold_words(self._known)

    def read(self, value: Any) -> str | float:
        """Return the class, or the number.

        Raises:
            InputError, TaskError: it is neither.
        """
        label = self._setting.task.label
        if label.kind == "regression":
            with suppress(InputError):  # what is no word is told as a number below
                value = self._meant(read_name(value)) or value
            if isinstance(value, timedelta) and not counts_hours(label.unit):
                raise InputError(
                    "a duration, but the label's unit is not hours",
                    code="unknown_unit",
                    seen=str(value),
                    accepted=f"a number of {label.unit}",
                )
            found = read_amount(value, self._setting.source.decimal)
            if isinstance(found, bool) or not isinstance(found, int | float):
                found = str(value)
            return label.encode(found)
        word = read_name(value)
        known = self._meant(word)
        if known is None:
            raise InputError(
                "not a label",
                code="bad_label",
                seen=word,
                accepted=unknown_name(word, label.classes) + "; or, in `source`, label_words",
            )
        return known

    def _meant(self, word: str) -> str | None:
        """Return what the task calls a word, or `label_words` says of it; None: nothing."""
        spelled = (word, fold(word), whole(word.strip(), self._setting.source.decimal))
        return next((self._known[each] for each in spelled if each in self._known), None)


def _number(word: str) -> float | str:
    found = read_number(word)
    return found if isinstance(found, int | float) else word
