"""One row of a user's table, and how what is wrong in it is told."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from lanistr.errors import DataError, LanistrError, unknown_name
from lanistr.fields import whole
from training.prepare.problems import Problems
from training.prepare.table.cells import NUMBER, Decimals


@dataclass(frozen=True, slots=True)
class Row:
    """A record of a table, as its file has it.

    Attributes:
        file: as the user called it.
        number: of the record in its file, from 1, without a header and blank lines.
        line: where it begins in its file, from 1; None where the format has no lines.
        cells: raw value by column: text (CSV), or what JSON and Parquet hold.
        within: where the cells stand, if in a cell themselves, such as `vitals[3].`
    """

    file: str
    number: int
    line: int | None
    cells: Mapping[str, Any]
    within: str = ""

    def lose_value(
        self, problems: Problems, column: str, exc: LanistrError, *, seen: Any = None
    ) -> None:
        """Report a value that cannot be used and counts as missing."""
        self._report(problems, column, exc, "the value counts as missing", seen)

    def leave_out(self, problems: Problems, column: str, exc: LanistrError) -> None:
        """Report what makes the whole row unusable."""
        self._report(problems, column, exc, "the row was left out", None)

    def _report(
        self, problems: Problems, column: str, exc: LanistrError, outcome: str, seen: Any
    ) -> None:
        accepted = f"; accepted: {exc.accepted}" if exc.accepted else ""
        problems.add(
            exc.code,
            f"{placed(exc.message, self.line)}{accepted}; {outcome}",
            file=self.file,
            row=self.number,
            column=self.within + column,
            seen=exc.seen if seen is None else seen,
        )


def spread(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells, and what stands in their objects beside them, as `vitals.pulse`."""
    found = dict(cells)
    for name, value in cells.items():
        if isinstance(value, dict):
            for inner, cell in spread(value).items():
                found.setdefault(f"{name}.{inner}", cell)
    return found


def outer_names(column: str) -> Iterator[str]:
    """Yield the objects that a column would stand in: of `a.b.c`, `a` and `a.b`."""
    for at, letter in enumerate(column):
        if letter == ".":
            yield column[:at]


def placed(message: str, line: int | None) -> str:
    """Name the line that a message is about, where there is one."""
    return message if line is None else f"line {line}: {message}"


def stop(
    problems: Problems,
    code: str,
    message: str,
    *,
    file: Path | str,
    row: int | None = None,
    column: str = "",
    seen: Any = None,
    accepted: str = "",
) -> DataError:
    """Write down what is wrong with a file as a whole, and return the error that ends the run."""
    more = f"; accepted: {accepted}" if accepted else ""
    problems.add(code, message + more, file=file, row=row, column=column, seen=seen)
    place = f"{file}" + (f", row {row}" if row else "") + (f", column {column}" if column else "")
    return DataError(message, code=code, field=place, seen=seen, accepted=accepted)


def require(wanted: Iterable[str], columns: Collection[str], file: str, problems: Problems) -> None:
    """Hold the columns that are needed against those that there are.

    Raises:
        DataError: one is missing; the message names the nearest.
    """
    for column in wanted:
        if column not in columns:
            hint = (
                "; the header is a single column: give the delimiter in `source`"
                if len(columns) < 2
                else ""
            )
            raise stop(
                problems,
                "missing_column",
                "no such column",
                file=file,
                column=column,
                accepted=unknown_name(column, columns) + hint,
            )


class MissingWords:
    """Recognises a missing value: none, a blank, or one of the words that mean it.

    A number that means it is recognised however it is stored: `-999` is also `-999.0`.

    Args:
        everywhere: words that mean it in every column.
        by_column: more of them, by column.
        decimal: what stands before the decimals of a number in text.
    """

    def __init__(
        self,
        everywhere: Iterable[str],
        by_column: Mapping[str, Iterable[str]],
        decimal: Decimals = ".",
    ) -> None:
        words = ["", *everywhere]
        self._decimal = decimal
        self._everywhere = self._meant(words)
        self._by_column = {
            column: self._meant([*words, *more]) for column, more in by_column.items()
        }

    def value(self, row: Row, column: str, listed: Collection[str] = ()) -> Any:
        """Return a cell, text without the white space around it; None where it is missing.

        Args:
            row: of the table.
            column: of the cell.
            listed: words, see `fold_words`, that are values there whatever else they mean.
        """
        return self.known(row.cells.get(column), column, listed)

    def known(self, value: Any, column: str, listed: Collection[str] = ()) -> Any:
        """Return a value of a column, as `value` does."""
        words, numbers = self._by_column.get(column, self._everywhere)
        if isinstance(value, str):
            value = value.strip()
            word = value.casefold()
            missing = word in words or (numbers and whole(word, self._decimal) in words)
            return None if missing and word not in listed else value
        if isinstance(value, float) and math.isnan(value):
            return None if "nan" in words else value
        if numbers and isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return None if _plain(value) in numbers else value
        return value

    def _meant(self, words: Iterable[str]) -> tuple[frozenset[str], frozenset[float]]:
        """Return the words for missing, and the numbers among them."""
        folded = [word.strip().casefold() for word in words]
        found = frozenset(whole(word, self._decimal) or word for word in folded)
        return found, frozenset(float(word) for word in found if NUMBER.fullmatch(word))


def fold_words(words: Iterable[str]) -> frozenset[str]:
    """Return words as `MissingWords` compares them; a blank is none."""
    return frozenset(word.strip().casefold() for word in words) - {""}


def _plain(value: float | Decimal) -> float:
    return float(value) if isinstance(value, Decimal) else value
