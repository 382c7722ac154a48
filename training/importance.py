"""`python -m training.importance`: what each modality will bring, before anything is fine-tuned.

From a pretrained run and a few labels. Frozen, the model embeds each case once for every subset of
the modalities, as if the case brought that alone. A linear probe on the embeddings of the labelled
training cases, its penalty chosen by cross-validation, is judged by the task's metric on held-out
cases. Of the subset's modalities a case shows those that it brings; one that brings none of them
gets the shares of the labels learned from, as every case does where nothing is shown. What all
modalities are worth is shared out among them by exact Shapley values over the metric. Intervals are
over held-out cases drawn again and over draws of the labels, both together.

Writes `importance.json` and prints a table.

Source: Shapley 1953; linear probes, Alain and Bengio 2016.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor
from tqdm import tqdm

from lanistr.command import CommandParser, run_command
from lanistr.importance import Subset, shapley, subsets
from lanistr.jsonfile import write_json
from lanistr.modalities import Modality, presence
from lanistr.model.checkpoint import load_core, read_config
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import TensorBatch
from lanistr.tasks import LabelSpec, TaskSpec
from training.arguments import check_count, check_seed, choose_device
from training.bootstrap import LEVEL, ROUNDS, percentile_interval, resampled
from training.cases import draw_labelled, refuse_one_class
from training.compatibility import check_fits
from training.data.loader import load_in_order
from training.data.sampler import in_order
from training.data.store import Dataset, data_hash, new_folder
from training.linear import STRENGTHS, fit_linear, outputs_of, row_scale
from training.metrics import check_metric, higher_is_better, known, measure, shown
from training.run import Run, versions

EXAMPLE = "python -m training.importance --run runs/stays --data data/stays --out importance/stays"
REPORT = "importance.json"

FOLDS = 5
"""Of the labelled cases, to choose the probe's penalty by."""

BATCH = 64

Floats = NDArray[np.floating[Any]]
Positions = NDArray[np.int64]


def main() -> None:
    """Estimate as the command line says, write what was found, print it as a table."""
    arguments = _parser().parse_args()
    check_count("--labels", arguments.labels)
    check_count("--draws", arguments.draws)
    check_seed("--seed", arguments.seed)
    run = Run.open(arguments.run)
    dataset = Dataset.open(arguments.data).only(run.task.modalities)
    check_fits(run, dataset)
    task, device = dataset.task, choose_device(arguments.device)
    held_out = dataset.rows(arguments.split, labelled=True)
    check_metric(task.metric, dataset.labels[held_out], task.label, arguments.split)

    # ---- which labels ----------------------------------------------------------------------------
    fewer = arguments.labels < len(dataset.rows("train", labelled=True))
    count = arguments.draws if fewer else 1  # all of them are the same every time
    seeds = range(arguments.seed, arguments.seed + count)
    drawn = [draw_labelled(dataset, arguments.labels, seed) for seed in seeds]
    for rows in drawn:
        refuse_one_class(dataset, rows)

    with new_folder(arguments.out) as folder:
        # ---- what the model makes of every subset, and probes of that ----------------------------
        everyone = np.unique(np.concatenate([*drawn, held_out]))
        views = embed(_model(run).to(device), dataset, everyone, device)
        targets, test = dataset.labels[everyone], np.searchsorted(everyone, held_out)
        groups = dataset.groups_of(held_out)
        worths: list[Worth] = []
        for rows, seed in zip(
            tqdm(drawn, "probing", leave=False, disable=None), seeds, strict=True
        ):
            train = np.searchsorted(everyone, rows)
            said = {
                subset: probe(view, targets, train, test, task.label, seed)
                for subset, view in views.items()
            }
            worths.append(Worth.of(said, targets[test], groups, task))

        # ---- together ----------------------------------------------------------------------------
        brought = {each: views[frozenset({each})].brought[test].mean() for each in task.modalities}
        report = {"about": _about(run, dataset, arguments.split, drawn, seeds)}
        report |= summarised(worths, brought, task)
        write_json(folder / REPORT, report)
    for line in table(report):
        print(line)
    print(arguments.out / REPORT)


# ---- what the model makes of a subset -----------------------------------------------------------


@dataclass(frozen=True)
class View:
    """What a model makes of N cases that show a subset of the modalities.

    Attributes:
        vectors: (N, E) fused embeddings; of a case that brings nothing of the subset, without
            meaning.
        brought: (N,) whether a case brings anything of it.
    """

    vectors: NDArray[np.float32]
    brought: NDArray[np.bool_]


