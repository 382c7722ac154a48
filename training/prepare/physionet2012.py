"""`python -m training.prepare physionet2012`: the PhysioNet / CinC Challenge 2012.

Two layouts are read, set by set: the challenge's own (a text file a stay in `set-a/`, outcomes in
`Outcomes-a.txt`), and the same in two tables, `events_a.parquet` and `stays_a.csv`.

Of the outcomes only `In-hospital_death` is read, as the label. `Survival` and `Length_of_stay` are
known after the stay, `SAPS-I` and `SOFA` are scores that others computed: none of the four is ever
looked at.

Source: Silva et al. 2012, Predicting in-hospital mortality of ICU patients, CinC 39:245-248.
"""

import argparse
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from lanistr import __version__
from lanistr.errors import ConfigError, DataError, unknown_name
from lanistr.modalities import Modality
from lanistr.sample import Measurements, Sample, Value
from lanistr.tasks import TaskSpec, find_task
from training.data.store import Dataset, Split
from training.prepare.kind import begin
from training.prepare.prepared import SplitOptions, assign_splits
from training.prepare.problems import Problems
from training.prepare.sources import file_hashes

log = logging.getLogger(__name__)

HELP = "PhysioNet Challenge 2012: 48 hours of intensive care, and in-hospital death"
EXAMPLE = (
    "python -m training.prepare physionet2012 --source challenge-2012 --sets a b --test-set b"
    " --out data/physionet2012"
)

SETS = ("a", "b", "c")
DEATH = "In-hospital_death"
DESCRIPTORS = ("Age", "Gender", "Height", "ICUType", "Weight")
"""What the row of a stay holds; -1 means that it was not recorded."""

_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_ID = 2**53  # of whole numbers, up to which float64 holds each
"""What all numbers are cut to has nothing larger but infinity, nor what a model reads."""

