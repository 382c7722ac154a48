"""`python -m training.evaluate`: how good a run is, over all cases and by what they bring.

Writes into the run `report-SPLIT.json`, for programs, `report-SPLIT.html`, for people, and
`outputs-SPLIT.npz`, what the model said of each case, so that it can be compared with others.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.calibration import Calibration
from lanistr.command import CommandParser, run_command
from lanistr.decision import LIKELIEST, Decision
from lanistr.draft import draft_file
from lanistr.jsonfile import json_text
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.tasks import LabelSpec, TaskSpec
from training.arguments import choose_device
from training.bootstrap import ROUNDS, bootstrap
from training.compatibility import check_fits, check_predicts
from training.data.store import SPLITS, Dataset, data_hash
from training.metrics import BY_CLASS, Floats, known, measure, shown, undetermined
from training.outputs import outputs_file, write_outputs
from training.predict import predict
from training.report.findings import findings
from training.report.history import read_history
from training.report.page import page
from training.run import Run, versions

EXAMPLE = "python -m training.evaluate --run runs/stays-ft --data data/stays --split test"

FEW_CASES, FEW_OF_A_CLASS = 30, 10
SMALL_IS = (
    f"Fewer than {FEW_CASES} cases, or fewer than {FEW_OF_A_CLASS} of one of two classes, "
    "counting those of one patient or product once. This is a rule of thumb: to validate a model "
    "of two outcomes, at least 100 cases of each are recommended. Source: Vergouwe et al. 2005."
)
NOT_GIVEN = "(not given)"

Cases = NDArray[np.bool_]


def main() -> None:
    """Evaluate as the command line says; write the reports into the run and print the figures."""
    arguments = _parser().parse_args()
    split = arguments.split

    # ---- what the model says -------------------------------------------------------------------
    run = Run.open(arguments.run)
    dataset = Dataset.open(arguments.data).only(run.task.modalities)
    check_predicts(run, dataset)
    check_fits(run, dataset)
    device, calibration = choose_device(arguments.device), run.calibration()
    model = from_pretrained(run.model_folder, Lanistr).to(device)
    rows = dataset.rows(split, labelled=True)
    logits = predict(model, dataset, rows, device)

    # ---- how good that is ----------------------------------------------------------------------
    report = full_report(run, dataset, split, logits, calibration)
    history = {"Fine-tuning": read_history(run.folder)}
    if run.config.init:
        history["Pretraining"] = read_history(Path(run.config.init))

    # ---- for programs, for people --------------------------------------------------------------
    for_programs = run.folder / f"report-{split}.json"
    for_people = run.folder / f"report-{split}.html"
    text = json_text(report)
    html = page(report, logits[:, 0], dataset.labels[rows], history)
    for_programs.unlink(missing_ok=True)  # which is there where all of it is, and of one data set
    write_outputs(run.folder / outputs_file(split), rows, logits / calibration.temperature)
    for path, written in ((for_people, html), (for_programs, text)):
        with draft_file(path) as draft:
            draft.write_text(written, encoding="utf-8")
    print(f"{run.folder}: {len(rows)} cases of the {split} split")
    print_figures(report)
    print(f"{for_programs}\n{for_people}")


def print_figures(report: Mapping[str, Any]) -> None:
    """Print the figures over all cases of a report with their intervals, one a line."""
    for name, value in report["all"]["metrics"].items():
        if value is not None:
            low, high = report["all"]["intervals"][name]
            sure = "" if low is None else f"  ({shown(low, 4)} to {shown(high, 4)})"
            print(f"  {name:16} {shown(value, 4)}{sure}")


def full_report(
    run: Run,
    dataset: Dataset,
    split: str,
    logits: NDArray[np.float32],
    calibration: Calibration,
) -> dict[str, Any]:
    """Return all that `report-SPLIT.json` says.

    Args:
        run: the fine-tuned run.
        dataset: what it is evaluated on.
        split: whose labelled cases.
        logits: (N, C) of the head for these cases, before the temperature; (N, 1) for regression.
        calibration: of the run.

    Returns:
        What `evaluate` returns, what `training.report.findings` finds, and ``about``: run, data,
        versions, and in words the ``cautions`` with which to read the figures.
    """
    rows, label = dataset.rows(split, labelled=True), dataset.task.label
    report = {"about": about(run, dataset, split)}
    report |= evaluate(logits / calibration.temperature, dataset, rows, calibration.decision)
    patterns, groups = dataset.patterns(rows), dataset.groups_of(rows)
    return report | findings(logits, dataset.labels[rows], patterns, groups, label, calibration)


def evaluate(
    outputs: NDArray[np.float32],
    dataset: Dataset,
    rows: NDArray[np.int64],
    decision: Decision = LIKELIEST,
) -> dict[str, Any]:
    """Measure over all cases, by presence pattern, and by subgroup.

    Args:
        outputs: (N, C) of the head, divided by the temperature; (N, 1) for regression.
        dataset: where the cases stand.
        rows: (N,) which they are.
        decision: which class is predicted.

    Returns:
        ``decision``, ``most_likely`` (figures that would be others if the most likely class were
        predicted; none where it is), ``all``, ``by_presence`` (the fullest cases first) and
        ``by_subgroup`` (values that start with a number in their order, others the largest first);
        in each ``cases``, of how many ``groups`` (patients, products) they are, for two classes
        ``positives``, ``metrics``, the 95% ``intervals``, why figures are ``undetermined``, and
        whether it is too ``small`` to conclude from, in words. A figure that the cases do not
        determine is None. ``bootstrap`` says how the intervals were made.
    """
    targets, label = dataset.labels[rows], dataset.task.label
    groups = dataset.groups_of(rows)

    def group(chosen: Cases) -> dict[str, Any]:
        found = measure(outputs[chosen], targets[chosen], label, decision)
        intervals = bootstrap(outputs[chosen], targets[chosen], label, groups[chosen], decision)
        counts = {"cases": int(chosen.sum()), "groups": len(np.unique(groups[chosen]))}
        if label.kind == "binary":
            counts["positives"] = int((targets[chosen] == 1).sum())
        return counts | {
            "metrics": {name: known(value) for name, value in found.items()},
            "intervals": {n: [known(low), known(high)] for n, (low, high) in intervals.items()},
            "undetermined": {n: undetermined(n) for n, value in found.items() if np.isnan(value)},
            "small": _small(targets[chosen], groups[chosen], label),
        }

    patterns = dataset.patterns(rows)
    report: dict[str, Any] = {
        "decision": decision.model_dump(mode="json"),
        "most_likely": _most_likely(outputs, targets, label, decision),
        "bootstrap": {"rounds": ROUNDS, "seed": 0, "level": 0.95, "small_is": SMALL_IS},
        "all": group(np.ones(len(rows), dtype=bool)),
        "by_presence": _groups(patterns, group, _fullest_first(dataset.task)),
        "by_subgroup": {},
    }
    for column, values in dataset.subgroups().items():
        chosen = np.array([NOT_GIVEN if values[row] is None else values[row] for row in rows])
        report["by_subgroup"][column] = _groups(chosen, group, _readable)
    return report


def _most_likely(
    outputs: NDArray[np.float32], targets: Floats, label: LabelSpec, decision: Decision
) -> dict[str, float | None]:
    if decision.likeliest:
        return {}
    found = measure(outputs, targets, label)
    return {name: known(found[name]) for name in BY_CLASS if name in found}


# ---- groups -------------------------------------------------------------------------------------


def _groups(
    names: NDArray[np.str_],
    measured: Callable[[Cases], dict[str, Any]],
    order: Callable[[dict[str, int]], Iterable[str]],
) -> dict[str, Any]:
    unique, which, counts = np.unique(names, return_inverse=True, return_counts=True)
    codes = {str(name): code for code, name in enumerate(unique)}
    sizes = {name: int(counts[code]) for name, code in codes.items()}
    return {name: measured(which == codes[name]) for name in order(sizes)}


def _fullest_first(task: TaskSpec) -> Callable[[dict[str, int]], list[str]]:
    """Return an order of patterns: by number of parts, then by the parts' usual order."""
    place = {str(modality): number for number, modality in enumerate(task.modalities)}

    def order(sizes: dict[str, int]) -> list[str]:
        parts = {name: [place[part] for part in name.split("+") if part] for name in sizes}
        return sorted(sizes, key=lambda name: (-len(parts[name]), parts[name]))

    return order


