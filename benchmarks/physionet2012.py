"""How well do a few labels do on real stays: from scratch, after pretraining, and plain methods?

Prepares sets a and b of the PhysioNet 2012 challenge with the test split drawn from set b alone,
pretrains once on the stays of the training split without their labels, then fine-tunes from there
and from random weights, with few labels and with all, over several seeds. Beside them stand
gradient-boosted trees and logistic regression on summaries of the same stays, with the same labels
(`training.yardsticks`); and where labels are few, the model as it learns, after pretraining, what
these two say of the stays without a label. A seed draws the labelled cases, the weights and the
order; each method takes, for each seed, the settings of a small grid that are best on the
validation split, whose labels all of them see.

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

from benchmarks.commands import check_source, evaluated, made, said_of_seeds
from lanistr.command import CommandParser, run_command
from training.arguments import check_count
from training.data.store import Dataset
from training.experiments.jobs import overrides
from training.experiments.results import best_validation

FIGURES = ("auroc", "auprc", "brier", "ece")
SPLITS = (0.7, 0.05, 0.25)
"""Of the stays of both sets; the test split is half of set b."""

PRETRAINING = (
    *("model.simmmm=null", "model.summary.width=256", "losses.mtm=1"),
    *("model.timeseries.mask_ratio=0.2", "model.timeseries.mask_run=8"),
    "optim.lr=1e-3",
)
"""Summary modelling instead of SimMMM: docs/log/models.md says what the paper's losses do here."""

_FACTORS = [f"optim.rates.{part}=0.03" for part in ("encoders", "projections", "fusion")]
TUNINGS: Mapping[str, Sequence[Sequence[str]]] = {
    "from scratch": (("optim.lr=1e-3",), ("optim.lr=3e-4",)),
    "pretrained": (("optim.lr=3e-4",), ("optim.lr=1e-3", *_FACTORS)),
}
"""Settings that fine-tuning chooses from with few labels; with all it takes the first."""

TAUGHT = ("optim.lr=3e-4", "optim.epochs=8", "patience=8")
"""Settings of fine-tuning on what the yardsticks say: all stays of the training split, eight times.
Not searched."""

YARDSTICKS = {"trees": "boosted trees", "logistic": "regression"}
"""Methods of `training.yardsticks`, and what the table calls them."""


def main() -> None:
    """Run what is missing and print the comparison."""
    arguments = _parser().parse_args()
    check_count("--seeds", arguments.seeds)
    check_count("--jobs", arguments.jobs)
    check_count("--labels", min(arguments.labels, default=None))
    check_source(arguments.source)
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

    # ---- yardsticks ----------------------------------------------------------------------------
    def yardstick(method: str, labels: int | None, seed: int) -> Path:
        """Learn by a plain method, if that was not done before, and return its folder."""
        drawn = ("--seed", seed, *(("--labels", labels, "--answers") if labels else ()))
        return made(
            work,
            f"{method}-{labels or 'all'}-{seed}",
            *("training.yardsticks", "--data", data, "--method", method, *drawn),
        )

    for method, labels in product(YARDSTICKS, sizes):
        drawn = seeds if labels else range(1)  # with all labels nothing is left to chance
        found = [evaluated(yardstick(method, labels, seed), data, FIGURES) for seed in drawn]
        rows.append({"method": YARDSTICKS[method], "labels": labels, "seeds": found})

    # ---- the model, both ways ------------------------------------------------------------------
    if not arguments.yardsticks_only:
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
                    key=lambda run: best_validation(run, "auroc"),
                )
                for seed in seeds
            ]
            found = [evaluated(run, data, FIGURES) for run in best]
            rows.append({"method": start, "labels": labels, "seeds": found})

        # ---- the model, taught by the yardsticks -----------------------------------------------
        for labels in arguments.labels:

            def taught(seed: int, labels: int = labels) -> Path:
                """Learn what the yardsticks say, if that was not done before; return the run."""
                teachers = [yardstick(method, labels, seed) for method in YARDSTICKS]
                return made(
                    work,
                    f"taught-{labels}-{seed}",
                    *("training.finetune", "--recipe", "small", "--data", data),
                    *("--init", pretrained, "--teachers", *teachers),
                    *overrides([f"seed={seed}", f"labels={labels}", *TAUGHT]),
                )

            with ThreadPoolExecutor(arguments.jobs) as pool:
                found = [evaluated(run, data, FIGURES) for run in pool.map(taught, seeds)]
            rows.append({"method": "taught", "labels": labels, "seeds": found})

    # ---- the table -----------------------------------------------------------------------------
    positions = dataset.rows("test", labelled=True)
    deaths = dataset.labels[positions].mean()
    print(f"{len(positions)} test stays of set b, {deaths:.1%} died; {len(seeds)} seeds")
    print("mean over seeds [its 95% interval by Student's t] (95% of bootstrapped stays)")
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


# ---- command line -------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.physionet2012",
        description="Compare fine-tuning with and without pretraining, boosted trees and "
        "regression on the stays of the PhysioNet 2012 challenge.",
        epilog="example:\n  python -m benchmarks.physionet2012 --source challenge-2012 "
        "--work build/physionet2012",
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
    parser.add_argument("--yardsticks-only", action="store_true", help="leave the model out")
    return parser


if __name__ == "__main__":
    run_command(main)
