"""How fast training is, as ratios measured side by side.

    python -m benchmarks.training --quick           # a minute: that it runs
    python -m benchmarks.training                   # small sizes on a CPU, the paper's on a GPU
    python -m benchmarks.training --device cuda --set runtime.tokens=65536

Three parts: a step of pretraining beside the naive way of taking it, an epoch of fine-tuning with
and without the feature cache, and the loader alone beside what the model takes. What is compared
runs by turns; of the repetitions the median is given, with the lowest and the highest. Prints a
table, then one line of JSON.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.feature_cache import measure_cache
from benchmarks.loader import measure_loader
from benchmarks.pace import Figure, device_name, spread
from benchmarks.pretraining_step import WAYS, measure_steps
from benchmarks.sizes import SIZES
from lanistr.command import CommandParser, run_command
from training.arguments import add_overrides, check_count, choose_device

PARTS = ("steps", "cache", "loader")


def main() -> None:
    """Measure as the command line says."""
    arguments = _parser().parse_args()
    check_count("--repetitions", arguments.repetitions)
    device = choose_device(arguments.device)
    name = arguments.size or ("paper" if device.type == "cuda" else "small")
    size = SIZES["tiny" if arguments.quick else name]
    if arguments.quick:
        torch.set_num_threads(1)  # on tiny tensors a second thread only waits for the first
    repetitions = 2 if arguments.quick else arguments.repetitions
    found: dict[str, Any] = {
        "size": next(each for each, known in SIZES.items() if known is size),
        "device": device_name(device),
        "torch": torch.__version__,
        "repetitions": repetitions,
        "overrides": arguments.overrides,
    }
    print(f"{found['size']} sizes on {found['device']}, {repetitions} repetitions")
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        work = Path(folder)
        shared: dict[str, Any] = {"repetitions": repetitions, "work": work}
        tuned = shared | {"device": device, "overrides": arguments.overrides}
        if "steps" in arguments.parts:
            found["steps"] = measure_steps(size, **tuned)
            _print_steps(found["steps"])
        if "cache" in arguments.parts:
            found["cache"] = measure_cache(size, **tuned)
            _print_cache(found["cache"])
        if "loader" in arguments.parts:
            found["loader"] = measure_loader(size, **shared)
            found["loader"] |= _need(found["loader"]["samples_per_second"], found.get("steps"))
            _print_loader(found["loader"])
    print(json.dumps(found))


# ---- tables -------------------------------------------------------------------------------------


def _print_steps(found: list[dict[str, Any]]) -> None:
    print("\na step of pretraining")
    head = ("case", "way", "samples/s", "MFU", "x faster")
    print("{:20} {:6} {:>26} {:>26} {:>22} {:>8} {:>8}".format(*head, "x FLOPs", "x paper"))
    for row in found:
        for way in WAYS:
            cells = f"{row['case']:20} {way:6} {spread(row[way]['samples_per_second'], 2):>26} "
            cells += f"{spread(row[way]['mfu'], 3):>26}"
            if way == "lean":
                paper = f"{row['times_paper']:.1f}" if "times_paper" in row else "-"
                ratio = f"{row['flops_ratio']:.2f}"
                cells += f" {spread(row['speedup'], 2):>22} {ratio:>8} {paper:>8}"
            print(cells)


def _print_cache(found: list[dict[str, Any]]) -> None:
    print("\nan epoch of fine-tuning, encoders frozen")
    head = ("case", "cached, epochs/s", "uncached, epochs/s", "x faster", "x FLOPs")
    print("{:20} {:>26} {:>26} {:>22} {:>8}".format(*head))
    for row in found:
        cached, uncached = (
            spread(row[way]["epochs_per_second"], 3) for way in ("cached", "uncached")
        )
        speedup, ratio = spread(row["speedup"], 2), f"{row['flops_ratio']:.2f}"
        print(f"{row['case']:20} {cached:>26} {uncached:>26} {speedup:>22} {ratio:>8}")


def _print_loader(found: dict[str, Any]) -> None:
    print("\nthe loader alone")
    for workers, rate in found["samples_per_second"].items():
        need = f", {found['times_need'][workers]:.1f} x the model's need" if "need" in found else ""
        print(f"{workers} workers: {spread(rate, 1)} samples/s{need}")
    memory = " ".join(f"{each:.1f}" for each in found["worker_mb"])
    print(f"a worker's own memory, MB, by quarter: {memory or 'not to be had here'}")


def _need(read: dict[str, Figure], steps: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Say what the model takes of such cases as the loader reads, and how often that is read."""
    if steps is None:
        return {}
    same = next(row for row in steps if row["case"] == "realistic lengths")
    need = same["lean"]["samples_per_second"]["median"]
    return {"need": need, "times_need": {w: each["median"] / need for w, each in read.items()}}


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.training",
        description="Measure training: pretraining steps, the feature cache, the loader.",
        epilog="example:\n  python -m benchmarks.training --quick",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (auto)")
    parser.add_argument(
        "--size", choices=tuple(SIZES), help="(small on a CPU, the paper's on a GPU)"
    )
    parser.add_argument("--repetitions", type=int, default=5, help="of every way (5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, twice: that it runs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="(all)")
    parser.add_argument("--work", type=Path, help="where to make a folder for data and logs")
    add_overrides(parser, "override a value of the recipes, such as runtime.compile=true")
    return parser


if __name__ == "__main__":
    run_command(main)
