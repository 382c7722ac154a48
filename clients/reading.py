"""How the cells of a table are written, as the section `source` of a task file says it.

A table that a model was prepared from means the same when it is scored only where it is read alike.
"""

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from clients.errors import InvalidInput
from clients.parts import FilePath
from clients.target import fold

USUAL = ("", "NA", "N/A", "NaN", "null")
"""Words that mean a missing value where none are named, as wherever LANISTR reads a table."""

MISSING = frozenset(map(fold, USUAL))

ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")
DECIMALS = (".", ",")

# As the service reads a cell of CSV: Python's own int and float take 1_000, inf and other digits.
# A test compares it with the service, and what follows with preparing.
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COMMAS = re.compile(
    r"[+-]?([0-9]+(,[0-9]+)?([eE][+-]?[0-9]+)?|[1-9][0-9]{0,2}(\.[0-9]{3})+(,[0-9]+)?)"
)
_AMOUNT = re.compile(r"\s*([+-]?[0-9.,]+(?:[eE][+-]?[0-9]+)?)")
_WHOLE = {
    ".": re.compile(r"([+-]?[0-9]+)\.0+"),
    # Where decimals have a comma "1.000" is a thousand, and "1.0" can be nothing but 1.
    ",": re.compile(r"(?![+-]?[1-9][0-9]{0,2}\.000\Z)([+-]?[0-9]+)[.,]0+"),
}


Words = str | Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a table is read; all but the last as in the section `source` of a task file.

    Attributes:
        decimal: what stands before the decimals of a number in text; series are JSON, with a point.
        encoding: of CSV and JSON lines.
        missing: words that mean a missing value in every column, without regard to case; a blank
            always does.
        missing_in: more of them, by column, or by variable of a series.
        images: the folder where paths of pictures start, itself below the table's if it is not
            absolute; None: the table's.

    Raises:
        InvalidInput: there is no such decimal mark or encoding.
    """

    decimal: str = "."
    encoding: str = "utf-8"
    missing: Words = USUAL
    missing_in: Mapping[str, Words] = field(default_factory=dict)
    images: FilePath | None = None

    def __post_init__(self) -> None:
        for name, known in (("decimal", DECIMALS), ("encoding", ENCODINGS)):
            if (seen := getattr(self, name)) not in known:
                raise InvalidInput(name, f"is {seen!r}", accepted=" or ".join(map(repr, known)))

    def missing_words(self) -> tuple["Missing", dict[str, "Missing"]]:
        """Return what tells missing values anywhere, and by column where there are more words."""
        words = _words(self.missing)
        return Missing(words, self.decimal), {
            column: Missing([*words, *_words(more)], self.decimal)
            for column, more in self.missing_in.items()
        }

    def pictures_of(self, table: Path) -> Path:
        """Return the folder where a table's paths of pictures start."""
        return table.parent / (self.images or "")

    def told(self) -> dict[str, Any] | None:
        """Return what is not as usual, plain JSON values; None: nothing."""
        usual, found = AS_USUAL._plain(), self._plain()
        return {name: each for name, each in found.items() if each != usual[name]} or None

    def _plain(self) -> dict[str, Any]:
        return {
            "decimal": self.decimal,
            "encoding": self.encoding,
            "missing": _words(self.missing),
            "missing_in": {column: _words(each) for column, each in self.missing_in.items()},
            "images": None if self.images is None else os.fspath(self.images),
        }

    def with_point(self, cell: Any, place: str) -> Any:
        """Return a cell of numbers with a point before decimals, text or a value with its unit.

        Raises:
            InvalidInput: it has a point, where decimals have a comma.
        """
        if self.decimal == ".":
            return cell
        if isinstance(cell, dict) and isinstance(cell.get("value"), str):
            return {**cell, "value": self.with_point(cell["value"], place)}
        found = _AMOUNT.match(cell) if isinstance(cell, str) else None
        if found is None:
            return cell
        number, rest = found[1], cell[found.end() :]
        if _COMMAS.fullmatch(number):
            return number.replace(".", "").replace(",", ".") + rest
        if "." in number and NUMBER.fullmatch(number):
            seen = f"is {cell!r}, with a decimal point where decimal commas are expected"
            raise InvalidInput(place, seen, accepted="a decimal comma; or decimal='.'")
        return cell

    def word(self, cell: Any, listed: Collection[str]) -> Any:
        """Return a cell of words, a whole number among them without decimals after a comma."""
        if self.decimal == "." or not isinstance(cell, str) or fold(cell) in listed:
            return cell
        return whole(cell.strip(), self.decimal) or cell


AS_USUAL = Reading()


class Missing:
    """Tells which cells mean a missing value.

    A number that does is known however it is stored, and with decimals that say nothing: of
    ``-999`` also ``-999.0``.
    """

    def __init__(self, words: Sequence[str] = USUAL, decimal: str = ".") -> None:
        folded = map(fold, ["", *words])
        self._decimal = decimal
        self._words = frozenset(whole(word, decimal) or word for word in folded)
        self._numbers = frozenset(float(each) for each in self._words if NUMBER.fullmatch(each))

    def has(self, cell: Any, listed: Collection[str]) -> bool:
        """Whether a cell is missing; `listed` are words that are values there, see `fold`."""
        if isinstance(cell, str):
            word = fold(cell)
            number = whole(word, self._decimal) if self._numbers else None
            return (word in self._words or number in self._words) and word not in listed
        is_number = isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)
        return is_number and cell in self._numbers


def whole(word: str, decimal: str) -> str | None:
    """Return a whole number as it is written without decimals: of "1.0", "1"; else None."""
    found = _WHOLE[decimal].fullmatch(word)
    return found[1] if found else None


def _words(words: Words) -> list[str]:
    return [words] if isinstance(words, str) else list(words)


def add_reading_options(parser: ArgumentParser) -> None:
    """Add the options of how a table is read; `reading_of` reads them."""
    parser.add_argument(
        "--decimal",
        choices=DECIMALS,
        default=".",
        metavar="SIGN",
        help="decimal separator: . or , (%(default)s)",
    )
    parser.add_argument(
        "--encoding",
        choices=ENCODINGS,
        default="utf-8",
        help="encoding of CSV and JSON lines (%(default)s)",
    )
    parser.add_argument(
        "--missing",
        action="append",
        metavar="WORD",
        help="marks a missing value, instead of NA, N/A, NaN and null; may be repeated",
    )
    parser.add_argument(
        "--missing-in",
        action="append",
        default=[],
        metavar="COLUMN=WORD",
        help="also marks a missing value in this column, such as lab=-999; may be repeated",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="folder that image paths are relative to, inside the table's (which is the default)",
    )


def reading_of(arguments: Namespace) -> Reading:
    """Return what the options of `add_reading_options` say.

    Raises:
        InvalidInput: one is not what it takes.
    """
    missing_in: dict[str, list[str]] = {}
    for pair in arguments.missing_in:
        column, equals, word = pair.partition("=")
        if not equals:
            raise InvalidInput("--missing-in", f"is {pair!r}", accepted="such as lab=-999")
        missing_in.setdefault(column, []).append(word)
    return Reading(
        decimal=arguments.decimal,
        encoding=arguments.encoding,
        missing=USUAL if arguments.missing is None else arguments.missing,
        missing_in=missing_in,
        images=arguments.images,
    )