def embed(
    model: Lanistr, dataset: Dataset, positions: Positions, device: torch.device
) -> dict[Subset, View]:
    """Return the view of the cases under every subset of the data's modalities.

    Rows are encoded once, and fused as often as there are subsets.
    """
    chosen = subsets(dataset.task.modalities)
    vectors: dict[Subset, list[NDArray[np.float32]]] = {each: [] for each in chosen}
    batches = in_order(positions, BATCH)
    with torch.inference_mode():
        loaded = load_in_order(dataset, batches)
        for read in tqdm(loaded, "embedding", len(batches), leave=False, disable=None):
            batch = read.to(device)
            projected = model.encode(batch.parts)
            for subset, found in vectors.items():
                parts = {each: part for each, part in batch.parts.items() if each in subset}
                # What absent parts are filled up with, by a model that does so, is encoded too.
                whole = model.complete(TensorBatch(batch.size, parts))
                filled = {e: p for e, p in whole.parts.items() if p is not batch.parts.get(e)}
                tokens = {**projected, **model.encode(filled)}
                gathered = model.fusion.gather(*model.assemble(whole, tokens))
                found.append(model.fusion.embedding(gathered).float().cpu().numpy())
    present = {each: dataset.row_counts(each)[positions] > 0 for each in dataset.task.modalities}
    nothing = np.zeros(len(positions), dtype=np.bool_)
    return {
        subset: View(
            np.concatenate(vectors[subset]),
            np.logical_or.reduce([nothing, *(present[each] for each in subset)]),
        )
        for subset in chosen
    }


def _model(run: Run) -> Lanistr:
    """Read a run's model, of whichever stage, in evaluation mode."""
    model = Lanistr(read_config(run.model_folder).config)
    load_core(model, run.model_folder)
    return model.eval()


# ---- what a probe makes of that -----------------------------------------------------------------


def probe(
    view: View, targets: Floats, train: Positions, test: Positions, label: LabelSpec, seed: int
) -> NDArray[np.float32]:
    """Return what is said of the test cases, (N, C) log-probabilities or (N, 1) numbers.

    Args:
        view: of all cases.
        targets: of all cases, class index or number.
        train: places of the cases learned from.
        test: places of those asked about.
        label: what the targets mean.
        seed: of the folds.
    """
    usual = _fit(view.vectors[train], targets[train], label, None)
    said = outputs_of(usual, view.vectors[test], label, len(train))
    learned, asked = train[view.brought[train]], view.brought[test]
    if len(learned) < FOLDS or not asked.any():
        return said
    mean, deviation = view.vectors[learned].mean(axis=0), view.vectors[learned].std(axis=0)
    features = (view.vectors - mean) / np.where(deviation > 1e-6, deviation, np.inf)
    features /= row_scale(features[learned])
    strength = _choose(features[learned], targets[learned], label, seed)
    model = _fit(features[learned], targets[learned], label, strength)
    said[asked] = outputs_of(model, features[test[asked]], label, len(learned))
    return said


def _choose(features: Floats, targets: Floats, label: LabelSpec, seed: int) -> float:
    """Return the strength whose predictions of cases left out are the likeliest, or nearest."""
    # Dealt out class by class, so that folds have their share of each, or numbers by size.
    order = np.lexsort((np.random.default_rng(seed).permutation(len(targets)), targets))
    fold = np.empty(len(targets), dtype=np.int64)
    fold[order] = np.arange(len(targets)) % FOLDS

    def loss(strength: float) -> float:
        total = 0.0
        for left_out in range(FOLDS):
            rest, out = fold != left_out, fold == left_out
            model = _fit(features[rest], targets[rest], label, strength)
            said = outputs_of(model, features[out], label, int(rest.sum()))
            if label.kind == "regression":
                total += float(((said[:, 0] - targets[out]) ** 2).sum())
            else:
                truth = targets[out].astype(np.int64)[:, None]
                total -= float(np.take_along_axis(said, truth, axis=1).sum())
        return total

    return min(STRENGTHS, key=loss)


def _fit(features: Floats, targets: Floats, label: LabelSpec, strength: float | None) -> Any:
    """Fit a regression; without a strength, or of one class, what is usual among the targets."""
    if label.kind == "regression":
        if strength is None:
            return DummyRegressor().fit(features, targets)
    elif strength is None or len(np.unique(targets)) == 1:
        return DummyClassifier(strategy="prior").fit(features, targets.astype(np.int64))
    return fit_linear(features, targets, label, strength)


# ---- what that is worth -------------------------------------------------------------------------


@dataclass(frozen=True)
class Worth:
    """The task's metric with the labels of one draw, by subset of the modalities.

    Attributes:
        values: of the held-out cases, each counting once.
        spread: (R,) of the same cases drawn again R times, the same for every subset.
    """

    values: Mapping[Subset, float]
    spread: Mapping[Subset, Floats]

    @classmethod
    def of(
        cls,
        said: Mapping[Subset, Floats],
        truth: Floats,
        groups: NDArray[np.str_],
        task: TaskSpec,
    ) -> Self:
        """Measure what is said of cases (N, C) under each subset against what came true (N,).

        The cases of a group, (N,) patients or products, are drawn again together.
        """
        values: dict[Subset, float] = {}
        spread: dict[Subset, Floats] = {}
        for subset, outputs in said.items():
            values[subset] = measure(outputs, truth, task.label)[task.metric]
            spread[subset] = resampled(outputs, truth, task.label, groups)[task.metric]
        return cls(values, spread)


