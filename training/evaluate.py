"""`python -m training.evaluate`: how good a run is, over all cases and by what they bring."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.command import CommandParser, run_command
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.data.store import SPLITS, Dataset
from training.metrics import bootstrap, known, measure
from training.predict import predict
from training.run import Run, check_fits, check_predicts
from training.settings import choose_device

EXAMPLE = "python -m training.evaluate --run runs/stays-ft --data data/stays --split test"


def main() -> None:
    """Evaluate as the command line says; write the report into the run and print it."""
    arguments = _parser().parse_args()
    run, dataset = Run.open(arguments.run), Dataset.open(arguments.data)
    check_predicts(run, dataset)
    check_fits(run, dataset)
    device = choose_device(arguments.device)
    model = from_pretrained(run.model_folder, Lanistr).to(device)
    rows = dataset.rows(arguments.split, labelled=True)
    outputs = predict(model, dataset, rows, device) / run.calibration().temperature
    report = evaluate(outputs, dataset, rows)
    path = run.folder / f"report-{arguments.split}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(rows)} cases")
    for name, (value, (low, high)) in _lines(report["all"]):
        print(f"  {name:16} {value:.4f}  ({low:.4f} to {high:.4f})")


def evaluate(
    outputs: NDArray[np.float32], dataset: Dataset, rows: NDArray[np.int64]
) -> dict[str, Any]:
    """Measure over all cases, by presence pattern, and by subgroup.

    Returns:
        ``all``, ``by_presence`` and ``by_subgroup``; in each group ``cases``, ``metrics`` and the
        95% ``intervals``. A figure that a group does not determine is None.
    """
    targets, label = dataset.labels[rows], dataset.task.label

    def group(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        found = measure(outputs[chosen], targets[chosen], label)
        intervals = bootstrap(outputs[chosen], targets[chosen], label)
        return {
            "cases": int(chosen.sum()),
            "metrics": {name: known(value) for name, value in found.items()},
            "intervals": {n: [known(low), known(high)] for n, (low, high) in intervals.items()},
        }

    patterns = np.array([dataset.presence(int(row)) for row in rows])
    report: dict[str, Any] = {"all": group(np.ones(len(rows), dtype=bool)), "by_presence": {}}
    for pattern in np.unique(patterns):
        report["by_presence"][str(pattern)] = group(patterns == pattern)
    report["by_subgroup"] = {}
    for column, values in dataset.subgroups().items():
        chosen = np.array([str(values[int(row)]) for row in rows])
        report["by_subgroup"][column] = {
            str(value): group(chosen == value) for value in np.unique(chosen)
        }
    return report


def _lines(group: dict[str, Any]) -> list[tuple[str, tuple[float, tuple[float, float]]]]:
    return [
        (name, (value, tuple(group["intervals"][name])))
        for name, value in group["metrics"].items()
        if value is not None
    ]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m training.evaluate",
        description="Measure a fine-tuned run on a split, by presence pattern and subgroup.",
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (auto)")
    return parser


if __name__ == "__main__":
    run_command(main)
