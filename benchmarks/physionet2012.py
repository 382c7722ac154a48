"""How well do a few labels do on real stays: from scratch, after pretraining, and boosted trees?

Prepares sets a and b of the PhysioNet 2012 challenge with the test split drawn from set b alone,
pretrains once on the stays of the training split without their labels, then fine-tunes from there
and from random weights, with few labels and with all, over several seeds. Beside them stand
gradient-boosted trees on hand-made features of the same stays, with the same labels. A seed draws
the labelled cases, the weights and the order; each method takes, for each seed, the settings of a
small grid that are best on the validation split, whose labels all of them see.

What was done before in `--work` with the same settings is not done again: interrupted, start the
same command once more.

    python -m benchmarks.physionet2012 --source challenge-2012 --work build/physionet2012
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.commands import (
    Figures,
    evaluated,
    judged,
    made,
    overrides,
    said_of_seeds,
    validation,
)
from lanistr.command import CommandParser, run_command
from lanistr.tasks import LabelSpec, NumberField, TaskSpec
from training.data.store import Dataset
from training.metrics import measure
from training.prepare.physionet2012 import DESCRIPTORS, Stays, join, read_set
from training.prepare.problems import Problems

FIGURES = ("auroc", "auprc", "brier", "ece")
SPLITS = (0.7, 0.05, 0.25)
"""Of the stays of both sets; the test split is half of set b."""

PRETRAINING = (
    *("model.simmmm=null", "model.summary.width=256", "losses.mtm=1"),
    *("model.timeseries.mask_ratio=0.2", "model.timeseries.mask_run=8"),
    "optim.lr=1e-3",
)
"""Summary modelling in the place of SimMMM: docs/log.md says what the paper's losses do here."""

_FACTORS = [f"optim.rates.{part}=0.03" for part in ("encoders", "projections", "fusion")]
TUNINGS: Mapping[str, Sequence[Sequence[str]]] = {
    "from scratch": (("optim.lr=3e-4",), ("optim.lr=1e-3",)),
    "pretrained": (("optim.lr=3e-4",), ("optim.lr=1e-3", *_FACTORS)),
}
"""Settings that fine-tuning chooses from with few labels; with all it takes the first."""

TREES = [
    {"learning_rate": rate, "max_iter": rounds, "max_leaf_nodes": leaves, "min_samples_leaf": 20}
    for rate, rounds, leaves in product((0.03, 0.1), (100, 300), (8, 31))
]
"""Settings that the trees choose from, on the validation split."""


def main() -> None:
    """Run what is missing and print the comparison."""
    arguments = _parser().parse_args()
    work: Path = arguments.work
    data = made(
        work,
        "data",
        *("training.prepare", "physionet2012", "--source", arguments.source),
        *("--sets", "a", "b", "--test-set", "b", "--splits", *SPLITS),
    )
    dataset = Dataset.open(data)
    seeds, sizes = range(arguments.seeds), [*arguments.labels, None]
    rows: list[dict[str, Any]] = []

    # ---- trees ---------------------------------------------------------------------------------
    trees = Trees(dataset, arguments.source, work)
    for labels in sizes:
        found = [trees.figures(labels, seed) for seed in seeds]
        rows.append({"method": "boosted trees", "labels": labels, "seeds": found})

    # ---- the model, both ways ------------------------------------------------------------------
    if not arguments.trees_only:
        pretrained = made(
            work,
            "pretrained",
            *("training.pretrain", "--recipe", "small", "--data", data),
            *overrides([f"optim.epochs={arguments.pretrain_epochs}", *arguments.sizes]),
            *overrides([*PRETRAINING, *arguments.pretrain_set]),
        )
        starts: dict[str, tuple[object, ...]] = {
            "from scratch": tuple(overrides(arguments.sizes)),
            "pretrained": ("--init", pretrained),
        }
        for (start, more), labels in product(starts.items(), sizes):
            name = f"{start.split()[-1]}-{labels or 'all'}"
            tunings = TUNINGS[start] if labels else TUNINGS[start][:1]
            grid = list(product(seeds, tunings))

            def finetuned(
                seed: int,
                tuning: Sequence[str],
                name: str = name,
                labels: int | None = labels,
                more: tuple[object, ...] = more,
            ) -> Path:
                """Fine-tune, if that was not done before, and return the run."""
                settings = [f"seed={seed}", *tuning]
                settings += _schedule(labels, arguments.epochs) + arguments.finetune_set
                return made(
                    work,
                    f"{name}-{seed}",
                    *("training.finetune", "--recipe", "small", "--data", data, *more),
                    *overrides(settings),
                )

            with ThreadPoolExecutor(arguments.jobs) as pool:
                runs = dict(zip(grid, pool.map(lambda each: finetuned(*each), grid), strict=True))
            best = [
                max(
                    (runs[seed, tuning] for tuning in tunings),
                    key=lambda run: validation(run, "auroc"),
                )
                for seed in seeds
            ]
            found = [evaluated(run, data, FIGURES) for run in best]
            rows.append({"method": start, "labels": labels, "seeds": found})

    # ---- the table -----------------------------------------------------------------------------
    positions = dataset.rows("test", labelled=True)
    deaths = dataset.labels[positions].mean()
    print(f"{len(positions)} test stays of set b, {deaths:.1%} died; {len(seeds)} seeds")
    print("mean over seeds [its 95% interval by Student's t] (95% of bootstrapped cases)")
    for row in rows:
        figures = said_of_seeds(row["seeds"], FIGURES, ".4f")
        print(f"{row['method']:>14}, {row['labels'] or 'all'} labels: {figures}")
    print(json.dumps({"splits": SPLITS, "cases": len(positions), "results": rows}))


