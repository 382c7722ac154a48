"""Which column of a table is what, and a row of it as a record that the service takes.

Columns called ``id``, ``text``, ``image`` and ``timeseries`` are these; one that is called as a
field of the task's table row, with ``tabular.`` before it or without, is that field. Others are
named by the user, or left alone and reported.
"""

import base64
import math
import re
import stat
from argparse import ArgumentParser
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from clients.errors import InvalidInput
from clients.parts import from_json, string
from clients.reading import AS_USUAL, NUMBER, Missing, Reading
from clients.request import PARTS, record
from clients.tables import Table
from clients.target import Field, Target, fold

# As the service reads them; a test compares the two.
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?")
DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)

_BASE64 = re.compile(r"[A-Za-z0-9+/]{256,}={0,2}")
"""A picture, and no path: that has a dot before the end, and names of less than 256 letters."""

_LARGEST = 200_000_000
"""Bytes of a picture's file, as where tables are prepared."""

_TABULAR = "tabular"
_FIELD = "tabular."
"""What a field's whole name begins with."""

_HOURS = ("", "h", "hr", "hrs", "hour", "hours")
"""Units in which a number may be that of a duration's hours, see `fold`."""

_LISTS = ("text", "image")
"""Parts that may be several."""

_NONE = Field("")
"""What is no field lists nothing."""

_USUAL = Missing()

Named = Mapping[str, str | Sequence[str]]
"""Column by part or field; of notes and pictures several, each of them one."""


def add_column_option(parser: ArgumentParser) -> None:
    """Add the option that names columns; `named_columns` reads it."""
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="use this column for a modality (text) or a field (tabular.age) if its name differs; "
        "may be repeated, for text and image also with the same NAME",
    )


def named_columns(pairs: Sequence[str]) -> dict[str, list[str]]:
    """Return columns by part or field, of words such as ``text=letter``.

    Raises:
        InvalidInput: one is not such a word.
    """
    named: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals:
            raise InvalidInput("--column", f"is {pair!r}", accepted="such as text=letter")
        named.setdefault(name, []).append(column)
    return named


