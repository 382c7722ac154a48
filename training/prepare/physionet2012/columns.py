"""Columns of numbers of a CSV file."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from lanistr.errors import DataError
from training.prepare.physionet2012.stays import DEATH
from training.prepare.problems import Problems

LARGEST = float(np.finfo(np.float32).max)
"""What all numbers are cut to has nothing larger but infinity, nor what a model reads."""

_LARGEST_ID = 2**53  # of whole numbers, up to which float64 holds each


def read_columns(
    path: Path, names: Mapping[str, str], problems: Problems, more: Iterable[str] = ()
) -> pl.DataFrame:
    """Read columns of numbers; a cell that is none becomes null and a problem.

    Args:
        path: of the file.
        names: of the columns that are read, and what they are called from then on.
        problems: takes the cells.
        more: columns that keep their names.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    names = {**names, **dict.fromkeys(more, "")}
    try:
        found = pl.read_csv(path, columns=list(names), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise unreadable(path, exc, names) from exc
    columns = []
    for name, new in names.items():
        words = found[name].fill_null("").str.strip_chars()
        numbers = words.cast(pl.Float64, strict=False)
        numbers = numbers.set(~(numbers.abs() <= LARGEST), None)  # nan is not, either
        what = "a number"
        if (new or name) == "record_id":
            numbers = numbers.set((numbers % 1 != 0) | (numbers.abs() > _LARGEST_ID), None)
            what = f"a whole number up to {_LARGEST_ID}"
        for row in np.flatnonzero((numbers.is_null() & (words != "")).to_numpy()):
            problems.add(
                "not_a_number",
                f"not {what}",
                file=path,
                row=int(row) + 1,
                column=name,
                seen=words[int(row)],
            )
        if name == DEATH:
            for row in np.flatnonzero(~numbers.is_in([0.0, 1.0, -1.0]).fill_null(value=True)):
                problems.add(
                    "bad_label",
                    "not 0 or 1; the stay counts as unlabelled",
                    file=path,
                    row=int(row) + 1,
                    column=name,
                    seen=numbers[int(row)],
                )
        columns.append(numbers.alias(new or name))
    read = pl.DataFrame(columns).with_columns(pl.col("record_id").cast(pl.Int64))
    return read.filter(pl.col("record_id").is_not_null())


def unreadable(path: Path, exc: Exception, columns: Iterable[str]) -> DataError:
    """Return the refusal of a table that cannot be read."""
    return DataError(
        f"cannot be read: {str(exc).splitlines()[0]}",
        code="bad_table",
        field=str(path),
        accepted="a table with the columns " + ", ".join(columns),
    )
