"""How good predictions are, by kind of label.

Every figure is written down once, for cases that count with a weight: `measure` counts each once,
`training.bootstrap` as often as it was drawn. So a figure and its interval are the same figure, and
a thousand draws of a hundred thousand cases take seconds.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp  # type: ignore[import-untyped]

from lanistr.calibration import softmax
from lanistr.decision import LIKELIEST, Decision
from lanistr.errors import DataError, TaskError, unknown_name
from lanistr.tasks import LabelSpec

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
Weighted = Callable[[Floats], dict[str, Floats]]

BY_CLASS = ("accuracy", "macro_f1", "quadratic_kappa")
"""Figures of the predicted class, see `lanistr.decision`."""

BINS = 15
"""Bins of confidence of the calibration error. Source: Guo et al. 2017, section 4.1."""

DEFINITIONS = {
    "auroc": "Probability that a case of the second class gets a higher probability of that class "
    "than a case of the first; ties count half. Source: Hanley and McNeil 1982.",
    "auprc": "Average precision: mean precision at each case of the second class, without "
    "interpolation. The chance level is the share of that class. Source: Davis and Goadrich 2006.",
    "accuracy": "Share of cases whose predicted class is the true one.",
    "macro_f1": "Mean over classes, each counting the same, of the harmonic mean of precision and "
    "recall; classes that never occur and are never predicted are left out. "
    "Source: Opitz and Burst 2019.",
    "brier": "Mean squared difference between probabilities and outcomes: for two classes that of "
    "the second class (0 to 1), for more summed over the classes (0 to 2). Source: Brier 1950.",
    "ece": f"Mean gap between the confidence in the most likely class and its accuracy, over "
    f"{BINS} bins of equal width. Not debiased: with few cases it is too large, and more so its "
    "bootstrap interval, which may lie above it. Source: Guo et al. 2017; on the bias, Kumar et "
    "al. 2019.",
    "mae": "Mean absolute error; for ordered classes, that of the expected value.",
    "rmse": "Root mean squared error.",
    "quadratic_kappa": "Agreement of the predicted and the true class beyond chance, with "
    "errors weighted by the square of their distance in classes. Source: Cohen 1968.",
}
"""What each figure is, in words for a reader of a report."""


def measure(
    outputs: Floats, targets: Floats, label: LabelSpec, decision: Decision = LIKELIEST
) -> dict[str, float]:
    """Compare outputs with what came true.

    Args:
        outputs: (N, C) of the head, logits or log-probabilities; (N, 1) for regression.
        targets: (N,) class index or number, none NaN.
        label: what they mean.
        decision: which class is predicted.

    Returns:
        By name; a figure that these cases do not determine (AUROC of one class alone) is NaN.
    """
    once = weighted(outputs, targets, label, decision)(np.ones((1, len(targets))))
    return {name: float(values[0]) for name, values in once.items()}


def weighted(
    outputs: Floats, targets: Floats, label: LabelSpec, decision: Decision = LIKELIEST
) -> Weighted:
    """Return a function from weights (R, N), how often each case counts, to figures (R,) by name.

    Arguments as for `measure`.
    """
    if label.kind == "regression":
        error = outputs[:, 0].astype(np.float64) - targets
        return lambda weights: {
            "mae": weights @ np.abs(error) / weights.sum(axis=1),
            "rmse": np.sqrt(weights @ error**2 / weights.sum(axis=1)),
        }
    truth = targets.astype(np.int64)
    p = softmax(outputs)
    guess = decision.predicted(p, label)
    of_classes = _of_classes(p, truth, guess, binary=label.kind == "binary")
    if label.kind == "binary":
        of_ranks = _of_ranks(log_odds(outputs, 1), truth == 1)
        return lambda weights: of_classes(weights) | of_ranks(weights)
    if label.kind == "ordinal":
        of_order = _of_order(p, truth, guess, np.asarray(label.values))
        return lambda weights: of_classes(weights) | of_order(weights)
    return of_classes


def log_odds(outputs: Floats, code: int) -> Floats:
    """Return (N,) the log-odds of a class against the others, for outputs (N, C) of the head.

    By them cases are ranked: of two that are nearly certain the probabilities may both be 1.
    """
    exact = outputs.astype(np.float64)
    odds: Floats = exact[:, code] - logsumexp(np.delete(exact, code, axis=1), axis=1)
    return odds


def _of_classes(p: Floats, truth: Integers, guess: Integers, *, binary: bool) -> Weighted:
    """Return what any classes have: p (N, C), true and predicted class (N,)."""
    classes = p.shape[1]
    confidence = p.max(axis=1)
    gap = (p.argmax(axis=1) == truth) - confidence
    distance = (p**2).sum(axis=1) - 2 * np.take_along_axis(p, truth[:, None], axis=1)[:, 0] + 1
    if binary:
        distance /= 2  # over the positive class alone, as is usual for two classes
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    # Cases of one cell differ in confidence alone, so that most sums are over a few cells.
    cells, cell = np.unique((truth * classes + guess) * BINS + bins, return_inverse=True)
    by_cell, (pair, bin_of_cell) = Sums(cell), np.divmod(cells, BINS)
    true_of_cell, guess_of_cell = np.divmod(pair, classes)
    hit = (true_of_cell == guess_of_cell).astype(np.float64)
    by_truth, by_guess, by_bin = Sums(true_of_cell), Sums(guess_of_cell), Sums(bin_of_cell)

    def figures(weights: Floats) -> dict[str, Floats]:
        counts, n = by_cell(weights), weights.sum(axis=1)
        hits = by_truth.spread(counts * hit, classes)
        support = by_truth.spread(counts, classes) + by_guess.spread(counts, classes)
        f1 = np.divide(2 * hits, support, out=np.zeros_like(hits), where=support > 0)
        return {
            "accuracy": counts @ hit / n,
            "macro_f1": f1.sum(axis=1) / (support > 0).sum(axis=1),
            "brier": weights @ distance / n,
            "ece": np.abs(by_bin(by_cell(weights * gap))).sum(axis=1) / n,
        }

    return figures


def _of_ranks(score: Floats, positive: NDArray[np.bool_]) -> Weighted:
    """Return what two classes have: score (N,) of the second, whether it is true (N,)."""
    ranks = Ranks(score, positive)

    def figures(weights: Floats) -> dict[str, Floats]:
        hits, ties, found, passed = ranks(weights)
        positives = found[:, -1] if found.shape[1] else np.zeros(len(weights))
        negatives = weights.sum(axis=1) - positives
        # Of the negatives those rank below that were not passed yet; ties count half.
        below = negatives[:, None] - (passed - found) + ties / 2
        wins = np.einsum("rp,rp->r", hits, below)
        # At the top of a draw there may be no case yet; nothing is found there either.
        gain = np.einsum("rp,rp->r", hits, found / np.maximum(passed, 1))
        both = (positives > 0) & (negatives > 0)
        auroc, auprc = np.full((2, len(weights)), np.nan)
        np.divide(wins, positives * negatives, out=auroc, where=both)
        np.divide(gain, positives, out=auprc, where=both)
        return {"auroc": auroc, "auprc": auprc}

    return figures


def _of_order(p: Floats, truth: Integers, guess: Integers, values: Floats) -> Weighted:
    """Return what ordered classes have: p (N, C), true and predicted class (N,), values (C,)."""
    error = np.abs(p @ values - values[truth])
    # Moments of the two class numbers give the disagreement of independent ones.
    t, g = truth.astype(np.float64), guess.astype(np.float64)
    columns = np.stack([(t - g) ** 2, t, g, t**2 + g**2], axis=1)

    def figures(weights: Floats) -> dict[str, Floats]:
        observed, of_t, of_g, squares = (weights @ columns).T
        n = weights.sum(axis=1)
        by_chance = squares * n - 2 * of_t * of_g
        kappa = np.full(len(weights), np.nan)  # one class alone, always guessed: no chance either
        np.divide(observed * n, by_chance, out=kappa, where=by_chance > 0)
        return {"mae": weights @ error / n, "quadratic_kappa": 1 - kappa}

    return figures


class Sums:
    """Sums of columns with the same key, by rising key: from (R, N) to (R, K)."""

    def __init__(self, keys: Integers) -> None:
        self._order = np.argsort(keys, kind="stable")
        self.keys, self._starts = np.unique(keys[self._order], return_index=True)

    def __call__(self, values: Floats) -> Floats:
        """Return the sums over each key that occurs."""
        return np.add.reduceat(values[:, self._order], self._starts, axis=1)

    def spread(self, values: Floats, count: int) -> Floats:
        """Return the sums over the keys from 0 to `count`; 0 for one that does not occur."""
        sums = np.zeros((len(values), count))
        sums[:, self.keys] = self(values)
        return sums


class Ranks:
    """Cases by falling score, those of equal score together."""

    def __init__(self, score: Floats, positive: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-score, kind="stable")
        falling = score[self._order]
        last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        self._positive = np.flatnonzero(positive[self._order])
        tie = np.searchsorted(last, self._positive)
        # Positives of one score are one step; the steps' last cases and those before their first.
        step, self._first = np.unique(tie, return_index=True)
        self._end = last[step]
        self._before = np.where(step > 0, last[step - 1], -1)

    def __call__(self, weights: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Walk down the scores that positive cases have, for weights (R, N).

        Returns:
            (R, S) each: the positives of that very score, its negatives, the positives of that
            score and above, all cases of that score and above.
        """
        falling = weights[:, self._order]
        if not len(self._positive):
            nothing = np.zeros((len(weights), 0))
            return nothing, nothing, nothing, nothing
        hits = np.add.reduceat(falling[:, self._positive], self._first, axis=1)
        walked = np.cumsum(falling, axis=1)
        passed = walked[:, self._end]
        above = np.where(self._before >= 0, walked[:, self._before], 0.0)
        return hits, passed - above - hits, np.cumsum(hits, axis=1), passed


