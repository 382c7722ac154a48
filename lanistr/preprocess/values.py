"""One raw value of a field, made clean: unit, type, range, spelling.

Table rows and time series share these two cleaners. Each returns None for a value that counts as
missing, and reports whatever it changed or dropped.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from lanistr.errors import InputError, unknown_name
from lanistr.fields import CategoryField, FieldSpec, NumberField, Unit, fold, whole
from lanistr.issues import Action, IssueLog
from lanistr.sample import Quantity, Value

_ANY = (-1e30, 1e30)
"""Range of a field that names none: what lies beyond would overflow the model's float32."""

_ROUNDING = 1e-12
"""Relative error by which a converted number may miss what it stands for."""

_EXACT = 2**53
"""From here on a float is the nearest to several whole numbers.

Source: IEEE 754, binary64.
"""

SCALARS = frozenset((str, bool, int, float, type(None)))
"""Types of what `read_value` takes as it comes, for those who read many."""

# No group of thousands starts with a zero: "0,375" has a decimal comma.
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")
# Unambiguous, or a long text that is no quantity would take very long to reject. Behind white space
# a unit may begin with a digit: 80 1/min.
_WITH_UNIT = re.compile(
    rf"({THOUSANDS.pattern}(?![0-9,.])|"
    r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?:\s+|(?!\d))(?P<unit>\S.*)",
    re.DOTALL,
)


class NumberCleaner:
    """Brings a number into its field's unit and range.

    Args:
        spec: of the field.
        reach: what a model can take; a number beyond counts as missing.
    """

    def __init__(self, spec: NumberField, reach: tuple[float, float] = _ANY) -> None:
        self.spec = spec
        self._range = spec.range or _ANY
        self._limits = spec.limits or self._range
        self._as_it_comes = _both(self._range, reach)
        self._units = {fold(name): unit for name, unit in spec.units.items()}
        if spec.unit:
            self._units.setdefault(fold(spec.unit), Unit())

    def plain(self, value: Value) -> float | None:
        """Return what the cleaner would, if there is nothing to say of the value; else None.

        Most values are such, and need no path for a message.
        """
        low, high = self._as_it_comes
        if not (type(value) is float or type(value) is int) or not low <= value <= high:
            return None
        number, implied = float(value), self.spec.implied
        return None if implied and implied.low <= number <= implied.high else number

    def united(self, text: str) -> Quantity | None:
        """Return text such as "101.3 degF" as number and unit, if the field knows the unit.

        For those who read tables of text, which say a unit in no other way.
        """
        found = _WITH_UNIT.fullmatch(text)
        if found is None or fold(found["unit"]) not in self._units:
            return None
        number = float(found[1].replace(",", ""))
        return Quantity(number, found["unit"]) if math.isfinite(number) else None

    def __call__(self, value: Value, path: str, log: IssueLog) -> float | None:
        """Return the value in the field's unit and range, or None where it counts as missing.

        Raises:
            InputError: not a number, not finite, or in an unknown unit.
        """
        spec = self.spec
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, Quantity):
            number = self._convert(self._number(value.value, path, log), value.unit, path, log)
        else:
            number = self._number(value, path, log)
            implied = spec.implied
            if implied and implied.low <= number <= implied.high:
                number = self._convert(number, implied.unit, path, log, code="unit_implied")
        (low, high), (least, most) = self._range, self._as_it_comes
        lowest, highest = self._limits
        clipped = min(max(number, low), high)
        if not (lowest <= number <= highest and least <= clipped <= most):
            log.add("out_of_range", path, value_seen(value), Action.DROPPED, self._accepted)
            return None
        if clipped != number:
            log.add("out_of_range", path, value_seen(value), Action.CLIPPED, lambda: f"{clipped:g}")
        return clipped

    def _accepted(self) -> str:
        text = self.spec.accepted()
        if self._as_it_comes != self._range:
            text += "; this model can only use {:g} to {:g}".format(*self._as_it_comes)
        return text

    def _number(self, value: Value, path: str, log: IssueLog) -> float:
        """Read a number, also from a string such as "1,234"."""
        number: float | None = None
        if isinstance(value, str):
            text = value.strip()
            if THOUSANDS.fullmatch(text):
                text = text.replace(",", "")
            try:
                # Python alone also reads "1_000" and the digits of other scripts.
                number = float(text) if text.isascii() and "_" not in text else None
            except ValueError:
                number = None
            else:
                if number is not None and math.isfinite(number):
                    log.add(
                        "text_as_number",
                        path,
                        value,
                        Action.CONVERTED,
                        partial(format, number, "g"),
                    )
        elif isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
        if number is None:
            raise InputError(
                "not a number",
                code="wrong_type",
                field=path,
                seen=value_seen(value),
                accepted=self.spec.accepted() + self._instead(value),
            )
        if not math.isfinite(number):
            raise InputError(
                "not a finite number",
                code="not_finite",
                field=path,
                seen=value_seen(value),
                accepted=self.spec.accepted() + "; for a missing value, send null or omit the "
                "field",
            )
        return number

    def _instead(self, value: Value) -> str:
        """Say how to write what a text most likely means, which is never guessed."""
        text = value.strip() if isinstance(value, str) else ""
        if _DECIMAL_COMMA.fullmatch(text):
            return "; use a decimal point, not a comma"
        if quantity := self.united(text):
            said = {"value": quantity.value, "unit": quantity.unit}
            return f"; or {json.dumps(said, ensure_ascii=False)}"
        return ""

    def _convert(
        self, number: float, unit: str, path: str, log: IssueLog, code: str = "unit_converted"
    ) -> float:
        """Bring a number from a named unit into the field's own."""
        conversion = self._units.get(fold(unit))
        if conversion is None:
            known = [name for name in (self.spec.unit, *self.spec.units) if name]
            raise InputError(
                "unknown unit",
                code="unknown_unit",
                field=path,
                seen=unit,
                accepted=unknown_name(unit, known) if known else "a number without a unit",
            )
        converted = number * conversion.scale + conversion.offset
        if (conversion.scale, conversion.offset) != (1, 0):
            converted = self._at_an_end(converted, _ROUNDING * abs(conversion.offset))
            log.add(
                code,
                path,
                f"{number:g} {unit}",
                Action.CONVERTED,
                lambda: f"{converted:g} {self.spec.unit}".strip(),
            )
        return converted

    def _at_an_end(self, number: float, tolerance: float) -> float:
        """Return the end of the range or limits that a converted number is, but for rounding."""
        for end in (*self._range, *self._limits):
            if math.isclose(number, end, rel_tol=_ROUNDING, abs_tol=tolerance):
                return end
        return number


