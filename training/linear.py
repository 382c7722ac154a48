"""Logistic and ridge regression, with outputs that are read as those of our heads are."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from lanistr.tasks import LabelSpec

Floats = NDArray[np.floating[Any]]

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Inverse strengths of the penalty to choose from, for rows of features about 1 long."""


def fit_linear(
    features: Any, targets: Floats, label: LabelSpec, strength: float, weights: str | None = None
) -> Any:
    """Learn from cases.

    Args:
        features: (N, K), dense or sparse.
        targets: (N,) class index or number.
        label: what they mean.
        strength: inverse of the penalty's.
        weights: "balanced" counts classes the same; a number has none.
    """
    if label.kind == "regression":
        return Ridge(alpha=1 / strength).fit(features, targets)
    model = LogisticRegression(C=strength, class_weight=weights, max_iter=1000)
    with warnings.catch_warnings():  # what has not converged is judged as it is
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, targets.astype(np.int64))


def outputs_of(model: Any, features: Any, label: LabelSpec, learned: int) -> NDArray[np.float32]:
    """Return (N, C) log-probabilities, or (N, 1) numbers.

    Args:
        model: an estimator of scikit-learn.
        features: (N, K).
        label: what it was trained to say.
        learned: number of cases that it was trained on; a class that was none of theirs is taken to
            be as rare as one in so many and one more.
    """
    if label.kind == "regression":
        return model.predict(features).astype(np.float32)[:, None]
    return as_outputs(model.predict_proba(features), model.classes_, label, learned)


def as_outputs(
    found: Floats, classes: NDArray[np.int64], label: LabelSpec, learned: int
) -> NDArray[np.float32]:
    """Return probabilities (N, K) of the classes (K,) that a method knows as outputs (N, C)."""
    shares = np.full((len(found), label.outputs), 1 / (learned + 1))
    shares[:, classes] = np.clip(found, 1e-9, 1)
    return np.log(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def row_scale(rows: Any) -> float:
    """Return what to divide rows (N, K) by, so that they are 1 long in the square mean."""
    squares = rows.multiply(rows) if hasattr(rows, "multiply") else np.square(rows)
    return float(np.sqrt(squares.sum() / max(rows.shape[0], 1))) or 1.0
