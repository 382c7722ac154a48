"""What a table of all series looks like: which column is the case, the time, the variables."""

import math
import re
from dataclasses import dataclass, field

from training.prepare.table.cells import HOURS
from training.prepare.table.guess.kinds import Guess, guess
from training.prepare.table.guess.statistics import ColumnStatistics, TableStatistics

_TIME = re.compile(
    r"^(hours?|time|charttime|t|timestamp|minutes?|offset|.*(time|hours?|minutes?|offset))$",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"^(variable|parameter|param|itemid|item|feature|measurement|name|code|concept|label|test)$",
    re.IGNORECASE,
)
_VALUE = re.compile(r"^(value|valuenum|val|result|reading)$", re.IGNORECASE)
_UNIT = re.compile(r"^(unit|uom|valueuom|units)$", re.IGNORECASE)

_MOST_STEPS = 200


@dataclass
class SeriesGuess:
    """The columns of a table of series.

    Attributes:
        id: names the case.
        time: time of a row; None: not found.
        dated: whether the times are dates.
        unit_of_time: of times that are numbers; `unit_told` whether anything says so.
        variables: by their column (wide) or word (long).
        variable: of long rows, the column with the name; `value` and `unit` likewise.
        horizon: hours, as far as the times reach.
        step: hours.
        unused: columns that are none of these.
    """

    id: str
    time: str | None = None
    dated: bool = False
    unit_of_time: str = "hours"
    unit_told: bool = False
    variables: list[Guess] = field(default_factory=list)
    variable: str | None = None
    value: str | None = None
    unit: str | None = None
    horizon: float = 48
    step: float = 1
    unused: list[Guess] = field(default_factory=list)


def guess_series(table: TableStatistics, main: TableStatistics, main_id: str | None) -> SeriesGuess:
    """Say what the columns of a series' table are taken for."""
    guesses = [guess(each, points=table.has_points) for each in table.columns.values()]
    found = SeriesGuess(_find_id(table, main, main_id))
    rest = [each for each in guesses if each.name != found.id]
    time = next((each for each in rest if _TIME.match(each.name)), None)
    time = time or next((each for each in rest if each.kind == "date"), None)
    if time is not None:
        found.time, found.dated = time.name, time.kind == "date"
        _set_grid(found, time.column)
        rest.remove(time)
    variable = next((e for e in rest if _VARIABLE.match(e.name)), None)
    value = next((e for e in rest if _VALUE.match(e.name)), None)
    if variable is not None and value is not None:
        unit = next((e for e in rest if _UNIT.match(e.name)), None)
        found.variable, found.value = variable.name, value.name
        found.unit = unit.name if unit else None
        found.variables = _by_word(table, variable, value.name)
    else:
        found.variables = [each for each in rest if each.kind in ("number", "category", "constant")]
    used = [found.variable, found.value, found.unit, *(each.name for each in found.variables)]
    found.unused = [each for each in rest if each.name not in used]
    return found


def _find_id(table: TableStatistics, main: TableStatistics, main_id: str | None) -> str:
    """Take the column of the id's name, or the one that shares most values with the id."""
    if main_id is None or main_id in table.columns:
        return main_id or next(iter(table.columns))
    ids = main.columns[main_id].distinct
    return max(table.columns.values(), key=lambda each: len(each.distinct & ids)).name


def _by_word(table: TableStatistics, variable: Guess, value: str) -> list[Guess]:
    """Guess each variable of long rows from the rows that were kept; unseen ones are numbers."""
    columns = {word: ColumnStatistics(word, table.decimal) for word in sorted(variable.words)}
    for row in table.kept:
        word = str(row.get(variable.name))
        if word in columns and value in row:
            columns[word].add(row[value])
    return [
        guess(column, points=table.has_points)
        if column.present
        else Guess(column, "number", "not examined")
        for column in columns.values()
    ]


def _set_grid(found: SeriesGuess, time: ColumnStatistics) -> None:
    name = time.name.casefold()
    said = next((unit for unit in HOURS if unit.removesuffix("s") in name), None)
    found.unit_told = bool(said or time.kinds["duration"])
    found.unit_of_time = "hours" if time.kinds["duration"] else said or "hours"
    last = time.high * HOURS[found.unit_of_time] if math.isfinite(time.high) else 48
    found.step = max(1, math.ceil(last / _MOST_STEPS))
    found.horizon = max(math.ceil(last / found.step), 1) * found.step
