"""Reads a table, guesses what its columns are, writes the task file."""

import logging
from collections import Counter
from pathlib import Path

from lanistr.draft import written_to
from lanistr.errors import ConfigError, DataError
from training.prepare.problems import Problems, problems_path
from training.prepare.table.columns import TableSource, TextFormat
from training.prepare.table.guess.roles import cast
from training.prepare.table.guess.series import guess_series
from training.prepare.table.guess.statistics import TableStatistics
from training.prepare.table.guess.task_file import Draft
from training.prepare.table.rows import MissingWords
from training.prepare.table.tables import open_table

log = logging.getLogger(__name__)


def write_guess(
    path: Path, files: Path, series: Path | None, out: Path, most_problems: int
) -> None:
    """Write a first task file.

    Args:
        path: the main table.
        files: folder of pictures and series.
        series: the table of all series, if there is one; below `files`.
        out: the file to write.
        most_problems: stop when more rows cannot be read.

    Raises:
        DataError: a table cannot be read, or no column could be used as input.
        ConfigError: `out` exists.
    """
    if out.exists():
        raise ConfigError(
            "the file exists",
            code="exists",
            field=str(out),
            accepted="a new file name; the existing file is kept",
        )
    problems = Problems(problems_path(out), most_problems, quiet=True)
    try:
        _write(path, files, series, out, problems)
    finally:
        if problems.counts:
            found = ", ".join(f"{count} {code}" for code, count in problems.counts.most_common())
            log.warning("problems, listed in %s: %s", problems_path(out), found)


def _write(path: Path, files: Path, series: Path | None, out: Path, problems: Problems) -> None:
    table, form = _read(path, problems)
    roles = cast(table, files)
    found = None
    if series is not None:
        measured, series_form = _read(series, problems)
        name = _below(series, files)
        main_id = roles.id.name if roles.id else None
        found = (name, guess_series(measured, table, main_id), measured, series_form)
    if not (roles.texts or roles.images or roles.fields or found):
        raise DataError(
            "no column could be used as input",
            code="no_inputs",
            field=str(path),
            seen=", ".join(table.columns),
            accepted="columns of text, image paths, numbers or categories",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_to(out):
        out.write_text(Draft(path.name, table, roles, form, found).text(), encoding="utf-8")
    log.info(
        "%s: a first guess from %d rows and %d columns; check and edit it, then prepare with "
        "--task",
        out, table.rows, len(table.columns),
    )  # fmt: skip


def _read(path: Path, problems: Problems) -> tuple[TableStatistics, TextFormat]:
    """Count over a table, in the first encoding that it can be read in."""
    before = problems.counts.copy()
    try:
        return _read_as(path, TextFormat(), problems)
    except DataError as exc:
        others = {
            "not_utf8": TextFormat(encoding="cp1252"),
            "utf16": TextFormat(encoding="utf-16"),
        }
        if exc.code not in others:
            raise
        log.warning("%s, %s; trying %s", path, exc.message, others[exc.code].encoding)
        problems.take_back(before)
        return _read_as(path, others[exc.code], problems)


def _read_as(
    path: Path, form: TextFormat, problems: Problems
) -> tuple[TableStatistics, TextFormat]:
    before = problems.counts.copy()
    found = _count(path, form, problems)
    kinds: Counter[str] = sum((each.kinds for each in found.columns.values()), Counter())
    if kinds["comma"] > kinds["number"] - kinds["whole"] + kinds["marked"]:
        # Now that it is known, every number is read once more as preparing will read it.
        form = form.model_copy(update={"decimal": ","})
        problems.take_back(before)
        found = _count(path, form, problems)
    return found, form


def _count(path: Path, form: TextFormat, problems: Problems) -> TableStatistics:
    missing = MissingWords(TableSource().missing, {}, form.decimal)
    table = open_table(path, form, problems)
    return TableStatistics.of(table.rows(), table.find(), missing, form.decimal)


def _below(path: Path, files: Path) -> str:
    """Return a path as the task file has it."""
    try:
        return path.resolve().relative_to(files.resolve()).as_posix()
    except ValueError:
        return str(path.resolve())