def check_metric(metric: str, targets: Floats, label: LabelSpec, split: str = "validation") -> None:
    """Check that a figure can be computed for the labelled cases of a split.

    Raises:
        TaskError: it is no figure of this kind of label.
        DataError: these cases do not determine it, whatever is predicted.
    """
    regression = label.kind == "regression"
    perfect = targets[:, None] if regression else np.eye(label.outputs)[targets.astype(np.int64)]
    found = measure(perfect, targets, label)
    if metric not in found:
        raise TaskError(
            f"not a metric of {label.kind} labels",
            field="metric",
            seen=metric,
            accepted=unknown_name(metric, found),
        )
    if np.isnan(found[metric]):
        raise DataError(
            f"the {split} split does not determine the task's metric",
            field=metric,
            seen=f"{len(targets)} labelled cases of one class",
            accepted="labelled cases of at least two classes: prepare with another --seed or"
            " --splits, give the split in the records, or use accuracy as the task's metric",
        )


def known(value: float) -> float | None:
    """Return a figure as it is written down: None where it is not determined.

    To six decimals, or to six digits where it is small: of a label of any unit.
    """
    if np.isnan(value):
        return None
    return round(value, 6) if abs(value) >= 1 else float(f"{value:.6g}")


def shown(value: float, places: int = 3, sign: Literal["", "+"] = "") -> str:
    """Write a figure for a reader: to so many decimals, or two digits where these were all 0."""
    small = 0 < abs(value) < 10**-places
    return f"{value:{sign}.2g}" if small else f"{value:{sign}.{places}f}"


def undetermined(metric: str) -> str:
    """Say why a figure is not determined."""
    if metric == "quadratic_kappa":
        return "all cases are of one class, and it is always predicted"
    return "all cases are of one class"


def higher_is_better(metric: str) -> bool:
    """Whether a larger figure is a better one."""
    return metric not in ("mae", "rmse", "brier", "ece")


def has_unit(metric: str) -> bool:
    """Whether a figure is in the unit of the label, which may be small or large."""
    return metric in ("mae", "rmse")


def goodness(found: Mapping[str, float], metric: str) -> float:
    """Return how good figures are by one of them: more is better."""
    return found[metric] if higher_is_better(metric) else -found[metric]
