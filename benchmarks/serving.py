"""How fast the service answers, beside the graphs alone and a server made by hand.

    python -m benchmarks.serving                                     # the demo stays
    python -m benchmarks.serving --bundle build/export/bundle        # the paper's sizes

One fixed workload: two cases in five are complete, the others lack one part or two; notes of 60 to
400 words, JPEGs of some 40 kB, series of 48 hours. It is sent by 1, 8 and 32 clients at a time to

    raw         the same rows through onnxruntime in-process, one by one, with as many threads as
                the service gives a graph: no HTTP, no preprocessing, no padding
    naive       `benchmarks.servers.naive`
    lanistr     the service, in the precision asked for, without its cache
    cached      the service with its cache, when notes and pictures have come before and only the
                series is new

all in one run and by turns, so that a busy moment of the machine falls on all alike. Prints a
table, then one line of JSON.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.load import Load, send
from benchmarks.servers import HOST, running
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, run_command
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess import read_record
from lanistr.sample import Quantity, Sample
from service.engine.backends.onnx import OnnxBackend
from service.engine.cache import RowKeys, TokenCache
from service.engine.cost import Cost
from service.engine.runner import Job, Runner
from service.settings import DEMO_BUNDLES
from training.prepare.synthetic import SyntheticOptions, draw

COMPLETE = 0.4
CLIENTS = (1, 8, 32)


def main() -> None:
    """Measure as the command line says."""
    arguments = _parser().parse_args()
    bundle = Bundle.open(arguments.bundle)
    if arguments.raw:
        raw(bundle, arguments.raw, arguments.cases)
        return
    records = workload(bundle, arguments.cases, seed=0)
    bodies = [json.dumps(each).encode() for each in records]
    rows: list[dict[str, Any]] = []
    print(f"{'server':16} {'clients':>7} {'a second':>9} {'of raw':>7} {'p50 ms':>8} {'p99 ms':>8}")
    for precision in arguments.precision:
        found, limit = compare(bundle, precision, records, bodies, arguments)
        for name, clients, load in found:
            rows.append(_row(name, precision, clients, load))
            _print(f"{name} {precision}", clients, load, limit)
    print(json.dumps({"cases": len(records), "cores": _cores(), "rows": rows}))


def compare(
    bundle: Bundle,
    precision: str,
    records: Sequence[Mapping[str, Any]],
    bodies: Sequence[bytes],
    arguments: argparse.Namespace,
) -> tuple[list[tuple[str, int, Load]], float]:
    """Send the workload to every server; return what came of it, and the rate of the raw limit."""
    path = f"/predict/{bundle.task.name}"
    place, chosen = str(bundle.folder), ("--precision", precision)
    commands = {
        "naive": ("benchmarks.servers.naive", "--bundle", place, *chosen),
        "lanistr": ("service", "--bundles", place, *chosen, "--cache-bytes", "0"),
        "cached": ("service", "--bundles", place, *chosen),
    }
    found: list[tuple[str, int, Load]] = []
    with ExitStack() as stack:
        ports = {name: stack.enter_context(running(words)) for name, words in commands.items()}
        raw = Raw(bundle, precision, records)
        stack.callback(raw.close)
        asyncio.run(send(HOST, ports["cached"], path, bodies, 4, len(bodies)))
        for clients in arguments.clients:
            found.append(("raw", clients, raw.run(arguments.requests)))
            for name, port in ports.items():
                sent = bodies
                if name == "cached":
                    numbers = range(clients * 10_000, clients * 10_000 + arguments.requests)
                    sent = [
                        json.dumps(an_hour_later(records[k % len(records)], k)).encode()
                        for k in numbers
                    ]
                load = asyncio.run(send(HOST, port, path, sent, clients, arguments.requests))
                found.append((name, clients, load))
    limit = max(load.rate for name, _, load in found if name == "raw")
    return found, limit


# ---- what is sent -------------------------------------------------------------------------------


def workload(bundle: Bundle, count: int, seed: int) -> list[dict[str, Any]]:
    """Return records as they are sent, always the same for a seed."""
    rng = np.random.default_rng(seed)
    stays = list(draw("mortality", SyntheticOptions(samples=count, missing=0)))
    notes = [note for stay in stays for note in stay.parts[Modality.TEXT]]
    words = sorted({word for note in notes for word in note.split()})
    records: list[dict[str, Any]] = []
    for stay in stays:
        whole = as_sent(stay) | {
            "text": " ".join(rng.choice(words, int(rng.integers(60, 401)))),
            "image": base64.b64encode(picture(rng)).decode(),
        }
        whole = {name: part for name, part in whole.items() if name in bundle.task.modalities}
        lost = 0 if rng.random() < COMPLETE else int(rng.integers(1, 3))
        kept = set(rng.permutation(list(whole))[min(lost, len(whole) - 1) :])
        records.append({name: part for name, part in whole.items() if name in kept})
    return records


def as_sent(stay: Sample) -> dict[str, Any]:
    """Return row and series of a case as JSON has them."""
    return {
        "tabular": {name: _plain(value) for name, value in stay.parts[Modality.TABULAR].items()},
        "timeseries": [
            {"hours": each.hours, **{name: _plain(value) for name, value in each.values.items()}}
            for each in stay.parts[Modality.TIMESERIES]
        ],
    }


def an_hour_later(record: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the same case with a measurement more, another for each number."""
    if series := record.get("timeseries"):
        more = {"hours": 47.9, "heart_rate": round(60 + number / 10_000, 4)}
        return {**record, "timeseries": [*series, more]}
    return dict(record)