# ---- the model ----------------------------------------------------------------------------------


def _schedule(labels: int | None, epochs: int) -> list[str]:
    """Return how long to learn: as many passes over few labels as make up for their number."""
    if labels is None:
        return [f"optim.epochs={epochs}"]
    return [f"labels={labels}", "optim.batch_size=32", f"optim.epochs={2 * epochs}", "patience=15"]


# ---- the trees ----------------------------------------------------------------------------------


class Trees:
    """Gradient-boosted trees on the first, last, least, largest, mean and number of each variable.

    Values outside a variable's limits are dropped and those outside its range clipped, as the model
    has it; what is missing stays missing, for the trees know what to do with it.
    """

    def __init__(self, dataset: Dataset, source: Path, work: Path) -> None:
        self._dataset = dataset
        problems = Problems(work / "trees.problems.jsonl", 1000)
        sets = [read_set(source, name, dataset.task, problems) for name in ("a", "b")]
        features = summarise(join(sets, problems), dataset.task)
        ids = pl.DataFrame({"record_id": [int(i) for i in dataset.ids(range(len(dataset)))]})
        ordered = ids.join(features, on="record_id", how="left", maintain_order="left")
        self._features = ordered.drop("record_id").to_numpy().astype(np.float64)

    def figures(self, labels: int | None, seed: int) -> Figures:
        """Learn from the labels that fine-tuning with this seed takes, and judge the test split."""
        dataset = self._dataset
        train = dataset.rows("train", labelled=True)
        if labels is not None:  # as training.finetune draws them
            train = np.sort(np.random.default_rng(seed).permutation(train)[:labels])
        validated, test = (dataset.rows(split, labelled=True) for split in ("validation", "test"))
        best: tuple[float, HistGradientBoostingClassifier] | None = None
        for settings in TREES:
            model = HistGradientBoostingClassifier(
                **settings, l2_regularization=1.0, early_stopping=False, random_state=seed
            ).fit(self._features[train], dataset.labels[train])
            score = measure(*self._outputs(model, validated))["auroc"]
            if best is None or score > best[0]:
                best = score, model
        assert best is not None
        return judged(*self._outputs(best[1], test), FIGURES)

    def _outputs(
        self, model: HistGradientBoostingClassifier, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], LabelSpec]:
        """Return (N, 2) log-probabilities but for a constant, (N,) labels, and what these are."""
        logits = model.decision_function(self._features[rows])
        outputs = np.stack([np.zeros_like(logits), logits], axis=1)
        return outputs, self._dataset.labels[rows], self._dataset.task.label


def summarise(found: Stays, task: TaskSpec) -> pl.DataFrame:
    """Return a row a stay: `record_id`, the descriptors, and six summaries of each variable."""
    assert task.timeseries is not None
    bounds = [
        (name, *(spec.limits or spec.range or (None, None)), *(spec.range or (None, None)))
        for name, spec in task.timeseries.variables.items()
        if isinstance(spec, NumberField)
    ]
    columns = ["parameter", "lowest", "highest", "low", "high"]
    limits = pl.DataFrame(bounds, schema=columns, orient="row")
    value = pl.col("value")
    clean = (
        found.events.join(limits, on="parameter", how="left", maintain_order="left")
        .filter(pl.col("lowest").is_null() | value.is_between(pl.col("lowest"), pl.col("highest")))
        .with_columns(value.clip(pl.col("low"), pl.col("high")))
    )
    summaries = {
        "first": value.first(),
        "last": value.last(),
        "min": value.min(),
        "max": value.max(),
        "mean": value.mean(),
        "count": pl.len().cast(pl.Float64),
    }
    by_variable = clean.group_by("record_id", "parameter", maintain_order=True).agg(
        each.alias(name) for name, each in summaries.items()
    )
    wide = by_variable.pivot(
        "parameter", index="record_id", values=list(summaries), sort_columns=True
    )
    described = found.stays.select(
        "record_id",
        *(pl.when(pl.col(name) != -1).then(pl.col(name)).alias(name) for name in DESCRIPTORS),
    )
    return described.join(wide, on="record_id", how="left", maintain_order="left")


# ---- command line -------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.physionet2012",
        description="Compare fine-tuning with and without pretraining, and boosted trees, on the "
        "stays of the PhysioNet 2012 challenge.",
        epilog="example:\n  python -m benchmarks.physionet2012 --source challenge-2012 "
        "--work build/physionet2012",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--source", required=True, type=Path, help="folder of the challenge's files"
    )
    parser.add_argument("--work", required=True, type=Path, help="folder for data and runs")
    parser.add_argument("--labels", type=int, nargs="*", default=[400], help="besides all (400)")
    parser.add_argument("--seeds", type=int, default=3, help="(3)")
    parser.add_argument("--pretrain-epochs", type=int, default=30, help="(30)")
    parser.add_argument("--epochs", type=int, default=30, help="of fine-tuning with all (30)")
    change: dict[str, Any] = {"nargs": "*", "default": [], "metavar": "PATH=VALUE"}
    parser.add_argument("--sizes", **change, help="of the model, other than those of `small`")
    parser.add_argument("--pretrain-set", **change, help="further settings of pretraining")
    parser.add_argument("--finetune-set", **change, help="further settings of fine-tuning")
    parser.add_argument("--jobs", type=int, default=1, help="fine-tunings at a time (1)")
    parser.add_argument("--trees-only", action="store_true", help="leave the model out")
    return parser


if __name__ == "__main__":
    run_command(main)
