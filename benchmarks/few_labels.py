"""Does pretraining on unlabelled cases help when labels are few?

Prepares synthetic records, pretrains once on all training cases without their labels, then
fine-tunes from there and from random weights on the same few labels, with the ordinary commands.
Both ways take the same number of steps, and each, for each seed, the learning rate of the same
small grid that is best on the validation split. The two of a seed share their labelled cases; the
gain's interval is that of a paired t-test over seeds.

The reviews lack what Amazon's lack: nearly all have words, few have a picture. As published,
pretrained encoders are frozen; random ones are trained, since they know nothing. Unlike published,
fusion reads every token of the text (for reviews), and pretraining is without SimMMM unless
`--simmmm` is given: docs/log/models.md says why, and what came out.

    python -m benchmarks.few_labels --work build/few_labels
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import evaluated, made
from lanistr.command import CommandParser, run_command
from lanistr.tasks import find_task
from training.arguments import check_count
from training.experiments.jobs import overrides
from training.experiments.results import best_validation, interval

STARTS = ("scratch", "pretrained")
RATES = (3e-4, 1e-3)
"""Of fine-tuning. 1e-4 and 3e-3 were far worse for both ways: see docs/log/models.md."""

FIRST_SEED = 100
"""Lower ones helped to choose these settings and would flatter them."""

SIZES = {"rating": ("model.text.tokens=all",), "mortality": ()}
"""By task. Only a task with one text a case can show fusion every token."""

MISSING = {"rating": ("text=0", "image=0.95", "tabular=0.3"), "mortality": ("0.3",)}
"""By task, the shares of the cases that lack a part."""

VALIDATIONS = 10
"""Of a fine-tuning run, the best of which is kept."""


def main() -> None:
    """Run what is missing and print the comparison."""
    arguments = _parser().parse_args()
    check_count("--seeds", arguments.seeds, least=2)
    check_count("--jobs", arguments.jobs)
    check_count("--labels", min(arguments.labels))
    check_count("--steps", arguments.steps)
    work: Path = arguments.work
    metric = find_task(arguments.task).metric
    sizes = SIZES[arguments.task]

    # ---- data and pretraining, once ------------------------------------------------------------
    data = made(
        work,
        "data",
        *("training.prepare", "synthetic", "--task", arguments.task),
        *("--samples", arguments.samples, "--image-size", 48, "--max-tokens", 128),
        *("--vocabulary-size", 1000, "--seed", 1, "--missing", *MISSING[arguments.task]),
        threads=arguments.jobs,
    )
    pretraining = [*sizes, f"optim.epochs={arguments.pretrain_epochs}"]
    if not arguments.simmmm:
        pretraining.append("model.simmmm=null")
    pretrained = made(
        work,
        "pretrained",
        *("training.pretrain", "--recipe", "demo", "--data", data),
        *overrides(pretraining),
        threads=arguments.jobs,
    )

    # ---- fine-tuning, both ways ----------------------------------------------------------------
    def finetuned(start: str, labels: int, seed: int, rate: float) -> Path:
        """Fine-tune, if that was not done before, and return the run."""
        batch = min(16, max(8, labels // 4))
        epochs = -(-arguments.steps // -(-labels // batch))
        settings = [
            f"labels={labels}",
            f"seed={seed}",
            f"optim.lr={rate}",
            f"optim.batch_size={batch}",
            f"optim.epochs={epochs}",
            f"patience={epochs}",
            f"validate_every={max(1, epochs // VALIDATIONS)}",
            f"freeze_encoders={'true' if start == 'pretrained' else 'false'}",
        ]
        settings += sizes if start == "scratch" else ()
        init = ("--init", pretrained) if start == "pretrained" else ()
        return made(
            work,
            f"{start}-{labels}-{seed}-{rate:g}",
            *("training.finetune", "--recipe", "demo", "--data", data, *init),
            *overrides(settings),
        )

    def figure(run: Path) -> float:
        """Return a run's figure on the test split."""
        return float(evaluated(run, data, [metric])["metrics"][metric])

    results: list[dict[str, Any]] = []
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for labels in arguments.labels:
            grid = [(start, labels, *each) for each in product(seeds, RATES) for start in STARTS]
            runs = dict(zip(grid, pool.map(lambda run: finetuned(*run), grid), strict=True))
            watched = {run: best_validation(out, metric) for run, out in runs.items()}
            row: dict[str, Any] = {"labels": labels}
            for start in STARTS:
                chosen = [
                    max(RATES, key=lambda rate: watched[start, labels, seed, rate])
                    for seed in seeds
                ]
                best = [runs[start, labels, *pair] for pair in zip(seeds, chosen, strict=True)]
                row[start] = list(pool.map(figure, best))
                row[f"{start}_lr"] = chosen
            row["gain"] = np.subtract(row["pretrained"], row["scratch"]).tolist()
            row["interval"] = interval(row["gain"])
            results.append(row)

    # ---- the table -----------------------------------------------------------------------------
    print(f"test {metric}, mean ± standard deviation over {arguments.seeds} seeds")
    print(f"{'labels':>8} {'scratch':>18} {'pretrained':>18} {'gain':>18}   95% interval of gain")
    for row in results:
        cells = [f"{np.mean(row[k]):.3f} ± {np.std(row[k], ddof=1):.3f}" for k in (*STARTS, "gain")]
        low, high = row["interval"]
        print(
            f"{row['labels']:>8} "
            + " ".join(f"{cell:>18}" for cell in cells)
            + f"   {low:+.3f} to {high:+.3f}; by seed "
            + " ".join(f"{each:+.3f}" for each in row["gain"])
        )
    print(json.dumps({"task": arguments.task, "metric": metric, "results": results}))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.few_labels",
        description="Compare fine-tuning after pretraining with fine-tuning from random weights.",
        epilog="example:\n  python -m benchmarks.few_labels --work build/few_labels",
    )
    parser.add_argument("--work", required=True, type=Path, help="folder for data and runs")
    parser.add_argument("--task", default="rating", choices=sorted(SIZES))
    parser.add_argument("--samples", type=int, default=4000, help="cases in all (4000)")
    parser.add_argument("--pretrain-epochs", type=int, default=30, help="(30)")
    parser.add_argument("--simmmm", action="store_true", help="pretrain with SimMMM too")
    parser.add_argument("--labels", type=int, nargs="+", default=[32], help="(32)")
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning (200)")
    parser.add_argument("--seeds", type=int, default=8, help="at least 2 (8)")
    parser.add_argument("--jobs", type=int, default=2, help="fine-tunings at a time (2)")
    return parser


if __name__ == "__main__":
    run_command(main)