def _readable(sizes: dict[str, int]) -> list[str]:
    """Order values that start with a number by it, others by size; what is not given last."""
    given = [name for name in sizes if name != NOT_GIVEN]
    numbers = {name: re.match(r"\D{0,2}(\d+(?:\.\d+)?)", name) for name in given}
    if all(numbers.values()):
        given.sort(key=lambda name: (float(numbers[name][1]), name))  # type: ignore[index]
    else:
        given.sort(key=lambda name: (-sizes[name], name))
    return given + [name for name in sizes if name == NOT_GIVEN]


def _small(targets: NDArray[np.float32], groups: NDArray[np.str_], label: LabelSpec) -> str | None:
    """Say why cases are too few to conclude from, if they are."""
    number = len(np.unique(groups))
    once = "" if number == len(targets) else ", counting those of one patient or product once"
    if number < FEW_CASES:
        return f"fewer than {FEW_CASES} cases{once}"
    if label.kind == "binary":
        for code, name in enumerate(label.classes):
            if len(np.unique(groups[targets == code])) < FEW_OF_A_CLASS:
                return f"fewer than {FEW_OF_A_CLASS} {name}{once}"
    return None


# ---- what is evaluated --------------------------------------------------------------------------


def about(run: Run, dataset: Dataset, split: str) -> dict[str, Any]:
    """Return run, data, versions, and in words the ``cautions`` with which to read figures."""
    task, found, log = dataset.task, data_hash(dataset), read_history(run.folder)
    return {
        "task": task.name,
        "title": task.title,
        "label": task.label.model_dump(mode="json"),
        "metric": task.metric,
        "run": str(run.folder),
        "split": split,
        "data": str(dataset.folder),
        "data_hash": found,
        "trained_on_hash": run.config.data_hash,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "best_epoch": log.best_epoch(task.metric) if log else None,
        "mean_of": log.mean_of if log else 1,
        "cautions": _cautions(run, dataset, split, same=found == run.config.data_hash),
    }


def _cautions(run: Run, dataset: Dataset, split: str, *, same: bool) -> list[str]:
    """Say what a reader must know before believing a figure."""
    cautions = []
    if dataset.synthetic or run.config.synthetic:
        what = "Evaluated" if dataset.synthetic else "Trained"
        cautions.append(
            f"{what} on synthetic records: the figures say nothing about real patients, products "
            "or people."
        )
    if not same:
        cautions.append("Evaluated on other data than the model was trained on.")
    elif split == "train":
        cautions.append("The model was trained on these cases: the figures are too optimistic.")
    elif split == "validation":
        cautions.append(
            "These cases were used to choose the epoch and how a class is predicted, and to fit "
            "the calibration: the figures are optimistic, with few cases more so, and the "
            "coverage is as fitted."
        )
    return cautions


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m training.evaluate",
        description="Evaluate a fine-tuned run on a split, also by pattern of modalities and by "
        "subgroup. Writes report-SPLIT.json, report-SPLIT.html and outputs-SPLIT.npz into the run.",
        epilog=f"example:\n  {EXAMPLE}",
    )
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (auto)")
    return parser


if __name__ == "__main__":
    run_command(main)
