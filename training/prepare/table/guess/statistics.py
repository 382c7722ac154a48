"""What the values of a column look like, counted in one pass with bounded memory."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from lanistr.errors import InputError
from lanistr.fields import whole
from lanistr.preprocess.values import THOUSANDS
from lanistr.sample import Quantity
from training.prepare.table.cells import Decimals, read_name, read_number
from training.prepare.table.rows import MissingWords, Row

MOST_WORDS = 2000
"""Distinct values that are counted one by one."""

MOST_DISTINCT = 100_000
"""Distinct values that are told apart in a column that has repeated one; an id has none."""

ROWS_KEPT = 5000
"""Rows that are kept for a closer look."""

LONGEST = 1000
"""Letters of a value, and items of a list of them, that are kept: notes and pictures are larger."""

_LONGEST_UNIT = 20
"""Letters; what is longer is a sentence that begins with a number."""

PICTURE = re.compile(r".+\.(jpe?g|png|webp|tiff?|bmp)", re.IGNORECASE)
SERIES = re.compile(r".+\.(csv|tsv|txt|parquet|jsonl|ndjson)(\.gz)?", re.IGNORECASE)
_ADDRESS = re.compile(r"(https?|ftp|s3)://\S+", re.IGNORECASE)
_EITHER = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
"""A comma before three digits stands before decimals or after thousands: nobody can tell."""
_COMMA = re.compile(
    rf"(?!{_EITHER.pattern}\Z)[+-]?([0-9]+|[1-9][0-9]{{0,2}}(\.[0-9]{{3}})+),[0-9]+"
)
_EITHER_POINT = re.compile(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}")
"""So does a point, where nobody has said what stands before decimals."""
_MARKED = re.compile(rf"(?!{_EITHER.pattern}\Z){THOUSANDS.pattern}")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?|[0-9]{1,2}[./][0-9]{1,2}[./]([0-9]{4}|[0-9]{2})([ T].*)?"
    r"|[A-Z][a-z]+ [0-9]{1,2}, [0-9]{4}|[0-9]{4}[/.][0-9]{1,2}[/.][0-9]{1,2}([ T].*)?"
    r"|[0-9]{1,2}[- ]?(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
    r"[- ]?([0-9]{4}|[0-9]{2})([ T:].*)?"
)
_AMOUNT = re.compile(
    r"[+-]?[$€£¥] ?[0-9].*|[+-]?[1-9][0-9]{0,2}([\s'\u2019][0-9]{3})+([.,][0-9]+)?"
)
"""Money with its sign in front, or with other marks between thousands than are read as numbers."""


@dataclass
class ColumnStatistics:
    """Counts over the values of one column.

    Attributes:
        name: of the column.
        decimal: what stands before decimals in text.
        present: values that are not missing.
        words: how often each value stands there, as text, up to `MOST_WORDS` of them; long ones by
            how they begin.
        distinct: hashes of the values, see `MOST_DISTINCT`.
        kinds: how many look like a number, a whole one, a date, a picture's path, and so on.
        numbers: what was read of those `words` that are numbers, in whichever unit.
        units: how many numbers came with which unit.
        pointed: a number in text whose point may stand after thousands; "": none does.
        low: the least number.
        high: the largest number.
        length: characters of all text.
        spaces: white space within it.
    """

    name: str
    decimal: Decimals = "."
    present: int = 0
    words: Counter[str] = field(default_factory=Counter)
    distinct: set[int] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, float | Quantity] = field(default_factory=dict)
    units: Counter[str] = field(default_factory=Counter)
    pointed: str = ""
    low: float = float("inf")
    high: float = float("-inf")
    length: int = 0
    spaces: int = 0

    def add(self, value: Any) -> None:
        """Count a value that is not missing."""
        self.present += 1
        if isinstance(value, timedelta):
            value = read_number(value)
            self.kinds["duration"] += 1
        number = _number(value, self.decimal)
        word = repr(value[:LONGEST]) if isinstance(value, bytes) else str(value)
        if isinstance(value, float) and value.is_integer():
            word = str(int(value))
        elif isinstance(value, str):
            comma = _COMMA.fullmatch(word) and whole(word, ",")
            word = whole(word, self.decimal) or comma or word
        elif isinstance(number, Quantity):
            word = f"{number.value} {number.unit}"
        elif isinstance(value, Decimal):
            word = read_name(value)
        if len(self.distinct) < MOST_DISTINCT or len(self.distinct) == self.present - 1:
            self.distinct.add(hash(value if isinstance(value, bytes) else word))
        begins = word[:LONGEST]
        if begins in self.words or len(self.words) < MOST_WORDS:
            self.words[begins] += 1
            if number is not None:
                self.numbers[begins] = number
        self.length += len(word)
        self.spaces += word.count(" ")
        self.kinds.update(self._kinds(value, word, number))

    def share(self, kind: str) -> float:
        """Return the share of the values that look like something."""
        return self.kinds[kind] / max(self.present, 1)

    @property
    def unit(self) -> str:
        """What most numbers with a unit have; "": none has one."""
        return next((unit for unit, _ in self.units.most_common(1)), "")

    def number(self, word: str) -> float | None:
        """Return what a word of `words` is in the column's unit; None: no number, or in another."""
        found = self.numbers.get(word)
        if isinstance(found, Quantity):
            return float(found.value) if found.unit == self.unit else None
        return found

    @property
    def example(self) -> str:
        """The most frequent value, on one line and cut short."""
        word = self.words.most_common(1)[0][0] if self.words else ""
        line = " ".join(word.split())
        return line if len(line) <= 60 else line[:60] + "…"

    def _kinds(self, value: Any, word: str, number: float | Quantity | None) -> Iterable[str]:
        if isinstance(number, Quantity):
            if number.unit in self.units or len(self.units) < MOST_WORDS:
                self.units[number.unit] += 1
            return ["quantity"] if isinstance(value, dict) else []
        if number is not None:
            self.low, self.high = min(self.low, number), max(self.high, number)
            if isinstance(value, str) and self.decimal == ".":
                if _EITHER_POINT.fullmatch(value):
                    self.pointed = self.pointed or value
                elif "." in value:
                    self.kinds["point"] += 1
            return ["number", "whole"] if float(number).is_integer() else ["number"]
        if isinstance(value, dict):
            return ["object"]
        if isinstance(value, bytes):
            return ["bytes"]
        if isinstance(value, list):
            return [_kind_of_list(value)]
        if isinstance(value, date | datetime):
            return ["date"]
        return self._looks(value if isinstance(value, str) else word)

    def _looks(self, text: str) -> Iterable[str]:
        tests = (
            ("picture", PICTURE),
            ("series", SERIES),
            ("address", _ADDRESS),
            ("comma", _COMMA),
            ("marked", _MARKED),
            ("either", _EITHER),
            ("date", _DATE),
            ("amount", _AMOUNT),
        )
        return [kind for kind, pattern in tests if pattern.fullmatch(text)]


