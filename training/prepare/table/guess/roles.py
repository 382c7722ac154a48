"""Which part the columns of a table may play, taken together."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from training.prepare.table.guess.kinds import (
    AFTERWARDS,
    GROUP,
    ID,
    LABEL,
    Guess,
    guess,
    names_label,
)
from training.prepare.table.guess.statistics import TableStatistics, told_by
from training.prepare.table.rows import outer_names

_TELLS = 0.9
"""A column that tells so much of the label is taken for a leak."""

_FOLDERS_LOOKED_AT, _LONGEST_PATH = 50, 200


@dataclass
class Roles:
    """The columns by what they are taken for.

    Attributes:
        id: the case's name.
        group: candidates for the group, the likeliest first.
        split: says the split.
        label: candidates, the likeliest first.
        settled: the label, where it can be no other.
        images: paths of pictures, and `folder` from which they start.
        series: paths of series, or rows of them.
        texts: notes.
        fields: numbers and categories.
        dates: dates.
        unused: the rest.
    """

    id: Guess | None = None
    group: list[Guess] = field(default_factory=list)
    split: Guess | None = None
    label: list[Guess] = field(default_factory=list)
    settled: Guess | None = None
    images: list[Guess] = field(default_factory=list)
    folder: str = "."
    series: list[Guess] = field(default_factory=list)
    texts: list[Guess] = field(default_factory=list)
    fields: list[Guess] = field(default_factory=list)
    dates: list[Guess] = field(default_factory=list)
    unused: list[Guess] = field(default_factory=list)


def cast(table: TableStatistics, files: Path) -> Roles:
    """Give every column its part.

    Args:
        table: counts over the table.
        files: folder below which pictures lie.
    """
    roles = Roles()
    columns = [each for each in table.columns.values() if each.name]
    guesses = [guess(column, points=table.has_points) for column in columns]
    # What stands in a value with its unit is no column beside it.
    whole = {e.name for e in guesses if e.kind == "number" and e.column.kinds["quantity"]}
    guesses = [each for each in guesses if whole.isdisjoint(outer_names(each.name))]
    roles.split = next((each for each in guesses if each.kind == "split"), None)
    _place_pictures(roles, [each for each in guesses if each.kind == "picture"], table, files)
    rest = [each for each in guesses if each is not roles.split and each not in roles.images]
    roles.id = _find_id(rest, table)
    rest = [each for each in rest if each is not roles.id]
    roles.label = _find_label(rest)
    label = roles.settled = _settled(roles.label)
    rest = [each for each in rest if each is not label]
    roles.group = [each for each in rest if GROUP.search(each.name) and _repeats(each)]
    for each in rest:
        if each in roles.group:
            continue
        if each.kind in ("series", "rows"):
            roles.series.append(each)
        elif each.kind == "text":
            roles.texts.append(each)
        elif each.kind == "date":
            roles.dates.append(each)
        elif each.kind in ("number", "category") or (each.kind == "name" and _repeats(each)):
            _add_field(roles, each, label, table)
        else:
            roles.unused.append(each)
    return roles


def _add_field(roles: Roles, each: Guess, label: Guess | None, table: TableStatistics) -> None:
    # An amount is no id, whatever its name ends with: uric_acid, body_mass_index.
    named = ID.search(each.name) and not (each.kind == "number" and _has_decimals(each))
    if (named or _counts_rows(each, table)) and len(each.column.distinct) > 20:
        each.why = f"looks like an id ({each.why})"
        roles.unused.append(each)
        return
    if label is not None:
        told = told_by(each.name, label.name, table.kept, table.decimal)
        if told >= _TELLS:
            each.warnings.append(
                f"WARNING, a leak? It almost determines {label.name!r} ({told:.0%})"
            )
    if AFTERWARDS.search(each.name):
        each.warnings.append("WARNING, a leak? Its name suggests something known only afterwards")
    roles.fields.append(each)


def _repeats(each: Guess) -> bool:
    return 1 < len(each.column.distinct) < each.column.present


def _find_id(guesses: Iterable[Guess], table: TableStatistics) -> Guess | None:
    unique = [
        each
        for each in guesses
        if len(each.column.distinct) == each.column.present == table.rows > 1
        and each.kind in ("number", "name", "picture", "category", "series")
        and not (each.kind == "number" and _has_decimals(each))
    ]
    named = [each for each in unique if ID.search(each.name)]
    if named:
        return named[0]
    return next((e for e in unique if e.kind != "number" and not e.column.spaces), None)


def _has_decimals(each: Guess) -> bool:
    """Whether numbers are amounts, not names; those with a unit may be either, as 1000P is."""
    kinds = each.column.kinds
    return not each.column.units and kinds["whole"] < kinds["number"]


def _counts_rows(each: Guess, table: TableStatistics) -> bool:
    """Whether numbers count the rows, as pandas' index does: their order may tell the label."""
    column = each.column
    return (
        len(column.distinct) == column.kinds["whole"] == table.rows
        and column.low in (0, 1)
        and column.high == column.low + table.rows - 1
    )


def _find_label(guesses: Iterable[Guess]) -> list[Guess]:
    """Return the columns that may be the label: those called so, or else categories, or numbers."""
    able = [
        each
        for each in guesses
        if (each.kind == "number" and 2 * each.column.units.total() <= each.column.present)
        or (each.kind == "category" and 2 <= len(each.words) <= 20)
    ]
    for pattern in LABEL:
        named = [each for each in able if pattern.search(each.name)]
        if named:
            return named
    return [each for each in able if each.kind == "category"] or able


def _settled(candidates: list[Guess]) -> Guess | None:
    """Return the only one, but for a number that nothing calls a label: it may be an input."""
    if len(candidates) != 1:
        return None
    (only,) = candidates
    return only if names_label(only.name) or only.kind == "category" else None


def _place_pictures(
    roles: Roles, guesses: list[Guess], table: TableStatistics, files: Path
) -> None:
    """Find the folder where the pictures are; columns whose pictures are there are images."""
    folders = [files, *_folders(files)]
    best_of: dict[str, tuple[int, str]] = {}
    for each in guesses:
        names = [row[each.name] for row in table.kept[:200] if each.name in row]
        names = [name for item in names for name in (item if isinstance(item, list) else [item])]
        names = [name for name in names if isinstance(name, str) and len(name) < _LONGEST_PATH][:50]
        found = {folder: sum((folder / name).is_file() for name in names) for folder in folders}
        best = max(folders, key=lambda folder: found[folder])
        best_of[each.name] = (found[best], best.relative_to(files).as_posix())
        if not found[best]:
            each.warnings.append("no such images found: correct `folder`, or give --files")
    # Paths from the folder itself before names whose folder had to be found.
    guesses = sorted(guesses, key=lambda each: (not best_of[each.name][0], best_of[each.name][1]))
    if guesses:
        roles.folder = best_of[guesses[0].name][1]
        found_any = best_of[guesses[0].name][0] > 0
        roles.images = [
            each
            for each in guesses
            if best_of[each.name][1] == roles.folder and bool(best_of[each.name][0]) == found_any
        ]


def _folders(files: Path) -> list[Path]:
    return sorted(each for each in files.iterdir() if each.is_dir())[:_FOLDERS_LOOKED_AT]
