"""From a head's output to a prediction that can be trusted: temperature and conformal sets.

Source: temperature scaling, Guo et al. 2017, section 4.2; split conformal prediction, Angelopoulos
and Bates 2021, sections 1 and 2 (score: one minus the probability of the true class, or the
absolute residual).
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lanistr.schema import Schema
from lanistr.tasks import LabelSpec

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one case.

    Attributes:
        label: most likely class; None for regression.
        probabilities: by class, in class order; empty for regression.
        probability: of the second class, for binary labels.
        expected: mean of the classes' values (stars), for ordinal labels.
        value: for regression.
        set: conformal set of classes; None without calibration data.
        interval: conformal interval of a regression value; None without enough calibration data.
    """

    label: str | None = None
    probabilities: dict[str, float] | None = None
    probability: float | None = None
    expected: float | None = None
    value: float | None = None
    set: tuple[str, ...] | None = None
    interval: tuple[float, float] | None = None


class Calibration(Schema):
    """Fitted on held-out data, stored with the model.

    Attributes:
        temperature: the logits are divided by it; 1 for regression.
        scores: ascending nonconformity scores of the held-out cases; empty if there were none.
    """

    temperature: float = Field(default=1.0, gt=0)
    scores: tuple[float, ...] = ()

    @classmethod
    def fit(cls, outputs: Floats, targets: Floats, label: LabelSpec) -> Self:
        """Fit to held-out cases.

        Args:
            outputs: (N, C) outputs of the head; (N, 1) for regression.
            targets: (N,) class index or number, none NaN.
            label: what they mean.
        """
        if label.kind == "regression":
            scores = np.abs(outputs[:, 0] - targets)
            return cls(scores=tuple(np.sort(scores).round(6).tolist()))
        truth = targets.astype(np.int64)
        temperature = _fit_temperature(outputs.astype(np.float64), truth)
        probabilities = softmax(outputs / temperature)
        scores = 1 - np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0]
        return cls(temperature=temperature, scores=tuple(np.sort(scores).round(6).tolist()))

    def predict(self, output: Floats, label: LabelSpec, coverage: float = 0.9) -> Prediction:
        """Read one case's output (C,) of the head."""
        threshold = self._threshold(coverage)
        if label.kind == "regression":
            value = float(output[0])
            interval = None
            if threshold is not None and math.isfinite(threshold):
                interval = (value - threshold, value + threshold)
            return Prediction(value=value, interval=interval)
        p = softmax(output / self.temperature)
        best = int(p.argmax())
        return Prediction(
            label=label.classes[best],
            probabilities={name: float(each) for name, each in zip(label.classes, p, strict=True)},
            probability=float(p[1]) if label.kind == "binary" else None,
            expected=float(p @ np.asarray(label.values)) if label.kind == "ordinal" else None,
            set=None if threshold is None else _conformal_set(p, threshold, label),
        )

    def covers(
        self, outputs: Floats, targets: Floats, label: LabelSpec, coverage: float = 0.9
    ) -> tuple[NDArray[np.bool_], Floats] | None:
        """Say which cases' sets or intervals hold what came true, and how large these are.

        Args:
            outputs: (N, C) outputs of the head; (N, 1) for regression.
            targets: (N,) class index or number, none NaN.
            label: what they mean.
            coverage: share of cases that are to be covered.

        Returns:
            (N,) covered or not, and (N,) number of classes or width of the interval; None where
            `predict` gives no set or interval.
        """
        threshold = self._threshold(coverage)
        if threshold is None:
            return None
        if label.kind == "regression":
            if not math.isfinite(threshold):
                return None
            residuals = np.abs(outputs[:, 0].astype(np.float64) - targets)
            return residuals <= threshold, np.full(len(targets), 2 * threshold)
        inside = _members(softmax(outputs / self.temperature), threshold, label)
        truth = targets.astype(np.int64)[:, None]
        return np.take_along_axis(inside, truth, axis=1)[:, 0], inside.sum(axis=1)

    def explained(self, output: Floats, label: LabelSpec, chosen: int) -> Floats:
        """Return what contributions add up to, for outputs (..., C): (...,).

        Log-odds of the second class (binary) or of class `chosen` (multi-class), the expected
        value (ordinal), the value itself (regression).
        """
        if label.kind == "regression":
            return np.asarray(output[..., 0])
        p = softmax(output / self.temperature)
        if label.kind == "ordinal":
            return np.asarray(p @ np.asarray(label.values))
        q = np.clip(p[..., 1 if label.kind == "binary" else chosen], 1e-12, 1 - 1e-12)
        return np.asarray(np.log(q) - np.log1p(-q))

    def _threshold(self, coverage: float) -> float | None:
        """Return the score that a share `coverage` of new cases stays under; None: not known."""
        n = len(self.scores)
        rank = math.ceil((n + 1) * coverage)
        if n == 0:
            return None
        return self.scores[rank - 1] if rank <= n else math.inf


def softmax(logits: Floats) -> Floats:
    """Return probabilities over the last axis, float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _conformal_set(p: Floats, threshold: float, label: LabelSpec) -> tuple[str, ...]:
    """Name the classes of one case's set."""
    inside = _members(p[None], threshold, label)[0]
    return tuple(name for name, member in zip(label.classes, inside, strict=True) if member)


def _members(p: Floats, threshold: float, label: LabelSpec) -> NDArray[np.bool_]:
    """Say which classes' score is within the threshold, (N, C); never none, no gaps in an order."""
    inside = 1 - p <= threshold
    np.put_along_axis(inside, p.argmax(axis=1)[:, None], True, axis=1)
    if label.kind == "ordinal":
        up = np.logical_or.accumulate(inside, axis=1)
        down = np.logical_or.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
        inside = up & down
    return inside


def _fit_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """Minimise the negative log-likelihood, convex in 1 / temperature, by bisection."""
    of_truth = np.take_along_axis(logits, truth[:, None], axis=1)[:, 0]
    low, high = math.log(1e-2), math.log(1e2)
    for _ in range(60):
        middle = (low + high) / 2
        slope = ((softmax(logits * math.exp(middle)) * logits).sum(axis=1) - of_truth).mean()
        low, high = (middle, high) if slope < 0 else (low, middle)
    return math.exp(-(low + high) / 2)
