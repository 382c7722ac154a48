"""A time series as CSV: one row a time, a column `hours`, a column a variable.

A cell that is empty or holds one of `MISSING` is missing, unless its variable lists the word. Text
such as "101.3 degF" is a value with its unit, as where tables are prepared, and a category's digits
are a word: 01 is not 1. A column without a name is left out where all of it is missing:
spreadsheets write one behind the last for a comma. Rows count from 0, as in JSON, so that an error
names the same place whichever way the series came.
"""

import csv
import io
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import islice
from typing import Any

from lanistr.errors import InputError
from lanistr.fields import CategoryField, FieldSpec, fold, listed_words
from lanistr.preprocess.values import NumberCleaner
from service.inputs.limits import over

MISSING = frozenset({"", "na", "n/a", "nan", "null"})
"""Without regard to case. Not "none": in charts of consciousness that is a finding."""

# Python's own int and float would also take 1_000, inf and the digits of other scripts.
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")

_ACCEPTED = "comma-separated CSV in UTF-8 whose first line names the columns, including `hours`"


def decode(
    text: str, field: str, most: int, variables: Mapping[str, FieldSpec]
) -> list[dict[str, Any]]:
    """Return the rows as JSON would have brought them.

    Args:
        text: of the table.
        field: what it is, for messages.
        most: rows; no more are read, since a row takes many times the memory of its text.
        variables: of the series.

    Raises:
        InputError: not CSV, no column `hours`, a name twice, a row of another width, a value in a
            column without a name, or too many rows.
    """
    lines = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    filled = (row for row in lines if any(cell.strip() for cell in row))
    try:
        rows = list(islice(filled, 1 + most + 1))
    except csv.Error as exc:
        message = f"not CSV: {exc}"
        seen = f"line {lines.line_num}"
        raise InputError(
            message, code="not_csv", field=field, seen=seen, accepted=_ACCEPTED
        ) from None
    names = [name.strip() for name in rows[0]] if rows else []
    named = [name for name in names if name]
    if "hours" not in names or len(set(named)) < len(named):
        fault = "a column appears twice" if "hours" in names else "no column 'hours'"
        seen = ", ".join(names)
        raise InputError(fault, code="not_csv", field=field, seen=seen, accepted=_ACCEPTED)
    if len(rows) > 1 + most:
        raise over("too_many", field, f"more than {most:,} rows", f"{most:,}")
    unnamed = [k for k, name in enumerate(names) if not name]
    for i, row in enumerate(rows[1:]):
        if len(row) != len(names):
            raise InputError(
                "a row has the wrong number of cells",
                code="not_csv",
                field=f"{field}[{i}]",
                seen=f"{len(row)} cells",
                accepted=f"{len(names)} cells, as in the first line",
            )
        for k in unnamed:
            if _word(row[k]) is not None:
                raise InputError(
                    f"column {k + 1} has no name",
                    code="not_csv",
                    field=f"{field}[{i}]",
                    seen=row[k].strip(),
                    accepted="a column name in the first line, or no values in this column",
                )
    columns = [(k, name, _reader(variables.get(name))) for k, name in enumerate(names) if name]
    return [{name: read_cell(row[k]) for k, name, read_cell in columns} for row in rows[1:]]


def _reader(spec: FieldSpec | None) -> Callable[[str], Any]:
    """Return what makes a value of a cell; a category's cleaner knows how 7.0 is meant itself."""
    if isinstance(spec, CategoryField):
        return partial(_word, missing=MISSING - {fold(word) for word in listed_words(spec)})
    return partial(_number, known=NumberCleaner(spec) if spec else None)


def _word(text: str, missing: Collection[str] = MISSING) -> str | None:
    """Return what a cell holds, None where that is one of the words that mean missing."""
    text = text.strip()
    return None if fold(text) in missing else text


def _number(text: str, known: NumberCleaner | None) -> Any:
    """Return a number where JSON would have had one; other words stay words.

    Args:
        text: of the cell.
        known: knows the units of its variable.
    """
    word = _word(text)
    if word is None:
        return None
    if NUMBER.fullmatch(word):
        return int(word) if len(word) < 19 and word.lstrip("+-").isdecimal() else float(word)
    quantity = known.united(word) if known else None
    return {"value": quantity.value, "unit": quantity.unit} if quantity else word
