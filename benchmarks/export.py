"""What exporting takes, and how fast what it made runs: ratios measured side by side.

    python -m benchmarks.export --quick                          # minutes: that it runs
    python -m benchmarks.export --work build/export              # the paper's sizes
    python -m benchmarks.export --bundle service/demo/mortality  # a bundle of stays that is there

A model of the size asked for, with next to random weights, is exported and verified by the
ordinary commands. Then, graph by graph, all ways to run it take the same inputs by turns in one
process: by batch and length; and those of cases as they come (two in five are complete, the others
lack one part or two; notes of log-normal length), one by one, as the service takes them on a CPU.

The commands take all cores. All else is in seconds of the processor: other work on the machine
takes none of them, and with one thread (the default) they are those of the clock on a free core. Of
repetitions the quickest counts, since what disturbs only adds. Data and run stay in the folder of
work, where a second call finds them. Prints tables, then one line of JSON.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch

from benchmarks.bundles import exported, made_run, verified
from benchmarks.commands import Spent
from benchmarks.made import Mix
from benchmarks.pace import by_turns
from benchmarks.pretraining_step import NOTES
from benchmarks.records import make_records
from benchmarks.sizes import SIZES
from benchmarks.ways import PLAIN, Way, model_sources, open_ways
from benchmarks.workload import COMPLETE, check_stays
from lanistr.batch import RAGGED, Arrays, Features, stack
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, run_command
from lanistr.issues import IssueLog
from lanistr.manifest import FUSION
from lanistr.modalities import Modality
from service.engine.cost import Cost
from training.arguments import add_overrides, check_count

BATCHES = (1, 4, 16)
LENGTHS = (32, 128, 512)
_LEAST_SECONDS = 0.02
"""What is quicker is run several times at once."""


def main() -> None:
    """Measure as the command line says."""
    arguments = _parser().parse_args()
    for name in ("repetitions", "cases", "threads"):
        check_count(f"--{name}", getattr(arguments, name))
    size = SIZES["tiny" if arguments.quick else arguments.size]
    repetitions = 1 if arguments.quick else arguments.repetitions
    torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {
        "threads": arguments.threads,
        "repetitions": repetitions,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)

        # ---- a model, exported and verified ----------------------------------------------------
        run, place = arguments.run, arguments.bundle
        if place is None:
            run, place = made_run(work, size, arguments.overrides), work / "bundle"
            formats = ("onnx", "torchscript")
            spent = {
                "export": exported(run, place, formats, ("fp32", "int8", "fp16", "bf16")),
                "verify": verified(place, formats),
            }
            found["commands"] = {name: asdict(each) for name, each in spent.items()}
            _print_commands(spent)
        bundle = Bundle.open(place)
        found["builds"] = _print_builds(bundle)

        # ---- every way to run it, by turns, graph by graph -------------------------------------
        sources = model_sources(run) if run else {}
        batches = BATCHES[:1] if arguments.quick else BATCHES
        cases = incomplete(stays(bundle, 2 if arguments.quick else arguments.cases, NOTES))
        given = inputs_by_graph(bundle, stays(bundle, max(batches), Mix()), batches)
        found["graphs"] = []
        total: dict[str, float] = defaultdict(float)
        for name, asked in workload_by_graph(bundle, cases).items():
            ways = open_ways(bundle, name, sources.get(name), work)
            if not found["graphs"]:
                print(f"\nms of a processor an item (x: times as fast as {_base(ways)})")
                print(f"{'graph':10} {'batch':>5} {'tokens':>6} ", *(f"{way:>18}" for way in ways))
            measured = measure(name, ways, given[name], asked, repetitions)
            found["graphs"] += measured["rows"]
            for way, seconds in measured["workload"].items():
                total[way] += seconds
        found["workload"] = {"cases": len(cases), "seconds": total}
        _print_workload(len(cases), total)
    print(json.dumps(found))


# ---- every way to run it ------------------------------------------------------------------------


class Input(NamedTuple):
    """What a graph is run on: so many rows or cases, each of so many tokens, where that varies."""

    batch: int
    tokens: int | None
    arrays: Arrays


def measure(
    name: str,
    ways: Mapping[str, Way],
    given: Sequence[Input],
    workload: Sequence[Arrays],
    repetitions: int,
) -> dict[str, Any]:
    """Run a graph every way by turns.

    Args:
        name: of the graph.
        ways: to run it.
        given: what it is timed on by itself.
        workload: what cases as they come ask of it.
        repetitions: of everything.

    Returns:
        seconds an item by way, for each of `given`; and those of the whole workload.
    """
    rows: list[dict[str, Any]] = []
    for batch, tokens, arrays in given:
        seconds = _seconds(ways, [arrays], repetitions)
        an_item = {way: each / batch for way, each in seconds.items()}
        rows.append({"graph": name, "batch": batch, "tokens": tokens, "seconds": an_item})
        print(f"{name:10} {batch:5} {tokens or '':>6} {_cells(an_item)}", flush=True)
    return {"rows": rows, "workload": _seconds(ways, workload, repetitions)}


def _seconds(
    ways: Mapping[str, Way], given: Sequence[Arrays], repetitions: int
) -> dict[str, float]:
    """Return the fewest seconds that inputs take one after another, by way."""

    def run(way: Way, times: int) -> None:
        for _ in range(times):
            for arrays in given:
                way(arrays)

    started = time.process_time()
    run(ways[_base(ways)], 1)
    times = max(1, round(_LEAST_SECONDS / (time.process_time() - started)))
    timed = by_turns(
        {name: partial(run, way, times) for name, way in ways.items()},
        repetitions,
        time.process_time,
    )
    return {name: min(each) / times for name, each in timed.items()}


# ---- what it is run on --------------------------------------------------------------------------


def stays(bundle: Bundle, count: int, mix: Mix) -> list[Features]:
    """Make complete stays as a bundle's model takes them."""
    check_stays(bundle)
    known = bundle.preprocessor.dimensions()
    limit = known.get(Modality.TEXT, {}).get("max_tokens", 1)
    side = known.get(Modality.IMAGE, {}).get("size", 1)
    return [
        bundle.preprocessor.apply(each, IssueLog())
        for each in make_records(bundle.task, count, mix, limit, side)
    ]


