"""The cell of a table as the value that it means: a number, a word, a time.

Text cells are read as strictly as JSON has them: a number is digits with a point, or with the comma
that the user named. What the task's own cleaner would refuse is refused here, where file, row and
column are known.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

from lanistr.errors import InputError
from lanistr.fields import CategoryField, FieldSpec, NumberField, fold, listed_words, whole
from lanistr.issues import IssueLog
from lanistr.preprocess.values import THOUSANDS, cleaner, read_value
from lanistr.sample import Quantity, Value

Decimals = Literal[".", ","]

_HOUR = timedelta(hours=1)
HOURS = {"seconds": 1 / 3600, "minutes": 1 / 60, "hours": 1.0, "days": 24.0}

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WITH_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
# No group of thousands starts with a zero, nor has it an exponent: "0.375" has a decimal point.
_COMMAS = re.compile(
    r"[+-]?([0-9]+(,[0-9]+)?([eE][+-]?[0-9]+)?|[1-9][0-9]{0,2}(\.[0-9]{3})+(,[0-9]+)?)"
)
_WITH_UNIT = re.compile(
    r"(?!0[xob][0-9a-f]+$|[+-]?[0-9\s.,]+$)([+-]?[0-9.,]+(?:e[+-]?[0-9]+)?)"
    r"(?:\s+|(?![0-9]))([^\s.,+_-].*)",
    re.IGNORECASE,
)
"""Neither 0x20 nor 4_5, which are numbers to a programming language, has a unit, nor has 1 234.

Behind white space a unit may begin with a digit: 80 1/min.
"""
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A cell that a file holds and Python cannot.

    Attributes:
        text: what stands there, as far as it can be told.
    """

    text: str

    def __repr__(self) -> str:
        return self.text


def read_number(value: Any, decimal: Decimals = ".") -> Value:
    """Return what a cell says of a number: the number, one with its unit, or text that is neither.

    A duration is its number of hours.

    Raises:
        InputError: a date, a list, a decimal comma that nobody spoke of, or a number beyond all
            that a float holds.
    """
    if isinstance(value, Decimal):
        exact = _exact(value)
        return float(value) if isinstance(exact, str) else exact
    if isinstance(value, timedelta):
        return value / _HOUR
    if isinstance(value, date | time):
        raise _a_date(value)
    if isinstance(value, Mapping) and isinstance(value.get("value"), str):
        inner = read_number(value["value"].strip(), decimal)
        if not isinstance(inner, Quantity):  # one unit is enough
            value = {**value, "value": inner}
    if not isinstance(value, str):
        found = _scalar(value)
        if isinstance(found, int):
            _float(found)  # JSON has whole numbers of any size
        return found
    text = value
    if decimal == "," and _COMMAS.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    elif decimal == "," and "." in text and NUMBER.fullmatch(text):
        raise InputError(
            "a number with a decimal point where decimal commas are expected",
            code="number_with_point",
            seen=value,
            accepted='a decimal comma; or, in `source`, decimal: "."',
        )
    if NUMBER.fullmatch(text):
        return int(text) if len(text) < 16 and text.lstrip("+-").isdecimal() else _float(text)
    before, _, decimals = text.partition(",")
    if _WITH_COMMA.fullmatch(text) and (
        len(decimals) != 3 or not before.lstrip("+-0")  # 1,234 is 1234
    ):
        raise InputError(
            "a number with a comma",
            code="number_with_comma",
            seen=value,
            accepted='a decimal point; or, in `source`, decimal: ","',
        )
    if _DATE.match(text):
        raise _a_date(value)
    if united := _WITH_UNIT.fullmatch(text):
        number = read_number(united[1], decimal)
        if isinstance(number, int | float) or (
            isinstance(number, str) and THOUSANDS.fullmatch(number)
        ):
            return Quantity(number, united[2])
    return value


def read_field(value: Any, spec: FieldSpec, decimal: Decimals) -> Value:
    """Return a field's value in the form that the preprocessing takes, checked against it.

    Raises:
        InputError: the field's cleaner cannot make anything of it.
    """
    if isinstance(spec, NumberField):
        hours = isinstance(value, timedelta)
        found = _in_hours(value, spec) if hours else read_number(value, decimal)
    else:
        found = _word(value)
        if decimal == "," and isinstance(found, str) and not _is_listed(found, spec):
            found = whole(found, decimal) or found
    cleaner(spec)(found, "", IssueLog())
    return found


def read_amount(value: Any, decimal: Decimals) -> Value:
    """Return what `read_number` does, of text with marks between thousands the number too.

    For what no field's cleaner will read.
    """
    found = read_number(value, decimal)
    if isinstance(found, str) and THOUSANDS.fullmatch(found):
        return read_number(found.replace(",", ""))
    return found


def counts_hours(unit: str) -> bool:
    """Whether a number in a unit may be that of a duration's hours; without one, it is."""
    return fold(unit) in ("", "h", "hr", "hrs", "hour", "hours")