def summarised(
    worths: Sequence[Worth], brought: Mapping[Modality, float], task: TaskSpec
) -> dict[str, Any]:
    """Return what draws of labels say together.

    Args:
        worths: one a draw.
        brought: share of the held-out cases that bring a modality.
        task: whose metric it is.

    Returns:
        ``values`` by subset, with their intervals, "" for nothing shown; ``modalities``, each with
        its ``share`` and interval (positive where it makes predictions better, whichever way the
        metric goes), the metric with it ``alone`` and ``without`` it; ``draws``: values of each.
    """
    everything = frozenset(task.modalities)
    values = {
        each: float(np.mean([worth.values[each] for worth in worths])) for each in worths[0].values
    }
    spread = {each: np.concatenate([w.spread[each] for w in worths]) for each in values}
    sign = 1 if higher_is_better(task.metric) else -1
    shares = shapley(values)
    again = [
        shapley({subset: float(figures[at]) for subset, figures in spread.items()})
        for at in range(len(spread[everything]))
    ]
    intervals = {
        each: percentile_interval(sign * np.array([drawn[each] for drawn in again]))
        for each in task.modalities
    }
    return {
        "metric": task.metric,
        "higher_is_better": higher_is_better(task.metric),
        "values": {
            presence(each): {
                "value": known(value),
                "interval": _known(*percentile_interval(spread[each])),
            }
            for each, value in values.items()
        },
        "modalities": {
            each: {
                "share": known(sign * shares[each]),
                "interval": _known(*intervals[each]),
                "alone": known(values[frozenset({each})]),
                "without": known(values[everything - {each}]),
                "brought": known(float(brought[each])),
            }
            for each in task.modalities
        },
        "draws": [
            {presence(each): known(value) for each, value in worth.values.items()}
            for worth in worths
        ],
    }


def _known(low: float, high: float) -> list[float | None]:
    return [known(low), known(high)]


# ---- said ---------------------------------------------------------------------------------------


def table(report: Mapping[str, Any]) -> list[str]:
    """Return a report as lines to read, the most useful modality first."""
    about, modalities = report["about"], report["modalities"]
    everything = presence(list(modalities))
    labels = f"{about['labels']} labels" + (
        f", {n} draws" if (n := len(report["draws"])) > 1 else ""
    )
    lines = [
        f"{report['metric']} of a probe on {about['run']}: {labels}; {about['cases']} cases of the "
        f"{about['split']} split",
        f"{'':12} {'brought':>8} {'alone':>8} {'without':>8} {'share':>9}",
    ]
    for name, each in sorted(modalities.items(), key=lambda item: -item[1]["share"]):
        lines.append(
            f"{name:12} {each['brought']:8.0%} {shown(each['alone'], 4):>8} "
            f"{shown(each['without'], 4):>8} {shown(each['share'], 4, '+'):>9}"
            + _sure(each["interval"], "+")
        )
    for name, key in (("nothing", ""), ("everything", everything)):
        value = report["values"][key]
        figure = f"{shown(value['value'], 4):>8}"
        lines.append(f"{name:12} {'':8} {figure}" + _sure(value["interval"]))
    return [*lines, *about["cautions"]]


def _sure(interval: Sequence[float | None], sign: Literal["", "+"] = "") -> str:
    low, high = interval
    if low is None or high is None:
        return ""
    return f"  ({shown(low, 4, sign)} to {shown(high, 4, sign)})"


def _about(
    run: Run, dataset: Dataset, split: str, drawn: Sequence[Positions], seeds: Sequence[int]
) -> dict[str, Any]:
    cautions = []
    if dataset.synthetic or run.config.synthetic:
        cautions.append("Synthetic records: the figures mean nothing.")
    if run.config.stage == "finetune":
        cautions.append(
            "The run was already trained with labels, so its embeddings contain more "
            "than these few labels."
        )
    return {
        "task": dataset.task.name,
        "run": str(run.folder),
        "stage": run.config.stage,
        "data": str(dataset.folder),
        "data_hash": data_hash(dataset),
        "split": split,
        "cases": len(dataset.rows(split, labelled=True)),
        "labels": len(drawn[0]),
        "seeds": list(seeds),
        "bootstrap": {"rounds": ROUNDS, "level": LEVEL},
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "cautions": cautions,
    }


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m training.importance",
        description="Estimate each modality's value from a pretrained run and a few labels.",
        epilog=f"example:\n  {EXAMPLE}",
    )
    parser.add_argument("--run", required=True, type=Path, help="pretrained or fine-tuned run")
    parser.add_argument("--data", required=True, type=Path, help="prepared data set, with labels")
    parser.add_argument("--out", required=True, type=Path, help="folder to create")
    parser.add_argument(
        "--labels", type=int, default=200, help="labelled training cases per draw (200)"
    )
    parser.add_argument("--draws", type=int, default=5, help="number of draws (5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first draw (0)")
    parser.add_argument(
        "--split",
        default="validation",
        choices=("validation", "test"),
        help="split to evaluate on (validation)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (auto)")
    return parser


if __name__ == "__main__":
    run_command(main)
