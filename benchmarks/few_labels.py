"""Does pretraining on unlabelled cases help when labels are few?

Prepares synthetic records, pretrains once on all of them without labels, then fine-tunes from there
and from random weights on the same few labels, over several seeds, with the ordinary commands. As
published, pretrained encoders are frozen; random ones are trained, since they know nothing. The
comparison is by the test split's figure; each pair shares seed and labelled cases.

    python -m benchmarks.few_labels --work build/few_labels
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lanistr.command import CommandParser, run_command
from lanistr.tasks import find_task

STARTS = ("scratch", "pretrained")


def main() -> None:
    """Run what is missing and print the comparison."""
    arguments = _parser().parse_args()
    work: Path = arguments.work
    data, pretrained = work / "data", work / "pretrained"
    metric = arguments.metric or find_task(arguments.task).metric

    # ---- data and pretraining, once ------------------------------------------------------------
    if not data.exists():
        _run(
            *("training.prepare", "synthetic", "--task", arguments.task, "--out", data),
            *("--samples", arguments.samples, "--image-size", 48, "--max-tokens", 128),
            *("--vocabulary-size", 1000, "--seed", 1),
        )
    if not (pretrained / "model").exists():
        epochs = f"optim.epochs={arguments.epochs}"
        _run(
            *("training.pretrain", "--recipe", "demo", "--data", data, "--out", pretrained),
            *("--set", epochs),
        )

    # ---- fine-tuning, both ways ----------------------------------------------------------------
    results: list[dict[str, Any]] = []
    for labels in arguments.labels:
        found: dict[str, list[float]] = {start: [] for start in STARTS}
        for seed in range(arguments.seeds):
            for start in STARTS:
                out = work / f"{start}-{labels}-{seed}"
                if not (out / "report-test.json").exists():
                    _finetune(
                        data, out, labels, seed, pretrained if start == "pretrained" else None
                    )
                report = json.loads((out / "report-test.json").read_text(encoding="utf-8"))
                found[start].append(report["all"]["metrics"][metric])
        gain = np.subtract(found["pretrained"], found["scratch"])
        results.append({"labels": labels, **found, "gain": gain.tolist()})

    # ---- the table -----------------------------------------------------------------------------
    print(f"test {metric}, mean ± standard deviation over {arguments.seeds} seeds")
    print(f"{'labels':>8} {'scratch':>18} {'pretrained':>18} {'gain':>18}")
    for row in results:
        cells = [f"{np.mean(row[k]):.4f} ± {np.std(row[k]):.4f}" for k in (*STARTS, "gain")]
        print(f"{row['labels']:>8} " + " ".join(f"{cell:>18}" for cell in cells))
    print(json.dumps({"task": arguments.task, "metric": metric, "results": results}))


def _finetune(data: Path, out: Path, labels: int, seed: int, init: Path | None) -> None:
    settings = {
        "labels": labels,
        "seed": seed,
        "optim.batch_size": 16,
        "optim.epochs": max(5, 30 * 64 // labels),  # as many steps whatever the labels
        "patience": 30,
        "freeze_encoders": "true" if init else "false",
    }
    overrides = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    start = ("--init", init) if init else ()
    _run("training.finetune", "--recipe", "demo", "--data", data, "--out", out, *start, *overrides)
    _run("training.evaluate", "--run", out, "--data", data)


def _run(*command: object) -> None:
    """Run one of our commands as a user would; its own lines go to standard error."""
    words = [sys.executable, "-m", *map(str, command)]
    print(" ".join(words[1:]), file=sys.stderr)
    subprocess.run(words, check=True, stdout=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.few_labels",
        description="Compare fine-tuning after pretraining with fine-tuning from random weights.",
        epilog="example:\n  python -m benchmarks.few_labels --work build/few_labels",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", required=True, type=Path, help="folder for data and runs")
    parser.add_argument("--task", default="mortality", choices=("mortality", "rating"))
    parser.add_argument("--metric", help="figure to compare (default: the task's)")
    parser.add_argument("--samples", type=int, default=4000, help="cases in all (4000)")
    parser.add_argument("--epochs", type=int, default=10, help="of pretraining (10)")
    parser.add_argument("--labels", type=int, nargs="+", default=[64], help="(64)")
    parser.add_argument("--seeds", type=int, default=5, help="(5)")
    return parser


if __name__ == "__main__":
    run_command(main)