def read_name(value: Any) -> str:
    """Return the name that a cell holds: of a case, a group, a class.

    Raises:
        InputError: a list, an object, or no finite number.
    """
    found = _word(value)
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, float):
        if not math.isfinite(found):
            raise InputError("not a name", code="not_finite", seen=str(found), accepted="a word")
        return str(int(found)) if found.is_integer() else str(found)
    if isinstance(found, Quantity):
        raise InputError("not a name", code="nested_value", seen=value, accepted="a word")
    return str(found)


def read_key(value: Any, decimal: Decimals) -> str:
    """Return the name by which rows are found and put together, see `read_name`.

    A whole number is one name, with decimals in text or without.
    """
    name = read_name(value)
    return whole(name, decimal) or name


def read_hours(value: Any, unit: str, start: datetime | None, decimal: Decimals) -> float:
    """Return a time as hours since the start of the case.

    Args:
        value: a number in `unit`, a duration, or a date where `start` is known.
        unit: a key of `HOURS`.
        start: the date from which hours count.
        decimal: what stands before decimals in text.

    Raises:
        InputError: none of these, negative, or not finite.
    """
    if start is not None:
        return (read_date(value, like=start) - start) / _HOUR
    if isinstance(value, timedelta):
        unit = "hours"
    found = value if isinstance(value, date) else read_amount(value, decimal)
    if isinstance(found, date):
        raise _a_date(value)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InputError(
            "not a time", code="not_a_time", seen=value, accepted=f"a number of {unit}"
        )
    if not math.isfinite(found):
        raise InputError(
            "the time is not finite",
            code="not_finite",
            seen=str(found),
            accepted=f"a number of {unit}",
        )
    if found < 0:
        raise InputError(
            "before the start", code="negative_hours", seen=value, accepted=f"{unit}, 0 or more"
        )
    return found * HOURS[unit]


def read_date(value: Any, like: datetime | None = None) -> datetime:
    """Return a date with its time of day; one with a time zone as it is in UTC.

    So that what lies between two is the time that went by, clocks that were changed or not.

    Args:
        value: of a column of dates, or text as ISO 8601 has it.
        like: a date that it will be taken from.

    Raises:
        InputError: not a date, or only one of the two names its time zone.
    """
    accepted = "a date such as 2020-01-31 or 2020-01-31 14:05"
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            raise InputError(
                "not a date", code="not_a_date", seen=value, accepted=accepted
            ) from None
    if isinstance(found, date) and not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day)
    if not isinstance(found, datetime):
        raise InputError("not a date", code="not_a_date", seen=value, accepted=accepted)
    if like is not None and (found.tzinfo is None) != (like.tzinfo is None):
        raise InputError(
            "one date has a time zone, the other does not",
            code="time_zone",
            seen=str(value),
            accepted=f"dates like {like.isoformat()}",
        )
    if found.tzinfo is None:
        return found
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise InputError(
            "not a date", code="not_a_date", seen=str(value), accepted=accepted
        ) from None


def _float(number: str | int) -> float:
    """Return a number; one that overflows is told as it stood there, not as infinity."""
    try:
        found = float(number)
    except OverflowError:
        found = math.inf
    if math.isinf(found):
        raise InputError(
            "too large a number",
            code="not_finite",
            seen=str(number),
            accepted="a number below 1.8e308",
        )
    return found


def _in_hours(value: timedelta, spec: NumberField) -> Value:
    """Return a duration as a number, with the name of hours where they are not the field's own."""
    unit = next((each for each in (spec.unit, *spec.units) if counts_hours(each)), None)
    if unit is None:
        raise InputError(
            "a duration, but the field's unit is not hours",
            code="unknown_unit",
            seen=str(value),
            accepted=f"a number of {spec.unit}; or, in the task, units: {{h: ...}} for the field",
        )
    hours = value / _HOUR
    return hours if unit == spec.unit else Quantity(hours, unit)


def _word(value: Any) -> Value:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _exact(value)
    if isinstance(value, timedelta):
        return read_number(value)
    return _scalar(value)


def _is_listed(word: str, spec: CategoryField) -> bool:
    return fold(word) in map(fold, listed_words(spec))


def _exact(value: Decimal) -> int | float | str:
    """Return a decimal to its last digit: as text where a float has not so many."""
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else format(value, "f").rstrip("0")


def _scalar(value: Any) -> Value:
    if isinstance(value, Unreadable):
        raise InputError(
            "a value that cannot be read",
            code="unreadable_value",
            seen=value.text,
            accepted="text in UTF-8, dates from the year 1 to 9999",
        )
    if isinstance(value, list | tuple | bytes | timedelta):
        raise InputError(
            "several values in one cell" if isinstance(value, list | tuple) else "not a value",
            code="nested_value",
            seen=value,
            accepted="one number or string",
        )
    if isinstance(value, Mapping) and isinstance(value.get("value"), Decimal):
        value = {**value, "value": float(value["value"])}
    try:
        return read_value(value, "")
    except InputError as exc:
        raise InputError(
            "an object in a cell",
            code="nested_value",
            seen=value,
            accepted='one number or string, or {"value": number, "unit": string}',
        ) from exc


def _a_date(value: Any) -> InputError:
    return InputError(
        "a date where a number is expected",
        code="date_for_number",
        seen=str(value),
        accepted="a number, such as years or hours since a fixed date; for times of a series, "
        "give the start date's column in `source`, timeseries.start",
    )
