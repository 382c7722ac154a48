"""How fast, and in how much memory, a large chartevents table is read, beside plain pandas.

    python -m benchmarks.chartevents
    python -m benchmarks.chartevents --rows 3000000 --work build/chartevents

A table of so many rows is written in MIMIC-IV's format, packed as it comes. Then each reader runs
in a process of its own, by turns:

    ours     as `training.prepare mimic-iv` extracts the events of the 17 variables: units and words
             told apart, written to Parquet
    pandas   reads the file, a million rows at a time (as a whole it would need some 10 GB), and
             filters by item, stay and the first 48 hours; and leaves it at that
    chosen   the same, but reads only the six columns that are needed, two of them as text

All must keep the same number of rows. For each one line a turn: seconds, seconds of all processors,
rows a second, and the peak of memory; then the ratios, each of one turn: their median, the lowest
and the highest. What a reader imports is not in its time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from isal import igzip_threaded

from lanistr.command import CommandParser, run_command
from lanistr.tasks import find_task
from training.prepare.mimic_iv.cohort import HORIZON
from training.prepare.mimic_iv.events import extract_events
from training.prepare.mimic_iv.layout import Layout
from training.prepare.mimic_iv.variables import CHART_ITEMS

ROWS_PER_STAY = 4300
"""MIMIC-IV 2.2: 313,645,063 chart events of 73,181 stays."""

IN_THE_COHORT = 0.35
"""Share of the stays that the rules keep."""

OURS = 0.163
"""Share of the chart events that are of the 17 variables, in the demo."""

MOST_MEMORY_MB = 3000
LEAST_RATIO = 5.0
_BLOCK = 500_000
_CHARTS = "icu/chartevents.csv.gz"
_STAYS = "stays.parquet"


def main() -> None:
    """Measure as the command line says."""
    parser = _parser()
    arguments = parser.parse_args()
    for name in ("rows", "repetitions"):
        count = getattr(arguments, name)
        if count < 1:  # not by `check_count`: what it imports every reader would hold
            parser.error(f"argument --{name}: too few; seen {count}; accepted: 1 or more")
    if arguments.reader:
        print(json.dumps(_measured(arguments.reader, arguments.work)))
        return
    if arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        compare(arguments.work, arguments.rows, arguments.repetitions)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), arguments.rows, arguments.repetitions)


def compare(work: Path, rows: int, repetitions: int) -> None:
    """Write the table and print what each reader takes, turn by turn."""
    from benchmarks.pace import ratios, spread  # which imports torch: no reader is to hold it

    started = time.perf_counter()
    write_charts(work, rows)
    size = (work / _CHARTS).stat().st_size / 1e6
    print(f"{rows} rows, {size:.0f} MB packed, made in {time.perf_counter() - started:.0f} s")
    print(f"{'reader':8} {'seconds':>8} {'cpu s':>7} {'rows/s':>11} {'peak MB':>8} {'kept':>9}")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in READERS}
    for name in [*READERS] * repetitions:
        each = _measure(name, work)
        found[name].append(each)
        print(
            f"{name:8} {each['seconds']:8.1f} {each['cpu']:7.1f} "
            f"{each['read'] / each['seconds']:11,.0f} {each['peak_mb']:8.0f} {each['kept']:9}",
            flush=True,
        )
    did = {(each["read"], each["kept"]) for turns in found.values() for each in turns}
    assert len(did) == 1, f"not the same work: {did}"
    ours = found.pop("ours")
    for name, theirs in found.items():
        faster, cheaper = (
            ratios([each[of] for each in theirs], [each[of] for each in ours])
            for of in ("seconds", "cpu")
        )
        print(
            f"ours is {spread(faster, 1)} times as fast as {name}; "
            f"by processor time {spread(cheaper, 1)}"
        )
    print(
        f"target: {LEAST_RATIO:g} times as fast as pandas, and at most {MOST_MEMORY_MB} MB; "
        f"ours took {max(each['peak_mb'] for each in ours):.0f} MB"
    )


def _measure(reader: str, work: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.chartevents", "--reader", reader]
    done = subprocess.run(
        [*command, "--work", str(work)], stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout))


# ---- readers ------------------------------------------------------------------------------------


def _read_ours(work: Path) -> tuple[int, int]:
    layout = Layout(
        version=2,
        patients=work,
        admissions=work,
        stays=work,
        charts=work / _CHARTS,
        labs=None,
        lab_items=None,
        radiology=None,
        discharge=None,
        metadata=None,
        pictures=None,
    )
    problems: list[str] = []
    figures = extract_events(
        layout,
        pl.read_parquet(work / _STAYS),
        find_task("mortality"),
        work / "events.parquet",
        lambda code, *_, **__: problems.append(code),
    )
    assert not problems, problems
    counts = figures["chartevents.csv.gz"]
    return counts["read"], counts["in the window of a stay"]


def _read_pandas(work: Path, **options: Any) -> tuple[int, int]:
    import pandas as pd  # only these readers' processes need it

    stays = pd.read_parquet(work / _STAYS, columns=["stay_id", "start", "end"])
    items = [item for ids in CHART_ITEMS.values() for item in ids]
    kept: list[Any] = []
    read = 0
    for chunk in pd.read_csv(work / _CHARTS, chunksize=1_000_000, **options):
        read += len(chunk)
        wanted = chunk[chunk["itemid"].isin(items)].merge(stays, on="stay_id")
        times = pd.to_datetime(wanted["charttime"])
        kept.append(wanted[(times >= wanted["start"]) & (times <= wanted["end"])])
    return read, len(pd.concat(kept))


READERS: Mapping[str, Callable[[Path], tuple[int, int]]] = {
    "ours": _read_ours,
    "pandas": partial(_read_pandas, low_memory=False),
    "chosen": partial(
        _read_pandas,
        usecols=["stay_id", "charttime", "itemid", "value", "valuenum", "valueuom"],
        dtype={"value": str, "valueuom": str},
    ),
}
"""By name: what reads the table and returns how many rows it read and kept."""


def _measured(reader: str, work: Path) -> dict[str, Any]:
    """Run a reader in this process."""
    if reader != "ours":
        import pandas  # noqa: F401 - before the clock runs, as ours is imported by then

    started, spent = time.perf_counter(), time.process_time()
    read, kept = READERS[reader](work)
    return {
        "read": read,
        "kept": kept,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - spent,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Return the most memory that this process ever had at once (VmHWM of /proc/self/status)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not say how much memory a process had")


# ---- the table ----------------------------------------------------------------------------------


def write_charts(work: Path, rows: int) -> None:
    """Write so many chart events, stay after stay, and which stays are of the cohort.

    Args:
        work: a folder; takes `icu/chartevents.csv.gz` and `stays.parquet`.
        rows: number of events; every `ROWS_PER_STAY` of them are of one stay.
    """
    rng = np.random.default_rng(0)
    count = -(-rows // ROWS_PER_STAY)
    begins = np.datetime64("2110-01-01T00:00:00", "us") + rng.integers(
        50_000_000, size=count
    ).astype("timedelta64[m]")
    hours = np.minimum(48 + rng.exponential(60, count), 400)
    stays = pl.DataFrame(
        {
            "stay": np.arange(count, dtype=np.int32),
            "subject_id": 10_000_000 + np.arange(count),
            "stay_id": 30_000_000 + np.arange(count),
            "start": begins,
            "hours": hours,
        }
    ).with_columns(end=pl.col("start") + HORIZON)
    cohort = stays.filter(pl.Series(rng.random(count) < IN_THE_COHORT))
    cohort.drop("hours").write_parquet(work / _STAYS)
    (work / "icu").mkdir(exist_ok=True)
    kinds = _kinds()
    with igzip_threaded.open(work / _CHARTS, "wb", compresslevel=1, threads=1) as out:
        for first in range(0, rows, _BLOCK):
            number = np.arange(first, min(first + _BLOCK, rows))
            block = _block(number, stays, kinds, rng)
            out.write(block.write_csv(include_header=first == 0).encode())


def _block(
    number: Any, stays: pl.DataFrame, kinds: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    """Return the events of these numbers as the columns of chartevents."""
    stay, place = np.divmod(number, ROWS_PER_STAY)
    of_stay = stays[stay]
    at = of_stay["hours"].to_numpy() * (place / ROWS_PER_STAY)
    quarter = (np.floor(at * 4) * 900e6).astype("timedelta64[us]")  # charted at whole quarters
    start = of_stay["start"].to_numpy().astype("datetime64[h]").astype("datetime64[us]")
    ours = rng.random(len(number)) < OURS
    size = kinds.filter("ours").height
    which = np.where(ours, rng.integers(size, size=len(number)),
                     rng.integers(size, len(kinds), size=len(number)))  # fmt: skip
    kind = kinds[which]
    drawn = np.round(kind["mean"].to_numpy() * (1 + 0.15 * rng.standard_normal(len(number))), 1)
    value = pl.coalesce("word", pl.col("drawn").cast(pl.String))
    stamp = "%Y-%m-%d %H:%M:%S"
    return (
        kind.with_columns(
            subject_id=of_stay["subject_id"],
            hadm_id=of_stay["subject_id"] + 10_000_000,
            stay_id=of_stay["stay_id"],
            caregiver_id=pl.Series(rng.integers(10_000, 99_999, len(number))),
            time=pl.Series(start + quarter),
            drawn=pl.Series(drawn),
        )
        .with_columns(
            charttime=pl.col("time").dt.strftime(stamp),
            storetime=(pl.col("time") + pl.duration(minutes=17)).dt.strftime(stamp),
            value=value,
            valuenum=pl.when(pl.col("word").is_null()).then(pl.col("drawn")),
            warning=pl.lit(0),
        )
        .select(
            *("subject_id", "hadm_id", "stay_id", "caregiver_id", "charttime", "storetime"),
            *("itemid", "value", "valuenum", "valueuom", "warning"),
        )
    )


def _kinds() -> pl.DataFrame:
    """Return what may be charted: the items of the 17 variables, and 400 others."""
    means = {"ph": 7.4, "fio2": 50.0, "temperature": 37.0, "heart_rate": 86.0}
    words = {
        "gcs_eye": "Spontaneously",
        "gcs_motor": "Obeys Commands",
        "gcs_verbal": "Oriented",
        "capillary_refill_rate": "Normal <3 Seconds",
    }
    units = {"heart_rate": "bpm", "respiratory_rate": "insp/min", "temperature": "°C"}
    rows: list[tuple[int, str | None, float, str | None, bool]] = [
        (item, words.get(name), means.get(name, 80.0), units.get(name), True)
        for name, items in CHART_ITEMS.items()
        for item in items
        if item != 223761  # its unit would be another
    ]
    texts = ("SR (Sinus Rhythm)", "Diminished", "Side, back", "None", "Alarms on", None, None, None)
    rows += [
        (227_300 + i, texts[i % len(texts)], 10.0 + i, None if i % 3 else "mL", False)
        for i in range(400)
    ]
    return pl.DataFrame(
        rows,
        schema={
            "itemid": pl.Int64(),
            "word": pl.String(),
            "mean": pl.Float64(),
            "valueuom": pl.String(),
            "ours": pl.Boolean(),
        },
        orient="row",
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m benchmarks.chartevents", description=__doc__)
    parser.add_argument("--rows", type=int, default=30_000_000, help="of the table (30000000)")
    parser.add_argument("--repetitions", type=int, default=3, help="of every reader (3)")
    parser.add_argument("--work", type=Path, help="folder for the table (default: thrown away)")
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run_command(main)
