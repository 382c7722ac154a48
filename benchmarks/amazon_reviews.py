"""Stars of real reviews: the model, with and without pretraining, beside TF-IDF with regression.

Pretrains on all reviews of one category without their stars, then fine-tunes on another, from there
and from random weights, with the ordinary commands; and the other way round. A seed draws the
splits, by distinct text, and the order; all three methods learn from the same cases and are judged
on the same. The regression has the words alone and takes its settings, as the model its epoch, by
quadratic kappa on the validation split. Copies of a review are dropped before anything is split.

What was done before in `--work` is not done again: interrupted, start the same command once more.

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

from benchmarks.commands import call, interval, overrides
from lanistr.command import CommandParser, run_command
from training.bootstrap import bootstrap
from training.data.store import Dataset
from training.metrics import measure
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
Figures = dict[str, dict[str, Any]]


def main() -> None:
    """Run what is missing, print the comparison and write it down."""
    arguments = _parser().parse_args()
    work: Path = arguments.work
    seeds = range(arguments.seeds)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        ways = [(before, after) for before, after in permutations(CATEGORIES, 2)]
        folders = list(pool.map(lambda way: _pretrained(arguments, *way), ways))
        runs = [(before, after, seed) for (before, after), seed in product(ways, seeds)]
        found = list(pool.map(lambda run: _compared(arguments, *run), runs))
    results: list[dict[str, Any]] = []
    for way, folder in zip(ways, folders, strict=True):
        last = Dataset.open(folder / f"data-{seeds[-1]}")
        by_seed = [each for run, each in zip(runs, found, strict=True) if run[:2] == way]
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
        print("  mean over seeds [its 95% interval by Student's t] (95% of bootstrapped cases)")
        for method, runs in row["methods"].items():
            print(f"  {method:>12}: {_said(runs)}")
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


def _folder(work: Path, before: str, after: str) -> Path:
    return work / f"{before}-then-{after}".lower()


def _pretrained(arguments: argparse.Namespace, before: str, after: str) -> Path:
    """Pretrain on all reviews of a category, if that was not done before."""
    folder = _folder(arguments.work, before, after)
    data, out = folder / "data", folder / "pretrained"
    if not data.exists():
        call(
            *_prepared(arguments.source / CATEGORIES[before], data, seed=0),
            *("--splits", 1, 0, 0, "--image-size", 48, "--max-tokens", 128),
            *("--vocabulary-size", 2000),
        )
    if not (out / "model").exists():
        call(
            *("training.pretrain", "--recipe", arguments.recipe, "--data", data, "--out", out),
            *overrides([f"optim.epochs={arguments.pretrain_epochs}"]),
        )
    return folder


def _compared(arguments: argparse.Namespace, before: str, after: str, seed: int) -> Figures:
    """Return the figures of each method with one seed."""
    folder = _folder(arguments.work, before, after)
    source, data = arguments.source / CATEGORIES[after], folder / f"data-{seed}"
    if not data.exists():
        call(
            *_prepared(source, data, seed=seed),
            *("--splits", *SPLITS, "--preprocessing", folder / "data"),
        )
    dataset = Dataset.open(data)
    epochs = -(-arguments.steps // -(-dataset.card.cases["train"] // BATCH))
    settings = [f"seed={seed}", f"optim.batch_size={BATCH}", f"optim.epochs={epochs}"]
    settings += [f"patience={epochs}", *arguments.finetune_set]
    found = {"TF-IDF": _regression(dataset, source)}
    starts: dict[str, tuple[object, ...]] = {
        "from scratch": (),
        "pretrained": ("--init", folder / "pretrained"),
    }
    for start, init in starts.items():
        run = folder / f"{start.split()[-1]}-{seed}"
        if not (run / "calibration.json").exists():
            call(
                *("training.finetune", "--recipe", arguments.recipe, "--data", data),
                *("--out", run, *init),
                *overrides(settings),
            )
        found[start] = _evaluated(run, data)
    return found


def _prepared(source: Path, out: Path, seed: int) -> tuple[object, ...]:
    return (
        *("training.prepare", "amazon", "--source", source, "--out", out),
        *("--split-by", "text", "--seed", seed),
    )


def _share_of_the_usual(dataset: Dataset) -> float:
    """Return the accuracy of always saying the most frequent class of the training cases."""
    train, test = (_stars(dataset, dataset.rows(each, True)) for each in ("train", "test"))
    return float((test == np.bincount(train).argmax()).mean())


def _said(seeds: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for figure in FIGURES:
        values = [each["metrics"][figure] for each in seeds]
        low, high = np.mean([each["intervals"][figure] for each in seeds], axis=0)
        parts.append(f"{figure} {_mean(values)} ({low:.3f} to {high:.3f})")
    return "; ".join(parts)


def _gain(methods: Mapping[str, Sequence[Mapping[str, Any]]], method: str) -> str:
    """Say how much better a method is, seed by seed: they share their cases."""
    parts = []
    for figure in FIGURES:
        ours, theirs = ([e["metrics"][figure] for e in methods[m]] for m in (method, "TF-IDF"))
        parts.append(f"{figure} {_mean(np.subtract(ours, theirs).tolist(), sign='+')}")
    return "; ".join(parts)


def _mean(values: Sequence[float], sign: str = "") -> str:
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:{sign}.3f}"
    low, high = interval(values)
    return f"{mean:{sign}.3f} [{low:{sign}.3f} to {high:{sign}.3f}]"


# ---- the model ----------------------------------------------------------------------------------


def _evaluated(run: Path, data: Path) -> dict[str, Any]:
    """Return a run's figures on the test split, with their intervals over cases."""
    report = run / "report-test.json"
    if not report.exists():
        call("training.evaluate", "--run", run, "--data", data)
    found = json.loads(report.read_text(encoding="utf-8"))["all"]
    return {kind: {n: found[kind][n] for n in FIGURES} for kind in ("metrics", "intervals")}


# ---- the regression -----------------------------------------------------------------------------


def _regression(dataset: Dataset, source: Path) -> dict[str, Any]:
    """Learn from the words of the training cases, and judge the test split."""
    texts = dict(_texts(dataset, source))
    train, validation, test = (dataset.rows(s, True) for s in ("train", "validation", "test"))
    best: tuple[float, Any] | None = None
    for strength, weights in SETTINGS:
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=strength, class_weight=weights, max_iter=2000),
        ).fit([texts[name] for name in dataset.ids(train.tolist())], _stars(dataset, train))
        outputs = _outputs(model, dataset, validation, texts)
        score = measure(outputs, dataset.labels[validation], dataset.task.label)[CHOSEN_BY]
        if best is None or score > best[0]:
            best = score, model
    assert best is not None
    given = (_outputs(best[1], dataset, test, texts), dataset.labels[test], dataset.task.label)
    figures, ends = measure(*given), bootstrap(*given)
    return {
        "metrics": {name: figures[name] for name in FIGURES},
        "intervals": {name: list(ends[name]) for name in FIGURES},
    }


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
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
