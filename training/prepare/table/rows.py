"""One row of a user's table, and how what is wrong in it is told."""

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from lanistr.errors import DataError, LanistrError, unknown_name
from lanistr.preprocess.values import whole
from training.prepare.problems import Problems


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
    """Return the cells, and what stands in their objects beside them, as `vitals.pulse`.

    An object of a value and its unit is one value.
    """
    found = dict(cells)
    for name, value in cells.items():
        if isinstance(value, dict) and not value.keys() <= {"value", "unit"}:
            for inner, cell in spread(value).items():
                found.setdefault(f"{name}.{inner}", cell)
    return found


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
                "; the header is one column: name the delimiter in `source`"
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
    """Tells a missing value: none, a blank, or one of the words that mean it."""

    def __init__(self, everywhere: Iterable[str], by_column: Mapping[str, Iterable[str]]) -> None:
        self._everywhere = {_fold(word) for word in everywhere} | {""}
        self._by_column = {
            column: self._everywhere | {whole(word) or word for word in map(_fold, words)}
            for column, words in by_column.items()
        }

    def value(self, row: Row, column: str) -> Any:
        """Return a cell, text without the white space around it; None where it is missing."""
        return self.known(row.cells.get(column), column)

    def known(self, value: Any, column: str) -> Any:
        """Return a value of a column, as `value` does."""
        words = self._by_column.get(column, self._everywhere)
        if isinstance(value, str):
            value = value.strip()
            word = value.casefold()
            plain = whole(word) if column in self._by_column else None
            return None if word in words or plain in words else value
        if isinstance(value, float) and math.isnan(value):
            return None if "nan" in words else value
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return None if column in self._by_column and _spelled(value) & words else value
        return value


def _spelled(value: float | Decimal) -> set[str]:
    """Return how a number may stand among the words for missing: -1, -1.0."""
    words = {str(value).casefold()}
    with suppress(OverflowError, ValueError):  # JSON has whole numbers of any size
        words.add(format(float(value), "g"))
        if value == int(value):
            words |= {str(int(value)), f"{int(value)}.0"}
    return words


def _fold(word: str) -> str:
    return word.strip().casefold()
