"""In which layout a set of the challenge is there."""

from pathlib import Path

import polars as pl

from lanistr.errors import DataError
from lanistr.tasks import TaskSpec
from training.prepare.physionet2012.stays import Stays
from training.prepare.physionet2012.tables import read_tables
from training.prepare.physionet2012.texts import read_texts
from training.prepare.problems import Problems

SETS = ("a", "b", "c")


def read_set(folder: Path, name: str, task: TaskSpec, problems: Problems) -> Stays:
    """Read one set, in whichever layout it is there.

    Args:
        folder: with the challenge's files.
        name: `a`, `b` or `c`.
        task: names the parameters.
        problems: takes what cannot be used.

    Raises:
        DataError: the set is not there, or a table of it cannot be read.
    """
    assert task.timeseries is not None
    known = frozenset(task.timeseries.variables)
    events, stays = folder / f"events_{name}.parquet", folder / f"stays_{name}.csv"
    texts, outcomes = folder / f"set-{name}", folder / f"Outcomes-{name}.txt"
    if events.is_file() and stays.is_file():
        found = read_tables(events, stays, known, problems)
    elif texts.is_dir():
        found = read_texts(texts, outcomes, known, problems)
    else:
        raise DataError(
            "the set is not there",
            code="no_source",
            field=str(folder),
            seen=f"set {name}",
            accepted=f"{texts.name}/*.txt and {outcomes.name}, or {events.name} and {stays.name}",
        )
    named = found.stays.with_columns(pl.lit(name).alias("set"))
    return Stays(named, found.events, found.counts, found.files)