class CategoryCleaner:
    """Brings a word into the spelling of its category."""

    def __init__(self, spec: CategoryField) -> None:
        self.spec = spec
        self._spellings = {fold(word): word for word in spec.categories or ()}
        for spelling, meaning in spec.synonyms.items():
            self._spellings.setdefault(fold(spelling), meaning)
        for spelling, meaning in [*self._spellings.items()]:
            if number := whole(spelling):  # of a task that writes 1.0 for what is 1 elsewhere
                self._spellings.setdefault(number, meaning)
        known = (*(spec.categories or ()), *spec.synonyms)
        self._plain = {each: self(each, "", IssueLog()) for each in known}

    def plain(self, value: Value) -> str | None:
        """Return what the cleaner would, if the task spells the word so; else None."""
        word = str(value) if type(value) is int else value
        return self._plain.get(word) if type(word) is str else None

    def __call__(self, value: Value, path: str, log: IssueLog) -> str | None:
        """Return the category, the word itself where it is none, or None for missing.

        Only the caller knows what an unknown word means to it; see `log_unknown`.

        Raises:
            InputError: not a word, or a float of which several would be the same.
        """
        if isinstance(value, Quantity):
            raise InputError(
                "a category has no unit",
                code="wrong_type",
                field=path,
                seen=value_seen(value),
                accepted=self.spec.accepted(),
            )
        if value is None:
            return None
        if isinstance(value, bool):
            word = "true" if value else "false"
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(
                "not a category",
                code="not_finite",
                field=path,
                seen=value_seen(value),
                accepted=self.spec.accepted() + "; for a missing value, send null or omit the "
                "field",
            )
        elif isinstance(value, float) and abs(value) >= _EXACT:
            raise InputError(
                "too large to be exact as a floating-point number",
                code="wrong_type",
                field=path,
                seen=value_seen(value),
                accepted=self.spec.accepted() + "; send a long number as a string",
            )
        elif isinstance(value, float) and value.is_integer():
            word = str(int(value))
        else:
            word = " ".join(str(value).split())
        if not word:
            return None
        known = self._spellings.get(fold(word))
        if known is None and isinstance(value, str):
            word = whole(word) or truth(word) or word
            known = self._spellings.get(fold(word))
        return word if known is None else known


def truth(word: str) -> str | None:
    """Return a truth value as JSON writes it: of "True", "true"; else None."""
    folded = fold(word)
    return folded if folded in ("true", "false") else None


def _both(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the range in which two ranges overlap; where they do not, nothing is in it."""
    return max(one[0], other[0]), min(one[1], other[1])


def cleaner(spec: FieldSpec) -> NumberCleaner | CategoryCleaner:
    """Return the cleaner of a field."""
    return NumberCleaner(spec) if isinstance(spec, NumberField) else CategoryCleaner(spec)


def read_value(value: Any, path: str) -> Value:
    """Check that a decoded JSON value can be a field's value: a scalar or value with unit.

    Raises:
        InputError: a list, an object of another shape, or the like.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    accepted = 'a number, a string, null, or {"value": number, "unit": string}'
    if isinstance(value, Mapping):
        for key in value:
            if key not in ("value", "unit"):
                raise InputError(
                    "unknown key",
                    code="unknown_field",
                    field=f"{path}.{key}",
                    seen=key,
                    accepted=unknown_name(key, ("value", "unit")),
                )
        inner, unit = value.get("value"), value.get("unit")
        if "value" in value and (unit is None or isinstance(unit, str)):
            if inner is None or (isinstance(inner, str) and not inner.strip()):
                return None
            if isinstance(inner, str | int | float):
                return Quantity(inner, unit) if unit and unit.strip() else inner
    raise InputError("not a value", code="wrong_type", field=path, seen=value, accepted=accepted)


def log_unknown(log: IssueLog, path: str, value: Value, word: str, known: Iterable[str]) -> None:
    """Report a category that is kept as unknown."""
    log.add(
        "unknown_category",
        path,
        value_seen(value),
        Action.KEPT,
        lambda: f"unknown; {unknown_name(word, known)}",
    )


def value_seen(value: Value) -> Any:
    """Return the value as its sender would recognise it in a message."""
    if isinstance(value, Quantity):
        return f"{value.value} {value.unit}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no NaN to answer with
    return value