class Columns:
    """The columns of a table, matched with the parts and fields of a task.

    Args:
        columns: names, of the table.
        target: the task.
        folder: where paths of pictures start.
        named: column by part or field, where they have another name.
        text_only: whether every cell is text, so that text says nothing of a value's type.
        inner: more names, see `clients.tables.table.Table`.
        reading: how cells are written.

    Attributes:
        sources: columns by part (``text``) or field (``tabular.age``).
        unused: columns that are none of them, each with the name that it may have been meant for.
        absent: parts and fields without a column.

    Raises:
        InvalidInput: a name is not known, two columns are the same thing, or no column can be used.
    """

    def __init__(
        self,
        columns: Sequence[str],
        target: Target,
        folder: Path,
        named: Named | None = None,
        *,
        text_only: bool = False,
        inner: Mapping[str, str] | None = None,
        reading: Reading = AS_USUAL,
    ) -> None:
        inner = inner or {}
        self._reading = reading
        self._missing, self._missing_in = reading.missing_words()
        self._text_only = text_only
        self._fields = {_FIELD + name: field for name, field in target.fields.items()}
        self._variables = target.variables
        self._folder = folder
        parts = [name for name in PARTS if name == "id" or name in target.modalities]
        parts = [name for name in parts if name != _TABULAR]
        self._known = [*parts, *self._fields]
        self.sources: dict[str, tuple[str, ...]] = {}
        self._some_whole = False
        self._take_named(named or {}, [*columns, *inner])
        _refuse_unknown("missing_in", reading.missing_in, [*columns, *inner, *self._variables])
        unused = self._take_others([*columns, *inner], inner)
        self.absent = [place for place in self._known if place not in self.sources]
        # Of a value that is read, or not, as a whole, nothing is to be said of what stands in it.
        opened = {inner[each] for each in self.wanted & inner.keys()} - self.wanted
        told = (each for each in unused if inner.get(each, each) in {each} | opened)
        self.unused = {column: _nearest(column, self.absent) for column in told}
        if not self.sources.keys() - {"id"}:
            found = ", ".join(columns) or "no columns"
            seen = f"none of its columns is used by {target.task}: {found}"
            raise InvalidInput("input", seen, accepted=", ".join(self._known))

    @classmethod
    def of_table(
        cls, table: Table, path: Path, target: Target, named: Named | None, reading: Reading
    ) -> Self:
        """Return the columns of a table that stands at a path; see `Columns`."""
        return cls(
            table.columns,
            target,
            reading.pictures_of(path),
            named,
            text_only=table.text_only,
            inner=table.inner,
            reading=reading,
        )

    def _take_named(self, named: Named, columns: Sequence[str]) -> None:
        for name, chosen in named.items():
            field, place = f"columns.{name}", self._place(name)
            chosen = (chosen,) if isinstance(chosen, str) else tuple(chosen)
            if place is None:
                accepted = _near(name, self._known)
                raise InvalidInput(field, "is not a modality or field", accepted=accepted)
            _refuse_unknown(field, chosen, columns)
            if not chosen or (len(chosen) > 1 and place not in _LISTS):
                raise InvalidInput(field, f"has {len(chosen)} columns", accepted="one column")
            self.sources[place] = chosen

    def _take_others(self, columns: Sequence[str], inner: Collection[str]) -> list[str]:
        """Take columns that are called as what they are; return those that are not used."""
        named, spoken_for, unused = set(self.sources), self.wanted, []
        within = any(column.startswith(_FIELD) and column not in inner for column in columns)
        for column in columns:
            place = self._place(column)
            if column in spoken_for:
                continue
            if within and column == _TABULAR:
                # Of JSON lines: the rows that have no object there, for nothing or by mistake.
                self._some_whole = True
            elif place is None or place in named:
                unused.append(column)
            elif place in self.sources:
                seen = f"could be {self.sources[place][0]!r} or {column!r}"
                accepted = "one of them, named with --column or `columns`"
                raise InvalidInput(f"columns.{place}", seen, accepted=accepted)
            else:
                self.sources[place] = (column,)
        return unused

    def _place(self, name: str) -> str | None:
        """Return the part or field that is called so; a field called as a part, by ``tabular.``."""
        if name in PARTS:
            return name if name in self._known else None
        return next((each for each in (name, _FIELD + name) if each in self._known), None)

    @property
    def wanted(self) -> set[str]:
        """The columns that are read."""
        found = {column for columns in self.sources.values() for column in columns}
        return found | {_TABULAR} if self._some_whole else found

    def id(self, row: Mapping[str, Any]) -> str | None:
        """Return what a row is called, where it is."""
        cells = [self._read(row.get(each), each) for each in self.sources.get("id", ())]
        found = self._id(cells) if cells else None
        try:
            return None if found is None else string(found, "id")
        except InvalidInput:  # as `record` says
            return None

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as plain JSON values, what is missing left out. Reads pictures.

        Raises:
            InvalidInput: a value that cannot be sent.
        """
        try:
            return self._record(row)
        except RecursionError:
            raise InvalidInput("row", "is nested too deep") from None

    def _record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if self._some_whole and _cell(row.get(_TABULAR)) not in (None, {}):
            raise InvalidInput(
                _TABULAR, "is not an object", accepted="an object of field names and values"
            )
        case: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        for place, columns in self.sources.items():
            field = self._fields.get(place, _NONE)
            read = (self._read(row.get(each), each, field) for each in columns)
            cells = [cell for cell in read if cell is not None]
            if not cells:
                continue
            if place in self._fields:
                fields[place.removeprefix(_FIELD)] = self._value(cells[0], field, place)
            else:
                case[place] = _READERS[place](self, cells)
        if fields:
            case["tabular"] = fields
        return record({name: part for name, part in case.items() if part is not None})

    def _read(self, cell: Any, column: str, field: Field = _NONE) -> Any:
        return _cell(cell, field, self._missing_in.get(column, self._missing))

    def _value(self, cell: Any, field: Field, place: str) -> Any:
        """Return text as a number where that is all it can be; elsewhere it tells something."""
        if field.kind == "number":
            cell = self._reading.with_point(cell, place)
        else:
            cell = self._reading.word(cell, field.words)
        is_text = self._text_only and field.kind == "number" and isinstance(cell, str)
        if is_text and NUMBER.fullmatch(cell.strip()):
            return _number(cell.strip())
        return _with_unit(cell, field)

    def _id(self, cells: Sequence[Any]) -> Any:
        (cell,) = cells
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)  # whole numbers of a column in which some are missing
        return str(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else cell

    def _notes(self, cells: Sequence[Any]) -> Any:
        return cells[0] if len(cells) == 1 and isinstance(cells[0], str) else _each(cells)

    def _pictures(self, cells: Sequence[Any]) -> Any:
        found = (self._picture(each) for each in _each(cells) or ())
        return [each for each in found if each != b""] or None

    def _picture(self, cell: Any) -> Any:
        if not isinstance(cell, str):
            return cell
        if cell[:5].lower() != "data:":
            if "://" in cell:
                seen = f"{cell} is a URL, not a path"
                accepted = "the path of a file; nothing is downloaded"
                raise InvalidInput("image", seen, accepted=accepted)
            if _BASE64.fullmatch("".join(cell.split())):
                seen, accepted = (
                    "is bare base64",
                    "a path, or a data URL: data:image/jpeg;base64,…",
                )
                raise InvalidInput("image", seen, accepted=accepted)
            return self._path(cell)
        try:
            if (head := DATA_URL.match(cell)) is None:
                raise ValueError
            body = "".join(cell[head.end() :].split())  # tools break it in lines
            return base64.b64decode(body, validate=True)
        except ValueError:  # binascii's, and of letters beyond ASCII a plain one
            seen, accepted = "is a data URL without valid base64", "data:image/jpeg;base64,…"
            raise InvalidInput("image", seen, accepted=accepted) from None

    def _path(self, cell: str) -> Path:
        """Return where a picture's file is, as preparing finds it."""
        path = self._folder / cell
        try:
            if "\\" in cell and not path.exists():
                path = self._folder / cell.replace("\\", "/")  # written on Windows
            found = path.stat()
        except (OSError, ValueError):  # reading it will say why
            return path
        if not stat.S_ISREG(found.st_mode):  # a pipe is waited for, a device has no end
            seen = f"{path} is not a regular file"
            raise InvalidInput("image", seen, accepted="the path of a file")
        if found.st_size > _LARGEST:
            seen = f"{path} has {found.st_size:,} bytes"
            raise InvalidInput("image", seen, accepted=f"at most {_LARGEST:,} bytes")
        return path

    def _series(self, cells: Sequence[Any]) -> Any:
        (cell,) = cells
        if isinstance(cell, str):
            try:
                cell = from_json(cell)
            except (ValueError, RecursionError) as error:
                accepted = "a list of rows, each with `hours`, or the same as JSON"
                raise InvalidInput(
                    "timeseries", f"is not JSON: {error}", accepted=accepted
                ) from None
        if not isinstance(cell, list):
            return cell
        return [self._measurements(row) if isinstance(row, dict) else row for row in cell] or None

    def _measurements(self, row: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, each in row.items():
            variable = self._variables.get(name, _NONE)
            if (cell := self._read(each, name, variable)) is not None:
                found[name] = _with_unit(cell, variable)
        return found


_READERS = {
    "id": Columns._id,
    "text": Columns._notes,
    "image": Columns._pictures,
    "timeseries": Columns._series,
}


def _cell(cell: Any, field: Field = _NONE, missing: Missing = _USUAL) -> Any:
    """Return a cell in types that JSON has, as far as they are clear; None: it is missing.

    A value with its unit is missing where the value is. A duration is its hours, with their unit
    where the field would take the number for something else.
    """
    if isinstance(cell, dict) and "value" in cell:
        value = _plain(cell["value"], field.words, missing)
        return None if value is None else {**cell, "value": value}
    if isinstance(cell, timedelta):
        hours = cell / timedelta(hours=1)
        if field.kind != "number" or field.unit in _HOURS:
            return hours
        unit = next((each for each in _HOURS if each in field.units), "h")
        return {"value": hours, "unit": unit}
    return _plain(cell, field.words, missing)


def _plain(cell: Any, words: Collection[str], missing: Missing) -> Any:
    if missing.has(cell, words):
        return None
    match cell:
        case float():
            return None if math.isnan(cell) else cell
        case Decimal():
            whole = cell.is_finite() and cell == cell.to_integral_value()
            # No float has 20 digits.
            return int(cell) if whole else _plain(float(cell), words, missing)
    return cell


def _number(text: str) -> float:
    return int(text) if len(text) < 19 and text.lstrip("+-").isdecimal() else float(text)


def _with_unit(cell: Any, field: Field) -> Any:
    """Return text such as ``101.3 degF`` as a value and its unit, if the field knows the unit.

    A number with marks between thousands stays text, which the service reads, and says that it did.
    """
    text = cell.strip() if isinstance(cell, str) else ""
    thousands = THOUSANDS.match(text)
    number = thousands or NUMBER.match(text)
    unit = text[number.end() :].strip() if number else ""
    if number and fold(unit) in field.units:
        return {"value": number[0] if thousands else _number(number[0]), "unit": unit}
    return cell


def _each(cells: Sequence[Any]) -> list[Any] | None:
    """Return the values of cells one after another, those of lists too."""
    lists = [_present(cell) if isinstance(cell, list) else [cell] for cell in cells]
    return [each for cell in lists for each in cell] or None


def _present(values: Sequence[Any]) -> list[Any]:
    return [each for each in values if _cell(each) is not None]


def _refuse_unknown(field: str, names: Iterable[str], columns: Sequence[str]) -> None:
    for column in names:
        if column not in columns:
            accepted = _near(column, columns)
            raise InvalidInput(field, f"no column {column!r}", accepted=accepted)


def _nearest(name: str, known: Sequence[str], cutoff: float = 0.8) -> str:
    plain = {each.removeprefix(_FIELD): each for each in known}
    found = get_close_matches(name.removeprefix(_FIELD), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else ""


def _near(name: str, known: Sequence[str]) -> str:
    nearest = _nearest(name, known, cutoff=0.6)
    hint = f"did you mean {nearest!r}? " if nearest else ""
    return hint + "one of " + ", ".join(known)
