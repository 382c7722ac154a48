"""The layout of two tables a set: its measurements in Parquet, its stays in CSV."""

from pathlib import Path

import polars as pl

from training.prepare.physionet2012.columns import read_columns, unreadable
from training.prepare.physionet2012.stays import DEATH, DESCRIPTORS, EVENTS, Stays, unlabelled
from training.prepare.problems import Problems
from training.prepare.sources import file_hashes


def read_tables(events: Path, stays: Path, known: frozenset[str], problems: Problems) -> Stays:
    """Read a set. Where the table of stays has no column of deaths, they are unlabelled.

    Args:
        events: the Parquet file of measurements.
        stays: the CSV file of stays.
        known: names of the parameters.
        problems: takes what cannot be used.

    Raises:
        DataError: a table cannot be read.
    """
    try:
        measured = pl.read_parquet(events, columns=list(EVENTS))
        measured = measured.select(pl.col(n).cast(kind) for n, kind in EVENTS.items())
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise unreadable(events, exc, EVENTS) from exc
    usable = pl.col("parameter").is_in(list(known)) & (pl.col("hours") >= 0)
    usable &= pl.col("record_id").is_not_null()
    usable &= pl.all_horizontal(pl.col("hours", "value").cast(pl.Float32).is_finite())
    marked = measured.with_row_index("row", offset=1).with_columns(
        usable.fill_null(value=False).alias("usable")
    )
    for row in marked.filter(~pl.col("usable")).iter_rows(named=True):
        seen = {name: row[name] for name in EVENTS}
        problems.add(
            "bad_event",
            "not a known parameter with a time and a number",
            file=events,
            row=row["row"],
            seen=seen,
        )
    labelled = DEATH in _header(stays)
    names = {"record_id": "record_id"} | ({DEATH: DEATH} if labelled else {})
    described = read_columns(stays, names, problems, DESCRIPTORS)
    return Stays(
        described if labelled else unlabelled(described, f"{DEATH} in {stays}"),
        marked.filter("usable").select(*EVENTS),
        {},
        file_hashes(events.parent, [events, stays]),
    )


def _header(path: Path) -> list[str]:
    """Return the names of a file's columns; none where it cannot be read, which is told later."""
    try:
        return pl.read_csv(path, n_rows=0, infer_schema=False).columns
    except (pl.exceptions.PolarsError, OSError):
        return []
