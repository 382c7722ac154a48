"""What a column may be, and why."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from lanistr.fields import fold
from lanistr.preprocess.values import THOUSANDS
from training.prepare.table.columns import SPLIT_WORDS
from training.prepare.table.guess.statistics import LONGEST, ColumnStatistics

Kind = Literal[
    "empty", "constant", "split", "picture", "series", "rows", "address", "date",
    "amount", "number", "category", "name", "text", "nested",
]  # fmt: skip

MOST_CATEGORIES = 30
_MOST_LEARNED = 1000
_STRAY = frozenset(
    {"?", "??", "-", "--", "---", ".", "..", "*", "n.a.", "#n/a", "(null)", "<na>", "\\n"}
    | {"missing", "(missing)", "not available"}
)
_STRAY_NUMBERS = _STRAY | {
    *("unknown", "none", "nd", "not done", "pending"),
    *("k.a.", "n.b.", "unbekannt", "keine angabe"),
}
_CODE = re.compile(
    r"[^\W\d_]{1,4}[-.]?[0-9].*"  # V45
    r"|[A-Z][A-Z0-9./ -]*[0-9]"  # STON/O 2623
    r"|[0-9]{3,}-[0-9].*|[0-9]+/[0-9].*"  # 12345-6789, 120/80; but 5-10 may be a range of numbers
)
_LETTERED = re.compile(r"[0-9]+[A-Za-z]")
_MOST_LETTERS = 2
"""Units of a single letter, as F and C; with more, 17A and 3B are codes."""

_SURE = 0.95
"""Share of the values from which on a column is of numbers, whatever the others are."""

_SENTINELS = (-1, -9, -99, -999, -9999)

GROUP = re.compile(
    r"patient|subject|person|member|customer|client|user|reviewer|mrn|asin|product|household|donor",
    re.IGNORECASE,
)
ID = re.compile(
    r"(^|[_\W])(id|uid|uuid|key|accession|index|no|nr)\.?$|id$|name$|number$|nummer$|^(id|uid)",
    re.IGNORECASE,
)
LABEL = (
    re.compile(r"^(label|target|outcome|class|y)$", re.IGNORECASE),
    re.compile(
        r"label|target|outcome|mortal|surviv|died|death|dead|readmi|rating|stars|overall|churn"
        r"|diagnos|relapse|recurr|respons",
        re.IGNORECASE,
    ),
)
AFTERWARDS = re.compile(
    r"outcome|surviv|death|died|dead|expire|discharg|mortal|length.?of.?stay|(^|_)los($|_)|readmi"
    r"|extubat|intubat|icu|autopsy|follow.?up|days.?to|last.?seen|final|result",
    re.IGNORECASE,
)
_FIRST_CLASSES = frozenset(
    {"0", "no", "n", "false", "negative", "neg", "survived", "alive"}
    | {"control", "healthy", "absent", "none", "normal", "benign", "not", "without"}
    | {"nein", "kein", "keine", "ohne", "falsch", "negativ", "gesund", "überlebt", "lebt", "non"}
)


@dataclass
class Guess:
    """One column, and what it is taken for.

    Attributes:
        column: its counts.
        kind: what it is taken for.
        why: the reason, in words.
        missing: words in it that seem to mean a missing value.
        warnings: what the user should look at.
    """

    column: ColumnStatistics
    kind: Kind
    why: str
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the column."""
        return self.column.name

    @property
    def leaks(self) -> bool:
        """Whether it may tell the label, so that the user must take it in on purpose."""
        return any(each.startswith("WARNING") for each in self.warnings)

    @property
    def words(self) -> list[str]:
        """The values that are not taken for missing, the most frequent first.

        Of those that differ in case or white space alone, which mean the same, the first.
        """
        found: dict[str, str] = {}
        for word, _ in self.column.words.most_common():
            if word not in self.missing:
                found.setdefault(fold(word), word)
        return list(found.values())


def guess(column: ColumnStatistics, *, points: bool = False) -> Guess:
    """Say what a column is taken for.

    Args:
        column: its counts.
        points: whether other numbers show that a point stands before decimals.
    """
    present, distinct = column.present, len(column.distinct)
    if not present:
        return Guess(column, "empty", "every value is missing")
    if column.share("rows") > 0.5:
        return Guess(column, "rows", "lists of objects")
    if column.share("notes") > 0.5:
        return Guess(column, "text", "lists of text")
    if column.share("bytes") > 0.5:
        return Guess(column, "nested", "bytes, not text")
    if column.share("list") + column.share("object") > 0.5:
        return Guess(column, "nested", "lists or objects")
    stray = _stray(column, _STRAY)
    numbers = _stray(column, _STRAY_NUMBERS)
    rest = present - sum(column.words[word] for word in numbers)
    if rest and _are_numbers(column, numbers, rest):
        return _number(column, numbers, points=points)
    words = {fold(word) for word in column.words if word not in stray}
    # Long ones that begin alike are one word and several values.
    if len(words) <= 1 and distinct <= len(column.words):
        return Guess(column, "constant", "always the same", stray)
    if words <= set(SPLIT_WORDS):
        return Guess(column, "split", "its values are names of splits", stray)
    paths: tuple[Kind, ...] = ("picture", "series", "address", "date", "amount")
    for kind in paths:
        if column.share(kind) >= 0.9:
            return Guess(column, kind, f"{column.share(kind):.0%} look like it", stray)
    if "date" in column.name.casefold() and column.share("date") > 0.05:
        return Guess(column, "date", "its name and some of its values suggest it", stray)
    mean_length, mean_words = column.length / present, 1 + column.spaces / present
    cut = any(len(word) == LONGEST for word in column.words)  # and cannot be listed
    few = distinct <= min(MOST_CATEGORIES, present / 4) and not cut
    if (mean_words >= 4 or mean_length >= 40) and not few:
        return Guess(column, "text", f"{mean_words:.0f} words on average", stray)
    if distinct <= MOST_CATEGORIES or (distinct <= _MOST_LEARNED and distinct <= present / 2):
        return Guess(column, "category", f"{distinct} distinct values", stray)
    return Guess(column, "name", f"{distinct} distinct among {present} values", stray)


