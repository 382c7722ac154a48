"""What a value of a table row or of a series may be: numbers with units and ranges, categories."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from lanistr.schema import Schema

_WHOLE = {
    ".": re.compile(r"([+-]?[0-9]+)\.0+"),
    # Where decimals have a comma "1.000" is a thousand, and "1.0" can be nothing but 1.
    ",": re.compile(r"(?![+-]?[1-9][0-9]{0,2}\.000\Z)([+-]?[0-9]+)[.,]0+"),
}

WRITTEN = "written"
"""Context of a task that a user writes. What has no effect, or two meanings, is refused there, but
not in a task that is stored with a model, which was used as it is."""


class Unit(Schema):
    """How a value in another unit becomes one in the field's own: value * scale + offset."""

    scale: float = 1.0
    offset: float = 0.0

    @model_validator(mode="after")
    def _reversible(self) -> Self:
        if not self.scale:
            raise ValueError("a scale of 0 would make all values equal")
        return self


class ImpliedUnit(Schema):
    """A number without a unit between `low` and `high` (inclusive) is taken to be in `unit`."""

    unit: str
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(
                f"implied from {self.low:g} to {self.high:g}: there is no number between them"
            )
        return self


class NumberField(Schema):
    """A number.

    Attributes:
        unit: the field's own unit, in which ranges are given and in which the model computes.
        range: valid values, inclusive. None: any finite number.
        limits: a value outside counts as missing; one between limits and range is clipped to the
            range. Default: the range itself, so that nothing is clipped.
        units: other units that are accepted, with their conversion.
        implied: a reading of unit-less numbers that cannot be in the field's own unit.
        normal: in a time series, what stands for the variable before its first measurement, in
            the field's own unit. Default: the training mean.
        log: the model sees log(1 + value): for counts with a long tail.
    """

    kind: Literal["number"]
    description: str = ""
    unit: str = ""
    range: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None
    units: dict[str, Unit] = {}
    implied: ImpliedUnit | None = None
    normal: float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.range and self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)} is empty: the first bound must be lower")
        if self.limits and not self.range:
            raise ValueError("limits need a range: also give the range of valid values")
        if self.limits and self.range:
            (low, high), (lowest, highest) = self.range, self.limits
            if lowest > low or highest < high:
                raise ValueError(f"limits {[lowest, highest]} must enclose the range {[low, high]}")
        if self.log and (self.range is None or self.range[0] < 0):
            raise ValueError("log needs a range that starts at 0 or above")
        if self.implied and self.implied.unit not in self.units:
            raise ValueError(f"implied unit {self.implied.unit!r} is not among the units")
        low, high = self.range or (-math.inf, math.inf)
        if self.normal is not None and not low <= self.normal <= high:
            raise ValueError(f"normal {self.normal:g} is outside the range {[low, high]}")
        self._check_units()
        return self

    def _check_units(self) -> None:
        """Refuse two conversions of what is one unit when a record is read: case does not count."""
        known = {fold(self.unit): Unit()} if self.unit else {}
        for name, unit in self.units.items():
            if known.setdefault(fold(name), unit) != unit:
                raise ValueError(
                    f"unit {name!r} has two conversions (upper and lower case are the same)"
                )

    def accepted(self) -> str:
        """Say in words what the field takes."""
        text = "a number" + (f" in {self.unit}" if self.unit else "")
        if self.range:
            text += f" from {self.range[0]:g} to {self.range[1]:g}"
        if self.units:
            text += f" (or in {', '.join(self.units)}, with the unit named)"
        return text


def fold(word: str) -> str:
    """Return a word as words are compared: neither case nor white space counts."""
    return " ".join(word.split()).casefold()


def whole(word: str, decimal: Literal[".", ","] = ".") -> str | None:
    """Return a whole number as it is written without decimals: of "1.0", "1"; else None.

    Whole numbers of a column in which some are missing stand so in many a CSV file.

    Args:
        word: the text.
        decimal: what stands before decimals in it; with a comma, a point that cannot stand after
            thousands does too.
    """
    found = _WHOLE[decimal].fullmatch(word)
    return found[1] if found else None


def _key(word: str) -> str:
    """Return a word as some formats have it: 1.0, which is a word in CSV, is 1 as a number."""
    folded = fold(word)
    return whole(folded) or folded


class CategoryField(Schema):
    """One of several words.

    Attributes:
        categories: the accepted words. None: learned from the training split (table rows only).
        synonyms: other spellings, matched without regard to case, with the category they mean,
            which is none of them.
        buckets: for names of high cardinality: every word is hashed into one of so many codes,
            so that new names share the codes of known ones. Excludes `categories`.
        normal: in a time series, the category before the first measurement.
        sum_of: in a time series, the variables whose numeric categories add up to this one
            where it was not measured itself; none of them is a sum.
    """

    kind: Literal["category"]
    description: str = ""
    categories: tuple[str, ...] | None = None
    synonyms: dict[str, str] = {}
    buckets: int | None = Field(default=None, ge=2)
    normal: str | None = None
    sum_of: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        known, alike = self.categories or (), _key if info.context == WRITTEN else fold
        folded = {alike(each): each for each in known}
        if self.buckets and self.categories is not None:
            raise ValueError("give either categories or buckets, not both")
        if self.categories is not None:
            if not known or "" in folded or len(folded) < len(known):
                raise ValueError(
                    "categories must be distinct (ignoring case and a final .0) and not empty"
                )
            for spelling, meaning in self.synonyms.items():
                if meaning not in known:
                    raise ValueError(
                        f"synonym {spelling!r} means {meaning!r}, which is not a category"
                    )
            if self.normal is not None and self.normal not in known:
                raise ValueError(f"normal {self.normal!r} is not a category")
        self._check_synonyms({"": "a missing value"} | folded, alike)
        return self

    def _check_synonyms(self, taken: dict[str, str], alike: Callable[[str], str]) -> None:
        """Refuse two meanings of one word, and a synonym of a synonym: words are looked up once."""
        meanings: dict[str, str] = {}
        for spelling, meaning in self.synonyms.items():
            meanings.setdefault(alike(spelling), meaning)
        for spelling, meaning in self.synonyms.items():
            further = meanings.get(alike(meaning), meaning)
            if further != meaning:
                raise ValueError(
                    f"synonym {spelling!r} means {meaning!r}, which is itself a synonym of "
                    f"{further!r}"
                )
        for spelling, meaning in self.synonyms.items():
            other = taken.setdefault(alike(spelling), meaning)
            if other != meaning:
                raise ValueError(
                    f"synonym {spelling!r} means {meaning!r} and {other!r} (ignoring case"
                    " and a final .0)"
                )

    def accepted(self) -> str:
        """Say in words what the field takes."""
        if self.categories is None:
            return "a word"
        return "one of " + ", ".join(self.categories)


FieldSpec = Annotated[NumberField | CategoryField, Field(discriminator="kind")]


def listed_words(spec: FieldSpec) -> tuple[str, ...]:
    """Return the words that a field lists, with their other spellings: values, whatever they mean.

    Elsewhere ``NA`` may be a missing value.
    """
    return (*(spec.categories or ()), *spec.synonyms) if isinstance(spec, CategoryField) else ()
