"""`python -m training.yardsticks`: what a practitioner would try first, on any prepared data.

Gradient-boosted trees and logistic (or ridge) regression on summaries of series, table rows, TF-IDF
of notes and simple statistics of pictures (`training.columns`). What is missing stays missing for
the trees; the regression reads a 0, and beside it that it was missing. Settings are chosen on the
validation split by the task's metric, and calibrated there.

Writes `report-test.json`, in which `all`, `by_presence` and `by_subgroup` are those of
`training.evaluate` and `about` says what was tried and chosen.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder
from tqdm import tqdm

from lanistr.command import run_command
from lanistr.modalities import Modality
from training.baselines import REPORT, Cases, Outputs, baseline_parser, write_answers, write_report
from training.columns import Columns, read_columns
from training.data.store import new_folder
from training.evaluate import print_figures
from training.linear import STRENGTHS, fit_linear, outputs_of, row_scale
from training.metrics import BY_CLASS, shown

EXAMPLE = "python -m training.yardsticks --data data/stays --out yardsticks/trees --method trees"

TOPICS = 50
"""Numbers that trees see of the notes: trees want few columns, and words are many."""

MOST_TERMS = 50_000
"""Words and pairs of words that are counted, the most frequent ones."""

CODES = 255
"""Categories of a field up to which trees split by sets of them; scikit-learn's limit."""

WORDS = r"(?u)\b\w\w+\b|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]"
"""Two letters or more, as usual; of Chinese and Japanese each sign, as the vocabulary has them."""

Floats = NDArray[np.float64]
Parts = Mapping[Modality, Columns]
Fit = tuple[dict[str, Any], Any, Any, Any, Any]
"""Settings, the model fitted under them, features of validation, test and other cases."""


def main() -> None:
    """Learn as the command line says, judge on the test split, write the report, print figures."""
    arguments = _parser().parse_args()
    cases = Cases.open(arguments, answered=arguments.answers)
    label, learned = cases.dataset.task.label, len(cases.train)
    with new_folder(arguments.out) as folder:
        # ---- learn under all settings, keep what is best on the validation split ----------------
        parts = read_columns(cases.dataset, cases.everyone)
        tried: list[dict[str, Any]] = []
        best: tuple[float, dict[str, Any], list[Outputs]] | None = None
        for method in arguments.method:
            for settings, model, *asked in METHODS[method](cases, parts):
                said = [outputs_of(model, each, label, learned) for each in asked if each.shape[0]]
                figure, score = cases.validated(said[0])
                tried.append({"method": method, "settings": settings, "validation": figure})
                if best is None or score > best[0]:
                    best = score, tried[-1], said
        assert best is not None
        _, chosen, (validation, test, *others) = best

        # ---- judge and write -------------------------------------------------------------------
        report = cases.report(chosen | {"tried": tried}, "scikit-learn", validation, test)
        write_report(report, cases, test, folder)
        for answers in others:
            write_answers(report, cases, answers, folder)
    print(
        f"{chosen['method']}, {learned} labelled cases, validation "
        f"{cases.dataset.task.metric} {shown(chosen['validation'], 4)}; "
        f"{len(cases.test)} test cases"
    )
    print_figures(report)
    print(arguments.out / REPORT)


# ---- trees --------------------------------------------------------------------------------------


