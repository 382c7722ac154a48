"""The challenge's own layout: a text file a stay, and a table of the outcomes."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from lanistr.errors import DataError, unknown_name
from training.prepare.physionet2012.columns import LARGEST, read_columns
from training.prepare.physionet2012.stays import (
    DEATH,
    DESCRIPTORS,
    EVENTS,
    Stays,
    refuse_repeated,
    unlabelled,
)
from training.prepare.problems import Problems
from training.prepare.sources import file_hashes

_HEADER = "Time,Parameter,Value"
_TIME = re.compile(r"(\d{2,3}):([0-5]\d)")


def read_texts(folder: Path, outcomes: Path, known: frozenset[str], problems: Problems) -> Stays:
    """Read a set. Without the outcomes the stays are unlabelled.

    Args:
        folder: with a text file a stay.
        outcomes: the CSV file of outcomes.
        known: names of the parameters.
        problems: takes what cannot be used.

    Raises:
        DataError: the folder has no stays, or the outcomes cannot be read or name a stay twice.
    """
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise DataError(
            "the set is empty", code="no_source", field=str(folder), accepted="a text file a stay"
        )
    columns: tuple[list[Any], ...] = ([], [], [], [])
    counts: Counter[str] = Counter()
    rows: list[dict[str, float]] = []
    for path in tqdm(paths, desc=folder.name, unit=" stays", disable=None):
        row = _read_stay(path, known, columns, counts, problems)
        rows += [] if row is None else [row]
    described = pl.DataFrame(
        rows, schema={"record_id": pl.Int64} | dict.fromkeys(DESCRIPTORS, pl.Float64)
    )
    hashes = file_hashes(folder.parent, paths)
    together = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    files = {f"{folder.name}/*.txt": together}
    if outcomes.is_file():
        labels = read_columns(outcomes, {"RecordID": "record_id", DEATH: DEATH}, problems)
        if labels["record_id"].is_duplicated().any():
            refuse_repeated(labels, outcomes)
        _tell_unmatched(described["record_id"], labels["record_id"], outcomes, problems)
        described = described.join(labels, on="record_id", how="left", maintain_order="left")
        files |= file_hashes(folder.parent, [outcomes])
    else:
        described = unlabelled(described, outcomes)
    events = pl.DataFrame(dict(zip(EVENTS, columns, strict=True)), schema=EVENTS)
    return Stays(described, events, counts, files)


def _tell_unmatched(stays: pl.Series, outcomes: pl.Series, path: Path, problems: Problems) -> None:
    """Tell of stays without an outcome and of outcomes without a stay, all of a kind at once."""
    for code, lacking, count, says in (
        (
            "no_outcome",
            _without(stays, outcomes),
            len(stays),
            "stays have no outcome and count as unlabelled",
        ),
        (
            "no_stay",
            _without(outcomes, stays),
            len(outcomes),
            "outcomes are of stays that are not there",
        ),
    ):
        if lacking:
            problems.add(
                code, f"{len(lacking)} of {count} {says}", file=path, column="RecordID",
                seen=", ".join(map(str, lacking)),
            )  # fmt: skip


def _without(these: pl.Series, others: pl.Series) -> list[int]:
    return these.filter(~these.is_in(others.implode())).sort().to_list()


def _read_stay(
    path: Path,
    known: frozenset[str],
    columns: Sequence[list[Any]],
    counts: Counter[str],
    problems: Problems,
) -> dict[str, float] | None:
    """Read one stay: append its measurements to the columns, return its descriptors.

    The first weight of minute 0 is a descriptor, as is everything else that is said but once.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, ValueError):
        header, lines = "", []
    row: dict[str, float] = {}
    found: list[tuple[float, str, float]] = []
    if header.strip() != _HEADER:
        problems.add("not_a_stay", f"not a stay: its first line is not {_HEADER}", file=path)
        return None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        time, name, text = [*line.strip().split(","), "", ""][:3]
        hours, value = _hours(time), _number(text)
        if name == "" and hours is not None:
            counts["lines without a parameter"] += 1  # thousands in set c: no reason to stop
        elif hours is None or value is None or line.count(",") != 2:
            problems.add(
                "bad_line", "not a time, a name, a number", file=path, row=number, seen=line
            )
        elif hours == 0 and name in ("RecordID", *DESCRIPTORS) and name not in row:
            row[name] = value
        elif name in known:
            found.append((hours, name, value))
        else:
            problems.add(
                "unknown_parameter",
                f"no such parameter here; accepted: {unknown_name(name, sorted(known))}",
                file=path,
                row=number,
                column="Parameter",
                seen=name,
            )
    record = row.pop("RecordID", None)
    if record is None or str(int(record)) != path.stem:
        problems.add("wrong_record", "the RecordID is not the file's name", file=path, seen=record)
        return None
    for hours, name, value in found:
        for column, cell in zip(columns, (int(record), hours, name, value), strict=True):
            column.append(cell)
    return {"record_id": int(record), **row}


@lru_cache(maxsize=10_000)
def _hours(text: str) -> float | None:
    """Read HH:MM."""
    found = _TIME.fullmatch(text)
    return int(found[1]) + int(found[2]) / 60 if found else None


@lru_cache(maxsize=100_000)
def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST else None