def incomplete(cases: Sequence[Features], seed: int = 0) -> list[Features]:
    """Take one part or two from all cases but `COMPLETE` of them; one always stays."""
    rng = np.random.default_rng(seed)
    kept: list[Features] = []
    for case in cases:
        lost = 0 if rng.random() < COMPLETE else int(rng.integers(1, 3))
        order = rng.permutation(list(case.rows))[min(lost, len(case.rows) - 1) :]
        kept.append(Features({each: case.rows[each] for each in case.rows if each in order}))
    return kept


def inputs_by_graph(
    bundle: Bundle, cases: Sequence[Features], batches: Sequence[int]
) -> dict[str, list[Input]]:
    """Return batches of rows, by length, and of as many cases to be fused, whole and in part."""
    found: dict[str, list[Input]] = {}
    for modality in bundle.task.modalities:
        rows = [case.rows[modality][0] for case in cases]
        longest = max((len(row[name]) for row in rows for name in RAGGED & row.keys()), default=0)
        found[modality] = [
            Input(batch, length or None, stack([_cut(row, length) for row in rows[:batch]]))
            for length in sorted({min(each, longest) for each in LENGTHS})
            for batch in batches
        ]
    amounts = _tokens(bundle, cases[0]).values()
    found[FUSION] = [
        Input(batch, tokens, _fused(bundle, batch, tokens))
        for tokens in sorted({sum(amounts) - max(amounts), sum(amounts)} - {0})
        for batch in batches
    ]
    return found


def workload_by_graph(bundle: Bundle, cases: Sequence[Features]) -> dict[str, list[Arrays]]:
    """Return what cases one by one ask of each graph."""
    found: dict[str, list[Arrays]] = {
        modality: [stack([row]) for case in cases for row in case.rows.get(modality, ())]
        for modality in bundle.task.modalities
    }
    found[FUSION] = [_fused(bundle, 1, sum(_tokens(bundle, each).values())) for each in cases]
    return found


def _tokens(bundle: Bundle, case: Features) -> dict[Modality, int]:
    """Return how many tokens a case brings to fusion, by modality."""
    cost = Cost(bundle.manifest.builds[0].graphs)
    return {m: cost.fixed_tokens(m) or cost.row(m, rows[0]) for m, rows in case.rows.items()}


def _fused(bundle: Bundle, batch: int, tokens: int) -> Arrays:
    shape = (batch, tokens, bundle.manifest.width)
    made = np.random.default_rng(0).standard_normal(shape, np.float32)
    return {"tokens": made, "mask": np.ones(shape[:2], np.bool_)}


def _cut(row: Arrays, length: int) -> Arrays:
    return {name: each[:length] if name in RAGGED else each for name, each in row.items()}


# ---- tables -------------------------------------------------------------------------------------


def _print_commands(spent: Mapping[str, Spent]) -> None:
    for name, each in spent.items():
        print(
            f"{name}: {each.seconds:.0f} s, {each.cpu:.0f} s of all processors, "
            f"{each.peak_mb:.0f} MB at most"
        )
    total = sum(each.seconds for each in spent.values())
    print(f"together {total:.0f} s; the target is 600 s and 12,000 MB on two free cores")


def _print_builds(bundle: Bundle) -> list[dict[str, Any]]:
    manifest = bundle.manifest
    rows = [
        {
            "build": each.name,
            "mib": sum(manifest.files[graph.file].bytes for graph in each.graphs.values()) / 2**20,
            "differs": max(each.parity.values()),
        }
        for each in manifest.builds
    ]
    print(f"\n{'build':18} {'MiB':>8} {'differs by':>11}")
    for row in rows:
        print(f"{row['build']:18} {row['mib']:8.1f} {row['differs']:11.1e}")
    return rows


def _print_workload(cases: int, seconds: Mapping[str, float]) -> None:
    print(f"\n{cases} cases one by one")
    for name, each in seconds.items():
        ratio = seconds[_base(seconds)] / each
        print(f"{name:18} {cases / each:9.2f} a second of a processor {ratio:6.2f} x")


def _base(ways: Mapping[str, Any]) -> str:
    """Return the way that the others are held against."""
    return PLAIN if PLAIN in ways else "onnx fp32"


def _cells(seconds: Mapping[str, float]) -> str:
    base = seconds[_base(seconds)]
    return " ".join(f"{f'{1e3 * each:.2f} ({base / each:.2f}x)':>18}" for each in seconds.values())


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.export",
        description="Measure exporting, and every way to run what was exported.",
        epilog="example:\n  python -m benchmarks.export --work build/export --size small",
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="paper", help="(the paper's)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: that it runs")
    parser.add_argument("--work", type=Path, help="folder for data, run and bundle, to be kept")
    parser.add_argument("--bundle", type=Path, help="a bundle of stays; nothing is exported then")
    parser.add_argument("--run", type=Path, help="what --bundle was made of, for torch's own speed")
    parser.add_argument("--repetitions", type=int, default=3, help="of everything (3)")
    parser.add_argument("--cases", type=int, default=24, help="that come one by one (24)")
    parser.add_argument("--threads", type=int, default=1, help="of every way (1)")
    add_overrides(parser, "override a value of the recipe `mortality`")
    return parser


if __name__ == "__main__":
    run_command(main)