def _number(value: Any, decimal: Decimals) -> float | Quantity | None:
    """Return what preparing reads of a value, where that is a finite number."""
    try:
        found = read_number(value, decimal)
    except InputError:
        return None
    number = found.value if isinstance(found, Quantity) else found
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return None
    if not isinstance(found, Quantity):
        return number
    # 17.png is no 17 in png, nor 2014/09/30 2014 in /09/30.
    other = isinstance(value, str) and any(
        pattern.fullmatch(value) for pattern in (PICTURE, SERIES, _DATE, _AMOUNT)
    )
    return None if other or len(found.unit) > _LONGEST_UNIT else found


def _short(value: Any) -> Any:
    """Return a value without most of what is long in it."""
    if isinstance(value, str | bytes):
        return value[:LONGEST]
    if isinstance(value, list):
        return [_short(each) for each in value[:LONGEST]]
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    return value


def _kind_of_list(items: list[Any]) -> str:
    if all(isinstance(each, dict) for each in items):
        return "rows"
    if not all(isinstance(each, str) for each in items):
        return "list"
    # An address or two among the paths are told when they are prepared.
    return "picture" if 2 * sum(map(bool, map(PICTURE.fullmatch, items))) > len(items) else "notes"


@dataclass
class TableStatistics:
    """Counts over a table.

    Attributes:
        columns: by name, in order.
        decimal: what stands before decimals in text.
        rows: how many there are.
        kept: the first rows, without missing values and the ends of long ones.
    """

    columns: dict[str, ColumnStatistics] = field(default_factory=dict)
    decimal: Decimals = "."
    rows: int = 0
    kept: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        rows: Iterable[Row],
        names: Iterable[str],
        missing: MissingWords,
        decimal: Decimals = ".",
    ) -> "TableStatistics":
        """Count over all rows; columns that only later rows name are found on the way.

        An empty list is a missing value.
        """
        self = cls({name: ColumnStatistics(name, decimal) for name in names}, decimal)
        for row in rows:
            self.rows += 1
            known = {name: missing.value(row, name) for name in row.cells}
            for name in known:
                self.columns.setdefault(name, ColumnStatistics(name, decimal))
            found = {name: value for name, value in known.items() if value not in (None, [])}
            for name, value in found.items():
                self.columns[name].add(value)
            if len(self.kept) < ROWS_KEPT:
                self.kept.append({name: _short(value) for name, value in found.items()})
        return self

    @property
    def has_points(self) -> bool:
        """Whether some number's point can stand before decimals alone."""
        return any(each.kinds["point"] + each.kinds["marked"] for each in self.columns.values())

    def missing(self, column: ColumnStatistics) -> float:
        """Return the share of the rows without a value."""
        return 1 - column.present / max(self.rows, 1)


def told_by(
    column: str, label: str, rows: Iterable[Mapping[str, Any]], decimal: Decimals = "."
) -> float:
    """Return how far a column's value tells the label: 0 not at all, 1 wholly.

    The share of the mistakes of always saying the most frequent label that is saved by saying the
    most frequent label of the *other* rows with the same value (numbers in twenty groups of like
    size; a missing value is a value).

    Source: Goodman and Kruskal 1954 (lambda), each row left out of its own guess.
    """
    pairs = [(_plain(row.get(column), decimal), str(row[label])) for row in rows if label in row]
    numbers = sorted(value for value, _ in pairs if isinstance(value, float))
    grouped = len(set(numbers)) > 20
    cuts = [numbers[i * len(numbers) // 20] for i in range(1, 20)] if grouped else []

    def group(value: float | str) -> str:
        if grouped and isinstance(value, float):
            return str(sum(value >= cut for cut in cuts))
        return str(value)

    labels = Counter(word for _, word in pairs)
    by_group: dict[str, Counter[str]] = {}
    for value, word in pairs:
        by_group.setdefault(group(value), Counter())[word] += 1
    wrong = 0
    for counts in by_group.values():
        for word, count in counts.items():
            others = counts.copy()
            others[word] -= 1
            best = max(others.values())
            right = best and others[word] == best and list(others.values()).count(best) == 1
            wrong += 0 if right else count
    base = len(pairs) - max(labels.values(), default=0)
    return 1 - wrong / base if base else 0.0


def _plain(value: Any, decimal: Decimals) -> float | str:
    """Return a number without its unit, or else a value as text."""
    number = _number(value, decimal)
    found = number.value if isinstance(number, Quantity) else number
    return str(value) if found is None else float(found)
