"""Stays of the challenge as either layout holds them, and sets of them put together."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lanistr.errors import DataError
from training.prepare.problems import Problems

log = logging.getLogger(__name__)

DEATH = "In-hospital_death"
DESCRIPTORS = ("Age", "Gender", "Height", "ICUType", "Weight")
"""What the row of a stay holds; -1 means that it was not recorded."""

EVENTS = {
    "record_id": pl.Int64,
    "hours": pl.Float64,
    "parameter": pl.String,
    "value": pl.Float64,
}
"""Columns of the measurements."""


@dataclass(frozen=True)
class Stays:
    """Stays of the challenge as read.

    Attributes:
        stays: a row a stay: `record_id`, `set`, the label and the descriptors, null where missing.
        events: a row a measurement, in the order of the files: `record_id`, `hours` since
            admission, `parameter`, `value` in the challenge's unit.
        counts: what was read and passed over.
        files: sha256 by file name.
    """

    stays: pl.DataFrame
    events: pl.DataFrame
    counts: Mapping[str, int]
    files: Mapping[str, str]


def join(sets: Sequence[Stays], problems: Problems) -> Stays:
    """Put sets together and their measurements in order.

    Where a stay has two values of a parameter at one time, the one that was written last counts.
    Both layouts come out the same: the tables hold float32, so that is what all numbers are cut to.

    Raises:
        DataError: two stays have one name.
    """
    stays = pl.concat([each.stays for each in sets], how="diagonal")
    if stays["record_id"].is_duplicated().any():
        refuse_repeated(stays, "the sets")
    events = pl.concat([each.events for each in sets])
    ours = events.join(stays, on="record_id", how="semi", maintain_order="left")
    for (record,) in (
        events.join(stays, on="record_id", how="anti")
        .select("record_id")
        .unique()
        .sort("record_id")
        .iter_rows()
    ):
        problems.add(
            "no_stay", "measurements of a stay that is not listed", file="the sets", seen=record
        )
    ours = ours.with_columns(
        pl.col(name).cast(pl.Float32).cast(pl.Float64).round(4) for name in ("hours", "value")
    )
    last = ours.unique(["record_id", "hours", "parameter"], keep="last", maintain_order=True)
    counts = sum((Counter(each.counts) for each in sets), Counter[str]())
    counts |= {f"stays of set {name}": n for name, n in stays["set"].value_counts().iter_rows()}
    counts |= {
        "stays": stays.height,
        "stays without a measurement": stays.join(last, on="record_id", how="anti").height,
        "measurements": ours.height,
        "measurements replaced by a later one of the same minute": ours.height - last.height,
    }
    return Stays(
        stays,
        last.sort("record_id", "hours", maintain_order=True),
        dict(sorted(counts.items())),
        {name: digest for each in sets for name, digest in each.files.items()},
    )


def refuse_repeated(table: pl.DataFrame, where: Path | str) -> None:
    """Refuse a table in which a `record_id` stands twice.

    Args:
        table: in which one does.
        where: the table is from.

    Raises:
        DataError: always.
    """
    repeated = table.filter(pl.col("record_id").is_duplicated())["record_id"]
    raise DataError(
        "two stays have one name",
        code="repeated_record",
        field=str(where),
        seen=repeated[0],
        accepted="every RecordID once",
    )


def unlabelled(stays: pl.DataFrame, lacking: Path | str) -> pl.DataFrame:
    """Return stays without labels, and say what is lacking."""
    log.warning("no stay of this set has a label: there is no %s", lacking)
    return stays.with_columns(pl.lit(None, pl.Float64).alias(DEATH))
