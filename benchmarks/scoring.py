"""How many rows a second of a table are scored: by the engine alone, over HTTP, a request a row.

    python -m benchmarks.scoring
    python -m benchmarks.scoring --bundle build/paper/bundle --rows 60

The same cohort (`benchmarks.workload`, as Parquet, pictures as bytes) is scored by turns

    engine     `python -m service.score`: the engine in the process that reads and writes the table
    http       `python -m clients score`: lists of cases to a service, in a process of its own
    a row      `Client.predict`, one case after another, to the same service

with the cache switched off, after each has started. Both tables must be equal, byte by byte. Prints
rows a second and the processor time of a row, in all processes, ratios, then one line of JSON.
"""

import base64
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.pace import by_turns, figure, ratios, spread
from benchmarks.servers import HOST, running
from benchmarks.workload import workload
from clients import Client
from clients.scoring import score
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, run_command
from lanistr.errors import ParityError
from service.score import Local
from service.settings import DEMO_BUNDLES, Settings
from training.arguments import check_count


def main() -> None:
    """Measure as the command line says.

    Raises:
        ParityError: the tables differ.
    """
    parser = CommandParser(
        prog="python -m benchmarks.scoring",
        description=__doc__,
    )
    parser.add_argument("--bundle", type=Path, default=DEMO_BUNDLES / "mortality")
    parser.add_argument("--rows", type=int, default=400, help="of the cohort (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="(%(default)s)")
    arguments = parser.parse_args()
    check_count("--rows", arguments.rows)
    check_count("--repetitions", arguments.repetitions)
    bundle = Bundle.open(arguments.bundle)
    task, cases = bundle.task.name, workload(bundle, arguments.rows, seed=0)
    words = ("service", "--bundles", str(arguments.bundle), "--cache-bytes", "0")
    settings = Settings(cache_bytes=0)
    with (
        tempfile.TemporaryDirectory() as name,
        running(words) as server,
        Client(f"http://{HOST}:{server.port}", timeout=300) as client,
        Local.opened(arguments.bundle, settings) as local,
    ):
        folder, turns = Path(name), count()
        cohort = write(cases, folder / "cohort.parquet")

        def place(way: str) -> Path:
            return folder / f"{way}-{next(turns)}.csv"

        ways: dict[str, Callable[[], object]] = {
            "engine": lambda: score(local, cohort, place("engine")),
            "http": lambda: client.score(task, cohort, place("http")),
            "a row": lambda: [client.predict(task, **_parts(case)) for case in cases],
        }
        worked: dict[str, list[float]] = {way: [] for way in ways}

        def noting(way: str) -> Callable[[], None]:
            def run() -> None:
                before = time.process_time() + server.cpu_seconds()
                ways[way]()
                spent = time.process_time() + server.cpu_seconds() - before
                worked[way].append(1e3 * spent / len(cases))

            return run

        taken = by_turns({way: noting(way) for way in ways}, arguments.repetitions)
        scored = {each.read_bytes() for each in folder.glob("*.csv")}
    if len(scored) > 1:
        raise ParityError("engine and service wrote different tables", code="differs")
    rates = {way: [len(cases) / each for each in seconds] for way, seconds in taken.items()}
    for way, each in rates.items():
        cpu = figure(worked[way][1:])  # without the first, which warms up
        print(
            f"{way:8} {spread(figure(each), 1):>26} rows a second {spread(cpu):>24} ms of CPU a row"
        )
    found = {
        f"{one} / {other}": ratios(rates[one], rates[other])
        for one, other in (("engine", "http"), ("http", "a row"), ("engine", "a row"))
    }
    for named, ratio in found.items():
        print(f"{named:16} {spread(ratio):>20}")
    about = {
        "bundle": bundle.manifest.name,
        "rows": len(cases),
        "precision": local.target.precision,
    }
    cpu_ms = {f"{way}, cpu ms": figure(each[1:]) for way, each in worked.items()}
    print(json.dumps(about | {way: figure(each) for way, each in rates.items()} | cpu_ms | found))


def write(cases: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write cases as a table: pictures as bytes, a series as JSON, a column a field."""
    rows = [
        {
            "id": f"case-{number}",
            "text": case.get("text"),
            "image": base64.b64decode(case["image"]) if "image" in case else None,
            "timeseries": json.dumps(case["timeseries"]) if "timeseries" in case else None,
            **case.get("tabular", {}),
        }
        for number, case in enumerate(cases)
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    pq.write_table(table, path, row_group_size=100)
    return path


def _parts(case: Mapping[str, Any]) -> dict[str, Any]:
    if "image" not in case:
        return dict(case)
    return {**case, "image": base64.b64decode(case["image"])}


if __name__ == "__main__":
    run_command(main)