def order_classes(words: Iterable[str]) -> list[str]:
    """Return classes with the one that means no, or begins with it, first; numbers in order."""
    words = list(words)
    if all(re.fullmatch(r"-?\d+", word) for word in words):
        return sorted(words, key=int)

    def means_yes(word: str) -> bool:
        return _FIRST_CLASSES.isdisjoint(word.casefold().split()[:1])

    return sorted(words, key=lambda word: (means_yes(word), word))


def names_label(name: str) -> bool:
    """Whether a column is called as labels are."""
    return any(pattern.search(name) for pattern in LABEL)


def learned(guessed: Guess) -> bool:
    """Whether a category has too many words to list, and few enough to learn."""
    return MOST_CATEGORIES < len(guessed.column.distinct) <= _MOST_LEARNED


def _are_numbers(column: ColumnStatistics, stray: list[str], rest: int) -> bool:
    """Whether values, all but the stray ones, are numbers, of which some may have a unit.

    Of too many words to list a few may be anything but codes, such as V45 beside 250.
    """
    kinds = ("number", "comma", "marked", "either", "quantity")
    plain = sum(column.kinds[kind] for kind in kinds)
    united = 0 if column.kinds["quantity"] else column.units[column.unit]
    if plain / rest >= _SURE or len(column.distinct) <= MOST_CATEGORIES:
        # Doses, as 5 mg, may be categories; a label is read as a number without a unit alone.
        percent = united if column.unit == "%" and not names_label(column.name) else 0
        return (plain + percent) / rest >= _SURE
    lettered = sum(len(unit) == 1 and unit.isalpha() for unit in column.units) > _MOST_LETTERS
    codes = {
        word
        for word in column.words
        if _CODE.fullmatch(word) or (lettered and _LETTERED.fullmatch(word))
    }
    odd = [word for word in column.words if word not in column.numbers and word not in stray]
    return (plain + united) / rest >= 0.8 and 2 * len(codes) <= len(codes.union(odd))


def _number(column: ColumnStatistics, stray: list[str], *, points: bool) -> Guess:
    whole = column.kinds["whole"] == column.kinds["number"] and not column.units
    distinct = len(column.distinct) - len(stray)
    values = sorted(v for word in column.words if (v := column.number(word)) is not None)
    sentinels = [
        str(each)
        for each in _SENTINELS
        if column.words[str(each)] > 1 and all(v >= 0 for v in values if v not in _SENTINELS)
    ]
    missing = stray + sentinels
    if distinct <= 1:
        return Guess(column, "constant", "always the same", missing)
    if whole and distinct - len(sentinels) == 2:
        return Guess(column, "category", "two distinct whole numbers", missing)
    kept = [value for value in values if str(int(value)) not in sentinels]
    span = f"from {min(kept):g} to {max(kept):g}" if kept else ""
    guessed = Guess(column, "number", span, missing)
    if whole and distinct <= 12:
        guessed.warnings.append(
            f"{distinct} distinct whole numbers: if they are codes, not quantities, make it a "
            "category"
        )
    if column.pointed and not points:
        read, thousands = f"{float(column.pointed):g}", column.pointed.replace(".", "")
        guessed.warnings.append(_either(column, column.pointed, read, thousands))
    words = [word for word in column.words if word not in column.numbers]
    marked = [word for word in words if THOUSANDS.fullmatch(word)]
    if marked and not column.kinds["comma"] + column.kinds["marked"]:
        number, decimals = (marked[0].replace(",", mark) for mark in ("", "."))
        guessed.warnings.append(_either(column, marked[0], number, decimals))
    odd = [word for word in words if word not in [*missing, *marked]]
    if odd:
        shown = ", ".join(repr(word[:20]) for word in odd[:5])
        more = ""
        if sum(column.words[word] for word in odd) > (1 - _SURE) * column.present:
            more = "; if these are codes, remove the column or make it a category"
        guessed.warnings.append(f"not numbers, reported as problems when prepared: {shown}{more}")
    if others := [unit for unit in column.units if unit != column.unit]:
        shown = ", ".join(map(repr, others[:5]))
        guessed.warnings.append(f"in other units, whose factors to add under units: {shown}")
    return guessed


def _either(column: ColumnStatistics, word: str, read: str, with_comma: str) -> str:
    return (
        f"{column.name!r}: {word!r} is read as {read}, but as {with_comma} with "
        'decimal: "," in `source` (for a series, in its timeseries): check which is meant'
    )


def _stray(column: ColumnStatistics, words: frozenset[str]) -> list[str]:
    return [word for word in column.words if word.casefold() in words]