_HEADER = "Time,Parameter,Value"
_TIME = re.compile(r"(\d{2,3}):([0-5]\d)")
_EVENTS = {
    "record_id": pl.Int64,
    "hours": pl.Float64,
    "parameter": pl.String,
    "value": pl.Float64,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the challenge's files are, and which of them are read."""
    parser.add_argument(
        "--source", required=True, type=Path, help="folder with the challenge's files"
    )
    parser.add_argument(
        "--sets", nargs="+", choices=SETS, default=["a", "b"], help="sets to read (a b)"
    )
    parser.add_argument(
        "--test-set",
        choices=SETS,
        help="draw the test split only from this set (default: from all)",
    )


def prepare(arguments: argparse.Namespace) -> Dataset:
    """Read the sets that the command line names, and prepare their stays."""
    task = find_task("physionet2012")
    preparation = begin(arguments, task)
    problems = preparation.problems
    names = sorted(set(arguments.sets))
    found = join([read_set(arguments.source, name, task, problems) for name in names], problems)
    return preparation.run(
        lambda: samples(found),
        place_of=lambda stay: (f"set {stay.subgroups['set']}, RecordID {stay.id}", None),
        split_of=deal(found.stays, preparation.splits, arguments.test_set),
        source={
            "from": "physionet2012",
            "version": __version__,
            "sets": names,
            "test_set": arguments.test_set,
            "files": dict(found.files),
            "counts": dict(found.counts),
        },
    )


# ---- reading ------------------------------------------------------------------------------------


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
        found = _read_tables(events, stays, known, problems)
    elif texts.is_dir():
        found = _read_texts(texts, outcomes, known, problems)
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


def _read_tables(events: Path, stays: Path, known: frozenset[str], problems: Problems) -> Stays:
    """Read the layout of two tables."""
    try:
        measured = pl.read_parquet(events, columns=list(_EVENTS))
        measured = measured.select(pl.col(n).cast(kind) for n, kind in _EVENTS.items())
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise _unreadable(events, exc, _EVENTS) from exc
    usable = pl.col("parameter").is_in(list(known)) & (pl.col("hours") >= 0)
    usable &= pl.col("record_id").is_not_null()
    usable &= pl.all_horizontal(pl.col("hours", "value").cast(pl.Float32).is_finite())
    marked = measured.with_row_index("row", offset=1).with_columns(
        usable.fill_null(value=False).alias("usable")
    )
    for row in marked.filter(~pl.col("usable")).iter_rows(named=True):
        seen = {name: row[name] for name in _EVENTS}
        problems.add(
            "bad_event",
            "not a known parameter with a time and a number",
            file=events,
            row=row["row"],
            seen=seen,
        )
    labelled = DEATH in _header(stays)
    names = {"record_id": "record_id"} | ({DEATH: DEATH} if labelled else {})
    described = _read_csv(stays, names, problems, DESCRIPTORS)
    return Stays(
        described if labelled else _unlabelled(described, f"{DEATH} in {stays}"),
        marked.filter("usable").select(*_EVENTS),
        {},
        file_hashes(events.parent, [events, stays]),
    )


def _unlabelled(stays: pl.DataFrame, lacking: Path | str) -> pl.DataFrame:
    log.warning("no stay of this set has a label: there is no %s", lacking)
    return stays.with_columns(pl.lit(None, pl.Float64).alias(DEATH))


def _header(path: Path) -> list[str]:
    """Return the names of a file's columns; none where it cannot be read, which is told later."""
    try:
        return pl.read_csv(path, n_rows=0, infer_schema=False).columns
    except (pl.exceptions.PolarsError, OSError):
        return []


def _read_csv(
    path: Path, names: Mapping[str, str], problems: Problems, more: Iterable[str] = ()
) -> pl.DataFrame:
    """Read columns of numbers; a cell that is none becomes null and a problem.

    Args:
        path: of the file.
        names: of the columns that are read, and what they are called from then on.
        problems: takes the cells.
        more: columns that keep their names.
    """
    names = {**names, **dict.fromkeys(more, "")}
    try:
        found = pl.read_csv(path, columns=list(names), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise _unreadable(path, exc, names) from exc
    columns = []
    for name, new in names.items():
        words = found[name].fill_null("").str.strip_chars()
        numbers = words.cast(pl.Float64, strict=False)
        numbers = numbers.set(~(numbers.abs() <= _LARGEST), None)  # nan is not, either
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


def _unreadable(path: Path, exc: Exception, columns: Iterable[str]) -> DataError:
    return DataError(
        f"cannot be read: {str(exc).splitlines()[0]}",
        code="bad_table",
        field=str(path),
        accepted="a table with the columns " + ", ".join(columns),
    )


# ---- the challenge's own layout -----------------------------------------------------------------


def _read_texts(folder: Path, outcomes: Path, known: frozenset[str], problems: Problems) -> Stays:
    """Read a text file a stay. Without the outcomes the stays are unlabelled."""
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
        labels = _read_csv(outcomes, {"RecordID": "record_id", DEATH: DEATH}, problems)
        if labels["record_id"].is_duplicated().any():
            _refuse_repeated(labels, outcomes)
        _tell_unmatched(described["record_id"], labels["record_id"], outcomes, problems)
        described = described.join(labels, on="record_id", how="left", maintain_order="left")
        files |= file_hashes(folder.parent, [outcomes])
    else:
        described = _unlabelled(described, outcomes)
    events = pl.DataFrame(dict(zip(_EVENTS, columns, strict=True)), schema=_EVENTS)
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
    return value if abs(value) <= _LARGEST else None


# ---- stays as samples ---------------------------------------------------------------------------


def join(sets: Sequence[Stays], problems: Problems) -> Stays:
    """Put sets together and their measurements in order.

    Where a stay has two values of a parameter at one time, the one that was written last counts.
    Both layouts come out the same: the tables hold float32, so that is what all numbers are cut to.

    Raises:
        DataError: two stays have one name.
    """
    stays = pl.concat([each.stays for each in sets], how="diagonal")
    if stays["record_id"].is_duplicated().any():
        _refuse_repeated(stays, "the sets")
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


def _refuse_repeated(table: pl.DataFrame, where: Path | str) -> None:
    repeated = table.filter(pl.col("record_id").is_duplicated())["record_id"]
    raise DataError(
        "two stays have one name",
        code="repeated_record",
        field=str(where),
        seen=repeated[0],
        accepted="every RecordID once",
    )


def samples(found: Stays) -> Iterator[Sample]:
    """Yield the stays in the order of their files, labelled where it is known who died."""
    events = found.events
    records = events["record_id"].to_numpy()
    hours, values = events["hours"].to_list(), events["value"].to_list()
    names = events["parameter"].to_list()
    for stay in found.stays.iter_rows(named=True):
        start, end = np.searchsorted(records, [stay["record_id"], stay["record_id"] + 1])
        measured: dict[float, dict[str, Value]] = {}
        for place in range(start, end):
            measured.setdefault(hours[place], {})[names[place]] = values[place]
        row = _row(stay)
        parts: dict[Modality, Any] = {Modality.TABULAR: row} if row else {}
        if measured:
            parts[Modality.TIMESERIES] = tuple(Measurements(h, v) for h, v in measured.items())
        yield Sample(
            parts,
            id=str(stay["record_id"]),
            label={0: "survived", 1: "died"}.get(stay[DEATH]),
            group=str(stay["record_id"]),
            subgroups=_subgroups(stay),
        )


def _row(stay: Mapping[str, Any]) -> dict[str, Value]:
    """Return the descriptors that were recorded."""
    names = {"age": "Age", "gender": "Gender", "height": "Height", "icu_type": "ICUType"}
    names["weight"] = "Weight"
    row = {field: stay[name] for field, name in names.items()}
    return {field: value for field, value in row.items() if value is not None and value != -1}


def _subgroups(stay: Mapping[str, Any]) -> dict[str, str]:
    named = {
        "gender": {0: "female", 1: "male"}.get(stay["Gender"]),
        "icu_type": dict(enumerate(("coronary", "cardiac_surgery", "medical", "surgical"), 1)).get(
            stay["ICUType"]
        ),
        "age": _decade(stay["Age"]),
        "set": stay["set"],
    }
    return {name: value for name, value in named.items() if value is not None}


def _decade(age: float | None) -> str | None:
    if age is None or age < 0:
        return None
    if age < 40:
        return "0 to 39"
    decade = 10 * int(age // 10)
    return "80 and more" if decade >= 80 else f"{decade} to {decade + 9}"


def deal(stays: pl.DataFrame, options: SplitOptions, test_set: str | None) -> dict[str, Split]:
    """Deal the stays out; with a test set, the test split comes from that set alone.

    The stays of the test set that the test split does not take are trained on like all others.
    Nothing in the files says which stays are of one patient, so each stands for itself.

    Raises:
        ConfigError: the test set was not read, or has fewer stays than the test split takes.
    """
    names = [str(record) for record in stays["record_id"]]
    if test_set is None:
        return assign_splits(names, options)
    eligible = [str(each) for each in stays.filter(set=test_set)["record_id"]]
    wanted = round(options.shares[2] * len(names))
    if wanted > len(eligible):
        raise ConfigError(
            "too few stays for the test split",
            field="--test-set",
            seen=f"{len(eligible)} stays of set {test_set}",
            accepted=f"one of --sets, of {wanted} stays or more ({options.shares[2]:g} of all)",
        )
    order = np.random.default_rng(options.seed).permutation(len(eligible))
    held_out = {eligible[place] for place in order[:wanted]}
    rest = [name for name in names if name not in held_out]
    train, validation, _ = options.shares
    whole = train + validation
    shares = (train / whole, validation / whole, 0.0) if whole else options.shares
    dealt = assign_splits(rest, SplitOptions(shares=shares, seed=options.seed)) if rest else {}
    return dealt | dict.fromkeys(held_out, "test")
