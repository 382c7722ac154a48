"""Which column of a user's table is what: the section `source` of the user's task file.

The rest of the file is the task itself, which goes with the model; this section stays behind.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lanistr.errors import ConfigError, unknown_name
from lanistr.fields import listed_words
from lanistr.modalities import Modality
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec, read_task_file
from training.data.store import Split
from training.prepare.table.rows import MissingWords

UNDECIDED = "?"
"""What `--guess` writes where only the user can decide."""

SPLIT_WORDS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def _spell(word: Any) -> Any:
    """Take the 1 and the true of YAML for the words that they are in a table."""
    if isinstance(word, bool):
        return str(word).lower()
    return str(word) if isinstance(word, int | float) else word


Word = Annotated[str, BeforeValidator(_spell)]


class TextFormat(Schema):
    """How a file of text is written.

    Attributes:
        delimiter: of CSV. None: found from the header, or told by Excel's first line.
        encoding: of CSV and JSON lines.
        decimal: what stands before the decimals of a number in text.
    """

    delimiter: Literal[",", ";", "\t", "|"] | None = None
    encoding: Literal["utf-8", "utf-16", "cp1252", "latin-1"] = "utf-8"
    decimal: Literal[".", ","] = "."


class TextColumns(Schema):
    """Where the notes are.

    Attributes:
        columns: each holds a note or, in JSON lines and Parquet, a list of them; oldest first.
        join: puts the columns of a row together to one note, with this between them. None: each
            is a note of its own.
    """

    columns: tuple[str, ...] = Field(min_length=1)
    join: str | None = None


class ImageColumns(Schema):
    """Where the pictures are.

    Attributes:
        columns: each holds the path of a picture or, in JSON lines and Parquet, a list of them.
        folder: the paths start here; itself below the table's folder or `--files`.
        separator: stands between the paths where a cell holds several.
        outside: whether folder and paths may be absolute, or lead out of their folder.
    """

    columns: tuple[str, ...] = Field(min_length=1)
    folder: Path = Path()
    separator: str | None = Field(default=None, min_length=1)
    outside: bool = False


class SeriesColumns(TextFormat):
    """Where the series are: in one table of all cases, or one file or list a case.

    Wide rows have a column a variable; long rows name one variable each, in the column `variable`,
    with its value in the column `value`.

    Attributes:
        file: the table of all cases, below the table's folder or `--files`.
        id: in that table, the column with the case's id.
        column: instead of `file`: the column of the main table with the path of the case's own
            file or, in JSON lines and Parquet, with the rows themselves.
        folder: the paths in `column` start here.
        outside: whether file, folder and paths may be absolute, or lead out of their folder.
        time: the column with the time of a row.
        time_unit: what a number in it counts. Dates and durations speak for themselves.
        start: the column of the main table with the date from which hours count; needed where
            times are dates.
        variable: of long rows, the column with the variable's name.
        value: of long rows, the column with the value.
        unit: of long rows, the column with the value's unit.
        names: column (wide) or word (long) by the task's variable, where they differ.
        ignore: columns (wide, a file a case) or words (long) that are known and not wanted.
    """

    file: Path | None = None
    id: str | None = None
    column: str | None = None
    folder: Path = Path()
    outside: bool = False
    time: str = "hours"
    time_unit: Literal["seconds", "minutes", "hours", "days"] = "hours"
    start: str | None = None
    variable: str | None = None
    value: str | None = None
    unit: str | None = None
    names: dict[str, Word] = {}
    ignore: tuple[Word, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.file is None) == (self.column is None):
            raise ValueError(
                "give either file (one table for all cases) or column (a series per case)"
            )
        if (self.file is None) != (self.id is None):
            raise ValueError("file and id go together: id is the column with the case's id")
        if (self.variable is None) != (self.value is None):
            raise ValueError("variable and value go together: they are for the long format")
        if self.unit is not None and self.variable is None:
            raise ValueError("unit is for the long format: give variable and value too")
        return self


class TableSource(TextFormat):
    """Which column of the table is what.

    Attributes:
        id: names the case, once each. None: cases are called by their row.
        group: the patient, product or the like that never stands in two splits. None: the case.
        split: says to which split a row belongs. None: drawn, by `--splits` and `--seed`.
        split_words: the words for the splits in that column, beside the usual ones.
        label: what is to be predicted. None: no case has one.
        label_words: class by word of that column, where they differ.
        subgroups: columns by which an evaluation is told apart too; they are no input.
        text: where the notes are.
        image: where the pictures are.
        tabular: column by field of the task, where they differ.
        timeseries: where the series are.
        missing: words that mean a missing value, in every column, without regard to case.
        missing_in: more of them, by column.
        repeated_rows: whether a row that is equal to an earlier one in every cell is left out.
    """

    id: str | None = None
    group: str | None = None
    split: str | None = None
    split_words: dict[Word, Split] = {}
    label: str | None = None
    label_words: dict[Word, Word] = {}
    subgroups: tuple[str, ...] = ()
    text: TextColumns | None = None
    image: ImageColumns | None = None
    tabular: dict[str, str] = {}
    timeseries: SeriesColumns | None = None
    missing: tuple[Word, ...] = ("", "NA", "N/A", "NaN", "null")
    missing_in: dict[str, tuple[Word, ...]] = {}
    repeated_rows: Literal["leave out", "keep"] = "leave out"


def read_columns(path: Path) -> tuple[TaskSpec, TableSource]:
    """Read a user's task file: the task, and which column is what.

    Raises:
        TaskError: the file is missing, not YAML, or its task is wrong.
        ConfigError: its section `source` is missing or wrong, or does not fit the task.
    """
    task, found = read_task_file(path)
    if found is None:
        raise ConfigError(
            f"{path}: the roles of the columns are not given",
            code="no_source",
            field="source",
            accepted="a section `source`; `python -m training.prepare table --guess` writes one",
        )
    source = TableSource.parse(found, ConfigError, f"{path}, source")
    _refuse_undecided({key: found[key] for key in found if key != "missing_in"}, path)
    for modality in task.modalities:
        if getattr(source, modality) is None:
            raise ConfigError(
                f"{path}: the task has {modality}, but its columns are not given",
                code="no_columns",
                field=f"source.{modality}",
                accepted=f"its columns, or a task without {modality}",
            )
    for modality in Modality:
        if modality not in task.modalities and getattr(source, modality):
            raise ConfigError(
                f"{path}: the task has no {modality}",
                code="no_such_part",
                field=f"source.{modality}",
                accepted=f"a section `{modality}` of the task, or no columns for it",
            )
    _refuse_missing(task, source, path)
    return task, source


def _listed(task: TaskSpec, source: TableSource) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield by their column the words that the label and the fields list."""
    if source.label is not None:
        yield source.label, (*task.label.classes, *source.label_words)
    if task.tabular is not None:
        for name, spec in task.tabular.fields.items():
            yield source.tabular.get(name, name), listed_words(spec)
    if task.timeseries is not None and (series := source.timeseries) is not None:
        for name, spec in task.timeseries.variables.items():
            yield series.value or series.names.get(name, name), listed_words(spec)


