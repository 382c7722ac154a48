"""Stars of real reviews: the model, with and without pretraining, beside TF-IDF with regression.

Pretrains on all reviews of one category without their stars, then fine-tunes on another, from there
and from random weights, with the ordinary commands; and the other way round. A seed draws the
splits, by distinct text, and the order; all three methods learn from the same cases and are judged
on the same. The regression has the words alone and takes its settings, as the model its epoch, by
quadratic kappa on the validation split; there, too, all choose how stars are predicted from
probabilities (`training.decide`). Copies of a review are dropped before anything is split.

What was done before in `--work` with the same settings is not done again: interrupted, start the
same command once more.

    python -m benchmarks.amazon_reviews --source amazon_2018_5core --work build/amazon_reviews
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.commands import (
    Figures,
    check_source,
    evaluated,
    judged,
    made,
    said,
    said_of_seeds,
)
from lanistr.command import CommandParser, run_command
from training.arguments import check_count
from training.data.store import Dataset
from training.decide import calibrate, validated
from training.experiments.jobs import overrides
from training.prepare.amazon.files import find_files
from training.prepare.amazon.scan import reviews

CATEGORIES = {"Beauty": "All_Beauty_5.json.gz", "Fashion": "AMAZON_FASHION_5.json.gz"}
FIGURES = ("accuracy", "macro_f1", "quadratic_kappa")
CHOSEN_BY = "quadratic_kappa"
SPLITS = (0.6, 0.2, 0.2)
SETTINGS = list(product((0.3, 1.0, 3.0, 10.0, 30.0), (None, "balanced")))
"""Of the regression: inverse strength of its penalty, and weights of the classes."""

METHODS = ("TF-IDF", "from scratch", "pretrained")
BATCH = 16


def main() -> None:
    """Run what is missing, print the comparison and write it down."""
    arguments = _parser().parse_args()
    check_count("--seeds", arguments.seeds)
    check_count("--jobs", arguments.jobs)
    check_count("--steps", arguments.steps)
    check_source(arguments.source, list(CATEGORIES.values()))
    work: Path = arguments.work
    seeds = range(arguments.seeds)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        ways = list(permutations(CATEGORIES, 2))
        before = pool.map(lambda way: _pretrained(arguments, way), ways)
        starts = dict(zip(ways, before, strict=True))
        runs = list(product(ways, seeds))
        found = list(pool.map(lambda run: _compared(arguments, starts[run[0]], *run), runs))
    results: list[dict[str, Any]] = []
    for way in ways:
        of_way = [each for run, each in zip(runs, found, strict=True) if run[0] == way]
        last, by_seed = of_way[-1][0], [figures for _, figures in of_way]
        results.append(
            {
                "pretrained_on": way[0],
                "fine_tuned_on": way[1],
                "cases": last.card.cases,
                "usual": _share_of_the_usual(last),
                "methods": {method: [each[method] for each in by_seed] for method in METHODS},
            }
        )

    # ---- the table -----------------------------------------------------------------------------
    for row in results:
        cases = ", ".join(f"{count} {split}" for split, count in row["cases"].items())
        print(
            f"{row['pretrained_on']} for pretraining, {row['fine_tuned_on']} for the task: {cases};"
            f" {row['usual']:.1%} of the test cases of the last seed have its most frequent stars"
        )
        print("  mean over seeds [its 95% interval by Student's t] (95% of bootstrapped texts)")
        for method, runs in row["methods"].items():
            print(f"  {method:>12}: {said_of_seeds(runs, FIGURES, '.3f')}")
        for method in METHODS[1:]:
            print(f"  {method} less TF-IDF: {_gain(row['methods'], method)}")
    report = {
        "seeds": len(seeds),
        "splits": SPLITS,
        "recipe": arguments.recipe,
        "steps": arguments.steps,
        "pretrain_epochs": arguments.pretrain_epochs,
        "results": results,
    }
    path = work / "results.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"figures of every seed: {path}")


def _folder(work: Path, way: tuple[str, str]) -> Path:
    return work / "-then-".join(way).lower()


def _pretrained(arguments: argparse.Namespace, way: tuple[str, str]) -> tuple[Path, Path]:
    """Pretrain on all reviews of a category, if that was not done before; return data and run."""
    folder = _folder(arguments.work, way)
    data = made(
        folder,
        "data",
        *_prepare(arguments.source / CATEGORIES[way[0]], seed=0),
        *("--splits", 1, 0, 0, "--image-size", 48, "--max-tokens", 128),
        *("--vocabulary-size", 2000),
    )
    run = made(
        folder,
        "pretrained",
        *("training.pretrain", "--recipe", arguments.recipe, "--data", data),
        *overrides([f"optim.epochs={arguments.pretrain_epochs}"]),
    )
    return data, run


def _compared(
    arguments: argparse.Namespace, before: tuple[Path, Path], way: tuple[str, str], seed: int
) -> tuple[Dataset, dict[str, Figures]]:
    """Return the data set of one seed, and the figures of each method on it.

    Args:
        arguments: of the command line.
        before: data set and run of pretraining.
        way: the categories of pretraining and of the task.
        seed: of splits and order.
    """
    folder, source = _folder(arguments.work, way), arguments.source / CATEGORIES[way[1]]
    data = made(
        folder,
        f"data-{seed}",
        *_prepare(source, seed=seed),
        *("--splits", *SPLITS, "--preprocessing", before[0]),
    )
    dataset = Dataset.open(data)
    epochs = -(-arguments.steps // -(-dataset.card.cases["train"] // BATCH))
    settings = [f"seed={seed}", f"optim.batch_size={BATCH}", f"optim.epochs={epochs}"]
    settings += [f"patience={epochs}", *arguments.finetune_set]
    found = {"TF-IDF": _regression(dataset, source)}
    starts: dict[str, tuple[object, ...]] = {
        "from scratch": (),
        "pretrained": ("--init", before[1]),
    }
    for start, init in starts.items():
        run = made(
            folder,
            f"{start.split()[-1]}-{seed}",
            *("training.finetune", "--recipe", arguments.recipe, "--data", data, *init),
            *overrides(settings),
        )
        found[start] = evaluated(run, data, FIGURES)
    return dataset, found


def _prepare(source: Path, seed: int) -> tuple[object, ...]:
    return (
        *("training.prepare", "amazon", "--source", source),
        *("--split-by", "text", "--seed", seed),
    )


def _share_of_the_usual(dataset: Dataset) -> float:
    """Return the accuracy of always saying the most frequent class of the training cases."""
    train, test = (_stars(dataset, dataset.rows(each, True)) for each in ("train", "test"))
    return float((test == np.bincount(train).argmax()).mean())


def _gain(methods: Mapping[str, Sequence[Figures]], method: str) -> str:
    """Say how much better a method is, seed by seed: they share their cases."""
    parts = []
    for figure in FIGURES:
        ours, theirs = ([e["metrics"][figure] for e in methods[m]] for m in (method, "TF-IDF"))
        parts.append(f"{figure} {said(np.subtract(ours, theirs).tolist(), '+.3f')}")
    return "; ".join(parts)


# ---- the regression -----------------------------------------------------------------------------


def _regression(dataset: Dataset, source: Path) -> Figures:
    """Learn from the words of the training cases, and judge the test split."""
    texts = dict(_texts(dataset, source))
    train, validation, test = (dataset.rows(s, True) for s in ("train", "validation", "test"))
    held_out = dataset.labels[validation]
    best: tuple[float, Any, NDArray[np.float64]] | None = None
    for strength, weights in SETTINGS:
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=strength, class_weight=weights, max_iter=2000),
        ).fit([texts[name] for name in dataset.ids(train.tolist())], _stars(dataset, train))
        outputs = _outputs(model, dataset, validation, texts)
        score = validated(outputs, held_out, dataset.task)[CHOSEN_BY]
        if best is None or score > best[0]:
            best = score, model, outputs
    assert best is not None
    _, model, outputs = best
    calibration = calibrate(outputs, held_out, dataset.task)
    outputs = _outputs(model, dataset, test, texts) / calibration.temperature
    truth, groups = dataset.labels[test], dataset.groups_of(test)
    return judged(outputs, truth, groups, dataset.task.label, FIGURES, calibration.decision)


def _texts(dataset: Dataset, source: Path) -> Iterator[tuple[str, str]]:
    """Yield the text of each case of a data set by its name."""
    names = set(dataset.ids(range(len(dataset))))
    for name, review in reviews(find_files([source])):
        if name in names:
            yield name, review.text()


def _stars(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return dataset.labels[rows].astype(np.int64)


def _outputs(
    model: Any, dataset: Dataset, rows: NDArray[np.int64], texts: Mapping[str, str]
) -> NDArray[np.float64]:
    """Return (N, C) log-probabilities; a class that training never had gets the least there are."""
    found = model.predict_log_proba([texts[name] for name in dataset.ids(rows.tolist())])
    outputs = np.full((len(rows), dataset.task.label.outputs), -1e3)
    outputs[:, model.classes_] = found
    return outputs


# ---- command line -------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m benchmarks.amazon_reviews",
        description="Compare the model, with and without pretraining, with TF-IDF and logistic "
        "regression on real reviews.",
        epilog="example:\n  python -m benchmarks.amazon_reviews --source amazon_2018_5core "
        "--work build/amazon_reviews",
    )
    parser.add_argument(
        "--source", required=True, type=Path, help=f"folder with {', '.join(CATEGORIES.values())}"
    )
    parser.add_argument("--work", required=True, type=Path, help="folder for data and runs")
    parser.add_argument("--recipe", default="demo", choices=("demo", "small"), help="(demo)")
    parser.add_argument("--seeds", type=int, default=3, help="(3)")
    parser.add_argument("--pretrain-epochs", type=int, default=10, help="(10)")
    parser.add_argument("--steps", type=int, default=400, help="of fine-tuning (400)")
    parser.add_argument("--jobs", type=int, default=2, help="commands at a time (2)")
    parser.add_argument("--finetune-set", nargs="*", default=[], metavar="PATH=VALUE")
    return parser


if __name__ == "__main__":
    run_command(main)