def picture(rng: np.random.Generator) -> bytes:
    """Draw blurred noise as dear to decode as a photograph of 500 x 400 pixels."""
    coarse = rng.integers(0, 256, (50, 62, 3), dtype=np.uint8)
    drawn = Image.fromarray(coarse).resize((500, 400), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    drawn.save(file, "JPEG", quality=80)
    return file.getvalue()


def _plain(value: Any) -> Any:
    return {"value": value.value, "unit": value.unit} if isinstance(value, Quantity) else value


# ---- who is asked -------------------------------------------------------------------------------


class Raw:
    """The rows of the workload through onnxruntime, in a process of its own."""

    def __init__(
        self, bundle: Bundle, precision: str, records: Sequence[Mapping[str, Any]]
    ) -> None:
        words = (sys.executable, "-m", "benchmarks.serving", "--raw", precision)
        self._process = subprocess.Popen(
            [*words, "--bundle", str(bundle.folder), "--cases", str(len(records))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, requests: int) -> Load:
        """Run so many cases, one after another."""
        assert self._process.stdin
        assert self._process.stdout
        print(requests, file=self._process.stdin, flush=True)
        latencies: list[float] = json.loads(self._process.stdout.readline())
        return Load(sum(latencies), latencies, [200] * requests)

    def close(self) -> None:
        """End the process."""
        with self._process:  # which waits for it and closes its pipes
            self._process.terminate()


def raw(bundle: Bundle, precision: Any, cases: int) -> None:
    """Time cases for whoever writes how many to standard input."""
    backend = OnnxBackend(bundle, "cpu", precision, _cores())
    keys = RowKeys(bundle.manifest.version, backend.build.name)
    runner = Runner(
        backend,
        Cost(backend.build.graphs),
        TokenCache(0),
        width=bundle.manifest.width,
        budget=1,
        together=(),
    )
    jobs = []
    for record in workload(bundle, cases, seed=0):
        if "image" in record:
            record["image"] = base64.b64decode(record["image"])
        log = IssueLog()
        features = bundle.preprocessor.apply(read_record(record, bundle.task, log), log)
        jobs.append(Job(features, keys.of(features)))
    for line in sys.stdin:
        latencies = []
        for number in range(int(line)):
            started = time.perf_counter()
            runner([jobs[number % len(jobs)]])
            latencies.append(time.perf_counter() - started)
        print(json.dumps(latencies), flush=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


# ---- what came of it ----------------------------------------------------------------------------


def _row(name: str, precision: str, clients: int, load: Load) -> dict[str, Any]:
    return {
        "server": name,
        "precision": precision,
        "clients": clients,
        "rate": load.rate,
        "p50": load.percentile(50),
        "p99": load.percentile(99),
        "failed": len(load.statuses) - load.statuses.count(200),
    }


def _print(name: str, clients: int, load: Load, limit: float) -> None:
    p50, p99 = (1e3 * load.percentile(share) for share in (50, 99))
    shown = f"{name:16} {clients:7} {load.rate:9.2f} {load.rate / limit:7.2f} {p50:8.0f} {p99:8.0f}"
    print(shown, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.serving",
        description="Measure the service beside the graphs alone and a server made by hand.",
        epilog="example:\n  python -m benchmarks.serving --bundle build/export/bundle",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--bundle", type=Path, default=DEMO_BUNDLES / "mortality", help="of stays (the demo)"
    )
    parser.add_argument(
        "--precision", nargs="+", default=["fp32", "int8"], help="of the graphs (fp32 int8)"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS), help="(1 8 32)")
    parser.add_argument("--cases", type=int, default=64, help="of the workload (64)")
    parser.add_argument("--requests", type=int, default=320, help="for each figure (320)")
    parser.add_argument("--raw", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    run_command(main)