def _refuse_missing(task: TaskSpec, source: TableSource, path: Path) -> None:
    """Refuse a listed word that the user says means a missing value in its column."""
    named = source.missing if source.missing != TableSource().missing else ()
    missing = MissingWords(named, source.missing_in)
    for column, words in _listed(task, source):
        for word in words:
            if word.strip() and missing.known(word, column) is None:
                raise ConfigError(
                    f"{path}: a value that column {column!r} lists, but that also means a missing "
                    "value",
                    code="listed_as_missing",
                    field="source.missing",
                    seen=word,
                    accepted="words that neither the task nor `label_words` lists; missing_in gives"
                    " words for a single column",
                )


def _refuse_undecided(found: Mapping[str, Any], path: Path, within: str = "source") -> None:
    for key, value in found.items():
        if isinstance(value, dict):
            _refuse_undecided(value, path, f"{within}.{key}")
        elif value == UNDECIDED:
            raise ConfigError(
                f"{path}: not decided yet",
                code="undecided",
                field=f"{within}.{key}",
                seen=value,
                accepted="the name of a column, or null for none; the comment beside it lists "
                "candidates",
            )


def unknown_names(names: Iterable[str], known: Iterable[str], field: str, what: str) -> None:
    """Refuse a name that is none of those known.

    Raises:
        ConfigError: the first such name.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"not among the {what}",
                code="unknown_field",
                field=f"{field}.{name}",
                seen=name,
                accepted=unknown_name(name, known),
            )