def boosted_trees(cases: Cases, parts: Parts) -> Iterator[Fit]:
    """Fit trees under each setting."""
    features, categorical = tree_features(parts, len(cases.train), cases.seed)
    train, *asked = cases.dealt(features)
    label, metric = cases.dataset.task.label, cases.dataset.task.metric
    targets = cases.dataset.labels[cases.train]
    shared: dict[str, Any] = {
        "l2_regularization": 1.0,
        "early_stopping": False,
        "random_state": cases.seed,
        "categorical_features": categorical,
        # A leaf of 20 cases, as usual; with few labels less, or there would be no split.
        "min_samples_leaf": min(20, 1 + len(train) // 20),
    }
    kind: Any = HistGradientBoostingClassifier
    if label.kind == "regression":
        kind = HistGradientBoostingRegressor
        shared["loss"] = "absolute_error" if metric == "mae" else "squared_error"
    else:
        targets = targets.astype(np.int64)
    for rate, rounds, leaves in _walk("trees", product((0.03, 0.1), (100, 300), (8, 31))):
        settings = {"learning_rate": rate, "max_iter": rounds, "max_leaf_nodes": leaves}
        model = kind(**settings, **shared).fit(train, targets)
        yield settings, model, *asked


def tree_features(parts: Parts, learned: int, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Return (N, K) features, NaN where missing, and which of them are categories, (K,).

    Args:
        parts: what the cases bring.
        learned: number of cases, from the first, that words and topics are learned from.
        seed: of the search for topics.
    """
    blocks: list[Floats] = []
    categorical: list[bool] = []
    for part in parts.values():
        blocks.append(part.numbers)
        categorical += [False] * part.numbers.shape[1]
        for words in part.categories.values():
            known = sorted(set(words[:learned]) - {None})
            codes = {word: float(code) for code, word in enumerate(known)}
            blocks.append(np.array([[codes.get(word, np.nan)] for word in words]))
            categorical.append(len(known) <= CODES)
        terms = count_terms(part, learned)
        if terms is not None:
            worded = terms[:learned][part.present[:learned]]
            if worded.shape[1] == 1:  # one term is its own topic; the library wants two
                found = terms.toarray()
            else:
                topics = TruncatedSVD(min(TOPICS, *worded.shape), random_state=seed).fit(worded)
                found = topics.transform(terms)
            blocks.append(np.where(part.present[:, None], found, np.nan))
            categorical += [False] * found.shape[1]
    features = np.concatenate(blocks, axis=1)
    filled = ~np.isnan(features[:learned]).all(axis=0)  # the library stumbles over empty columns
    if not filled.any():  # and over none
        return np.zeros((len(features), 1)), np.array([False])
    return features[:, filled], np.array(categorical)[filled]


# ---- regression ---------------------------------------------------------------------------------


def regression(cases: Cases, parts: Parts) -> Iterator[Fit]:
    """Fit logistic regression, or ridge regression to numbers, under each setting."""
    train, *asked = cases.dealt(linear_features(parts, len(cases.train)))
    label, targets = cases.dataset.task.label, cases.dataset.labels[cases.train]
    # Weights move where classes part and shift probabilities: of no use to what goes by rank.
    weights = (None, "balanced") if cases.dataset.task.metric in BY_CLASS else (None,)
    for strength, weighted in _walk("regression", product(STRENGTHS, weights)):
        model = fit_linear(train, targets, label, strength, weighted)
        settings = {"strength": strength, "class_weight": weighted}
        yield settings, model, *asked


def linear_features(parts: Parts, learned: int) -> Any:
    """Return (N, K) features, 0 where missing, and indicators of what is.

    Those of each modality are about as long together, so that one penalty suits all.

    Args:
        parts: what the cases bring.
        learned: number of cases, from the first, that words and scales are learned from.
    """
    blocks: list[Any] = []
    for part in parts.values():
        block = [_standardised(part, learned)]
        if part.categories:
            words = np.stack(list(part.categories.values()), axis=1)
            encoder = OneHotEncoder(handle_unknown="ignore").fit(words[:learned])
            block.append(encoder.transform(words))
        whole = sparse.hstack(block, format="csr")
        blocks.append(whole / row_scale(whole[:learned]))
        terms = count_terms(part, learned)
        if terms is not None:
            blocks.append(terms)
    features = sparse.hstack(blocks, format="csr")
    if not features.shape[1]:  # the library stumbles over none
        return np.zeros((features.shape[0], 1))
    crowded = features.nnz > 0.3 * np.prod(features.shape)
    return features.toarray() if crowded else features


def _standardised(part: Columns, learned: int) -> Any:
    """Return numbers standardised, 0 where missing, then one indicator for each way to be missing.

    The figures of a variable are missing all together: one indicator says so.
    """
    train = part.numbers[:learned]
    known = ~np.isnan(train)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, train, 0).sum(axis=0) / count
    deviation = np.sqrt((np.where(known, train - mean, 0) ** 2).sum(axis=0) / count)
    constant = deviation <= 1e-9 * np.maximum(np.abs(mean), 1)
    scaled = (part.numbers - mean) / np.where(constant, 1.0, deviation)
    missing = np.column_stack([~part.present, np.isnan(part.numbers)])
    _, ways = np.unique(missing[:learned], axis=1, return_index=True)
    told = missing[:, [each for each in ways if 0 < missing[:learned, each].mean() < 1]]
    # What never varied in training says nothing, however it varies afterwards.
    filled = np.where(np.isnan(scaled) | constant, 0.0, scaled)
    return sparse.csr_array(np.concatenate([filled, told], axis=1))


# ---- words --------------------------------------------------------------------------------------


def count_terms(part: Columns, learned: int) -> Any:
    """Return TF-IDF of words and pairs (N, K), each row of length 1, sparse; None for no words."""
    texts = [] if part.texts is None else list(part.texts)
    counter = TfidfVectorizer(
        token_pattern=WORDS, ngram_range=(1, 2), sublinear_tf=True, max_features=MOST_TERMS
    )
    tokens = counter.build_tokenizer()
    if not any(tokens(each) for each in texts[:learned]):
        return None
    return counter.fit(texts[:learned]).transform(texts)


# ---- what both share ----------------------------------------------------------------------------

METHODS = {"trees": boosted_trees, "logistic": regression}


def _walk(method: str, settings: Any) -> Iterator[Any]:
    return iter(tqdm(list(settings), desc=method, leave=False, disable=None))


def _parser() -> argparse.ArgumentParser:
    parser = baseline_parser(
        "yardsticks",
        "Train boosted trees and regression on simple features of any prepared data set. The "
        "settings that are best on the validation split are evaluated on the test split.",
        EXAMPLE,
    )
    methods: Sequence[str] = tuple(METHODS)
    parser.add_argument(
        "--method",
        nargs="+",
        default=methods,
        choices=methods,
        help="methods to try; the best on the validation split is used. logistic is ridge "
        "regression if the label is a number (trees logistic)",
    )
    parser.add_argument(
        "--answers",
        action="store_true",
        help="also store the predictions for the other training cases, for "
        "training.finetune --teachers",
    )
    return parser


if __name__ == "__main__":
    run_command(main)
