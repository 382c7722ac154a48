"""The task file: the guesses as YAML that is ready to run, with the reasons as comments."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from training.prepare.table.cells import HOURS
from training.prepare.table.columns import UNDECIDED, TableSource, TextFormat
from training.prepare.table.guess.kinds import Guess, learned, order_classes
from training.prepare.table.guess.roles import Roles
from training.prepare.table.guess.series import SeriesGuess
from training.prepare.table.guess.statistics import TableStatistics

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_PLAIN = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"})


class Draft:
    """Writes the task file line by line."""

    def __init__(
        self, name: str, table: TableStatistics, roles: Roles, form: TextFormat,
        series: tuple[str, SeriesGuess, TableStatistics, TextFormat] | None,
    ) -> None:  # fmt: skip
        self._lines: list[str] = []
        self._name, self._table, self._roles = name, table, roles
        self._form, self._series = form, series

    def text(self) -> str:
        """Return the file."""
        self._task()
        self._label()
        self._parts()
        self._source_section()
        self._unused()
        self._unused_of_series()
        return "\n".join(self._lines) + "\n"

    # ---- the task -------------------------------------------------------------------------------

    def _task(self) -> None:
        self._add(
            f"# A first guess from {self._table.rows} rows of {_printable(self._name)}.",
            "# Check every line, correct what is wrong, remove what is not known at the time of",
            "# prediction, and pass the file to `python -m training.prepare table` as --task.",
            "# How to write such a file: docs/bring-your-data.md",
            f"name: {_slug(self._name)}  # the service answers at /predict/{_slug(self._name)}",
            f"title: {_quoted('Prediction from ' + self._name)}",
        )

    def _label(self) -> None:
        label = self._roles.settled
        self._add("label:")
        if label is None:
            self._add(
                "  # It is not clear which column is the label: decide under `source`, then "
                "correct this.",
                "  kind: binary", "  name: outcome", '  classes: ["0", "1"]', "metric: auroc",
            )  # fmt: skip
            return
        self._add(
            f"  # {self._facts(label)}", *(f"  # {_printable(each)}" for each in label.warnings)
        )
        if label.kind == "number" and not _stars(label):
            self._add("  kind: regression", f"  name: {_key(label.name)}",
                      '  unit: ""  # fill in', "metric: mae")  # fmt: skip
            return
        classes = order_classes(label.words)
        listed = f"  classes: [{', '.join(map(_quoted, classes))}]"
        if len(classes) == 2:
            self._add(
                "  kind: binary", f"  name: {_key(label.name)}",
                f"{listed}  # `probability` is that of the second",
                "metric: auroc",
            )  # fmt: skip
        elif _stars(label):
            self._add(
                "  kind: ordinal  # classes in order; use multiclass if they have none",
                f"  name: {_key(label.name)}", listed,
                f"  values: [{', '.join(classes)}]", "metric: quadratic_kappa",
            )  # fmt: skip
        else:
            self._add("  kind: multiclass", f"  name: {_key(label.name)}", listed,
                      "metric: macro_f1")  # fmt: skip

    def _parts(self) -> None:
        roles = self._roles
        if roles.texts:
            self._add("", "text:", '  description: ""  # what the notes are, and up to when')
        if roles.images:
            self._add("", "image:", '  description: ""',
                      "  flip: false  # true if a mirrored image means the same")  # fmt: skip
        if roles.fields:
            safe = [each for each in roles.fields if not each.leaks]
            off = "" if safe else "# "
            self._add("", f"{off}tabular:", f"{off}  fields:")
            for each in roles.fields:
                self._field(each, self._table, series=False)
        if self._series:
            self._variables(*self._series[:3])

    def _variables(self, file: str, guessed: SeriesGuess, table: TableStatistics) -> None:
        self._add(
            "", "timeseries:", f"  # {table.rows} rows in {file}",
            f"  horizon_hours: {guessed.horizon:g}  # the last time found; later rows are left out",
            f"  step_hours: {guessed.step:g}",
            "  variables:",
        )  # fmt: skip
        for each in guessed.variables:
            self._field(each, table, series=True)

    def _field(self, each: Guess, table: TableStatistics, *, series: bool) -> None:
        """Write a field; one that may be a leak is written as a comment."""
        self._add(f"    # {self._facts(each, table)}",
                  *(f"    # {_printable(warning)}" for warning in each.warnings))  # fmt: skip
        key = f"    {'# ' if each.leaks else ''}{_key(each.name)}:"
        if each.kind in ("number", "constant"):
            self._add(
                f"{key} {{kind: number, unit: {_unit(each)}}}  # unit: fill in; range: [low, high]"
            )
        elif each.kind == "category" and (series or not learned(each)):
            words = order_classes(each.words)
            normal = f", normal: {_quoted(each.words[0])}" if series else ""
            listed = ", ".join(map(_quoted, words))
            self._add(f"{key} {{kind: category, categories: [{listed}]{normal}}}")
        elif each.kind == "category":
            self._add(
                f"{key} {{kind: category}}  # its categories are learned from the training split"
            )
        else:
            self._add(
                f"{key} {{kind: category, buckets: 1024}}  # too many values: they share codes"
            )

    # ---- which column is what -------------------------------------------------------------------

    def _source_section(self) -> None:
        roles = self._roles
        self._add(
            "",
            "# How the columns are used. This stays with the data; the rest goes with the model.",
            "source:",
        )
        if roles.id:
            self._add(f"  id: {_quoted(roles.id.name)}  # distinct in every row")
        else:
            self._add(
                "  id: null  # no column is distinct in every row: cases are named row-1, ..."
            )
        self._group()
        if roles.split:
            self._add(f"  split: {_quoted(roles.split.name)}  # {self._facts(roles.split)}")
        self._label_column()
        if roles.texts:
            self._add("  text:", '    # each column is a separate note; join: "\\n" makes them one')
            self._listed(roles.texts)
        if roles.images:
            self._add("  image:", f"    folder: {_quoted(roles.folder)}")
            self._listed(roles.images)
        if self._series:
            self._series_columns(*self._series[:2], self._series[3])
        self._settings()

    def _group(self) -> None:
        if not self._roles.group:
            self._add(
                "  group: null  # no column looks like a patient or a product; if several cases",
                "               # belong together, give the column that they share",
            )
            return
        first, *others = self._roles.group
        count = len(first.column.distinct)
        self._add(f"  group: {_quoted(first.name)}  # {count} distinct; none will be in two splits")
        for other in others:
            self._add(f"  # group: {_quoted(other.name)}  # {self._facts(other)}")

    def _label_column(self) -> None:
        if self._roles.settled:
            self._add(f"  label: {_quoted(self._roles.settled.name)}")
            return
        names = ", ".join(each.name for each in self._roles.label[:8]) or "no column looks like one"
        self._add(
            f"  label: {_quoted(UNDECIDED)}  # DECIDE; null for none. Candidates: "
            f"{_printable(names)}"
        )

    def _series_columns(self, file: str, guessed: SeriesGuess, form: TextFormat) -> None:
        self._add(
            "  timeseries:", f"    file: {_quoted(file)}", f"    id: {_quoted(guessed.id)}",
        )  # fmt: skip
        if guessed.time:
            self._add(f"    time: {_quoted(guessed.time)}")
        else:
            names = ", ".join(each.name for each in guessed.unused) or "no column is left"
            self._add(
                f"    time: {_quoted(UNDECIDED)}  # DECIDE: the column with the time. Candidates:"
                f" {_printable(names)}"
            )
        if Path(file).is_absolute():
            self._add("    outside: true  # the file is not in the table's folder or --files")
        if guessed.dated:
            names = ", ".join(each.name for each in self._roles.dates) or "none looks like a date"
            self._add(
                f"    start: {_quoted(UNDECIDED)}  # DECIDE: the column of the main table with the",
                f"      # date that the hours count from: {_printable(names)}",
                "      # Dates, here and there, are only read as 2020-01-31 or 2020-01-31 14:05.",
            )
        else:
            names = ", ".join(HOURS)
            doubt = "" if guessed.unit_told else f"  # CHECK, this is only a guess: {names}"
            self._add(f"    time_unit: {guessed.unit_of_time}{doubt}")
        if guessed.variable and guessed.value:
            self._add(f"    variable: {_quoted(guessed.variable)}",
                      f"    value: {_quoted(guessed.value)}")  # fmt: skip
            if guessed.unit:
                self._add(f"    unit: {_quoted(guessed.unit)}")
        self._form_of(form, "    ")

    def _settings(self) -> None:
        roles = self._roles
        used = [*roles.fields, *roles.texts, *roles.images, *roles.label, *roles.group]
        found = {each.name: each.missing for each in used if each.missing}
        self._add(f"  missing: [{', '.join(map(_quoted, TableSource().missing))}]")
        if found:
            self._add("  missing_in:  # values that seem to mean a missing value")
            for name, words in found.items():
                self._add(f"    {_key(name)}: [{', '.join(map(_quoted, words))}]")
        self._form_of(self._form, "  ")

    def _form_of(self, form: TextFormat, indent: str) -> None:
        if form.decimal == ",":
            self._add(f'{indent}decimal: ","  # numbers have a comma')
        if form.encoding != "utf-8":
            self._add(f"{indent}encoding: {form.encoding}  # the file is not in UTF-8")

    def _unused(self) -> None:
        roles = self._roles
        rest = [*roles.unused, *roles.dates, *roles.series]
        if not rest:
            return
        self._add("", "# Columns that are not used:")
        for each in rest:
            self._add_unused(each, self._table)
        if roles.dates:
            self._add(
                "# If a date matters, convert it to a number: an age, a year, hours since another "
                "date."
            )
        if roles.series:
            self._add("# Series, one per case: see docs/bring-your-data.md, timeseries.column.")

    def _unused_of_series(self) -> None:
        if self._series is None or not self._series[1].unused:
            return
        file, guessed, table, _ = self._series
        self._add("", f"# Columns of {_printable(file)} that are not used:")
        for each in guessed.unused:
            self._add_unused(each, table)

    def _add_unused(self, each: Guess, table: TableStatistics) -> None:
        self._add(f"#   {each.name!r}, {each.kind}: {self._facts(each, table)}",
                  *(f"#     {_printable(warning)}" for warning in each.warnings))  # fmt: skip

    # ---- lines ----------------------------------------------------------------------------------

    def _listed(self, guesses: Iterable[Guess]) -> None:
        self._add("    columns:")
        for each in guesses:
            self._add(f"      - {_quoted(each.name)}  # {self._facts(each)}",
                      *(f"        # {_printable(warning)}" for warning in each.warnings)
                      )  # fmt: skip

    def _facts(self, each: Guess, table: TableStatistics | None = None) -> str:
        missing = (table or self._table).missing(each.column)
        distinct = len(each.column.distinct)
        example = f", such as {each.column.example!r}" if distinct else ""
        return _printable(f"{missing:.0%} missing, {distinct} distinct{example}; {each.why}")

    def _add(self, *lines: str) -> None:
        self._lines += lines


def _unit(number: Guess) -> str:
    """Return the unit that values come with: preparing takes them in that of their field."""
    if number.column.kinds["duration"]:
        return "h"
    return _quoted(number.column.unit)


def _stars(label: Guess) -> bool:
    """Whether a number is one of a few whole grades."""
    words = label.words
    whole = all(re.fullmatch(r"\d+", word) for word in words)
    return whole and 3 <= len(words) <= 10


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9_-]+", "_", name.split(".")[0].lower()).strip("_-")
    return slug if re.match(r"[a-z]", slug) else f"task_{slug}".rstrip("_")


def _key(name: str) -> str:
    plain = _PLAIN.fullmatch(name) and name.casefold() not in _NOT_PLAIN
    return name if plain else _quoted(name)


def _quoted(word: str) -> str:
    return "".join(
        letter if letter.isprintable() else _escaped(letter)
        for letter in json.dumps(word, ensure_ascii=False)
    )


def _escaped(letter: str) -> str:
    """Return a letter as YAML has it, which knows no pairs of surrogates, as JSON does."""
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _printable(text: str) -> str:
    """Return what may stand in a comment: one line, without control characters."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "�" for letter in line)
