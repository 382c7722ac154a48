"""How good predictions are: by kind of label, with bootstrap intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from lanistr.calibration import softmax
from lanistr.errors import DataError, TaskError, unknown_name
from lanistr.tasks import LabelSpec

Floats = NDArray[np.floating[Any]]


def measure(outputs: Floats, targets: Floats, label: LabelSpec) -> dict[str, float]:
    """Compare outputs with what came true.

    Args:
        outputs: (N, C) of the head, logits or log-probabilities; (N, 1) for regression.
        targets: (N,) class index or number, none NaN.
        label: what they mean.

    Returns:
        By name; a figure that these cases do not determine (AUROC of one class alone) is NaN.
    """
    if label.kind == "regression":
        error = outputs[:, 0] - targets
        return {
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt((error**2).mean())),
        }
    truth = targets.astype(np.int64)
    p = softmax(outputs)
    guess = p.argmax(axis=1)
    found = {
        "accuracy": float(metrics.accuracy_score(truth, guess)),
        "macro_f1": float(metrics.f1_score(truth, guess, average="macro", zero_division=0.0)),
        "brier": float(((p - np.eye(p.shape[1])[truth]) ** 2).sum(axis=1).mean()),
        "ece": expected_calibration_error(p, truth),
    }
    if label.kind == "binary":
        both = 0 < truth.sum() < len(truth)
        found["brier"] /= 2  # over the positive class alone, as is usual for two classes
        found["auroc"] = float(metrics.roc_auc_score(truth, p[:, 1])) if both else np.nan
        found["auprc"] = float(metrics.average_precision_score(truth, p[:, 1])) if both else np.nan
    if label.kind == "ordinal":
        values = np.asarray(label.values)
        found["mae"] = float(np.abs(p @ values - values[truth]).mean())
        found["quadratic_kappa"] = _kappa(truth, guess, len(values))
    return found


def bootstrap(
    outputs: Floats, targets: Floats, label: LabelSpec, *, rounds: int = 200, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95% interval of each figure by resampling cases.

    Source: Efron 1979, the percentile interval.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(rounds):
        rows = rng.integers(len(targets), size=len(targets))
        for name, value in measure(outputs[rows], targets[rows], label).items():
            drawn.setdefault(name, []).append(value)
    intervals: dict[str, tuple[float, float]] = {}
    for name, values in drawn.items():
        known = np.asarray(values)[~np.isnan(values)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
        intervals[name] = (float(low), float(high))
    return intervals


def expected_calibration_error(p: Floats, truth: NDArray[np.int64], bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence.

    Source: Guo et al. 2017, section 2.
    """
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = [
        abs(right[which == each].mean() - confidence[which == each].mean()) * (which == each).mean()
        for each in np.unique(which)
    ]
    return float(np.sum(gaps))


def check_metric(metric: str, targets: Floats, label: LabelSpec) -> None:
    """Check that a figure can be computed for cases with these labels.

    Raises:
        TaskError: it is no figure of this kind of label.
        DataError: these cases do not determine it, whatever is predicted.
    """
    regression = label.kind == "regression"
    perfect = targets[:, None] if regression else np.eye(label.outputs)[targets.astype(np.int64)]
    found = measure(perfect, targets, label)
    if metric not in found:
        raise TaskError(
            f"not a metric of a {label.kind} label",
            field="metric",
            seen=metric,
            accepted=unknown_name(metric, found),
        )
    if np.isnan(found[metric]):
        raise DataError(
            "the validation split does not determine the task's metric",
            field=metric,
            seen=f"{len(targets)} labelled cases of one class",
            accepted="labelled cases of at least two classes",
        )


def known(value: float) -> float | None:
    """Return a figure as it is written down: None where it is not determined."""
    return None if np.isnan(value) else round(value, 6)


def higher_is_better(metric: str) -> bool:
    """Whether a larger figure is a better one."""
    return metric not in ("mae", "rmse", "brier", "ece")


def _kappa(truth: NDArray[np.int64], guess: NDArray[np.int64], classes: int) -> float:
    if len(np.unique(np.concatenate([truth, guess]))) < 2:
        return float("nan")
    score: Callable[..., float] = metrics.cohen_kappa_score
    return float(score(truth, guess, labels=list(range(classes)), weights="quadratic"))
