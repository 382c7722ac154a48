"""From a head's output to a prediction that can be trusted: temperature and conformal sets.

Source: temperature scaling, Guo et al. 2017, section 4.2; split conformal prediction, Angelopoulos
and Bates 2021, sections 1 and 2 (score: one minus the probability of the true class, or the
absolute residual), by group in section 4.1 (the groups: which parts a case brings).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lanistr.decision import Decision
from lanistr.schema import Schema
from lanistr.tasks import LabelSpec

Floats = NDArray[np.floating[Any]]

_SIX = Context(prec=6, rounding=ROUND_CEILING)

ENOUGH = 50
"""Held-out cases from which on a presence pattern has scores of its own: at a coverage of 0.9 what
they cover of new cases then strays by 4 points (one standard deviation). Source: Angelopoulos and
Bates 2021, section 3.2."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a conformal set or interval rests on.

    Attributes:
        coverage: share of cases that such sets are to cover.
        cases: held-out cases whose scores were used.
        pattern: what these brought (`lanistr.modalities.presence`); None: whatever they brought.
    """

    coverage: float
    cases: int
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one case.

    Attributes:
        label: predicted class, see `lanistr.decision`; None for regression.
        probabilities: by class, in class order; empty for regression.
        probability: of the second class, for binary labels.
        expected: mean of the classes' values (stars), for ordinal labels.
        value: for regression.
        set: conformal set of classes; None without calibration data.
        interval: conformal interval of a regression value, None without enough calibration data;
            for ordinal labels, the values at the ends of the set.
        basis: of set and interval; None where there is neither.
    """

    label: str | None = None
    probabilities: dict[str, float] | None = None
    probability: float | None = None
    expected: float | None = None
    value: float | None = None
    set: tuple[str, ...] | None = None
    interval: tuple[float, float] | None = None
    basis: Basis | None = None


class Calibration(Schema):
    """Fitted on held-out data, stored with the model.

    Attributes:
        temperature: the logits are divided by it; 1 for regression. Only as low as so few
            held-out cases of a class allow that were guessed right.
        scores: ascending nonconformity scores of the held-out cases; empty if there were none.
        by_pattern: the same of the cases of one presence pattern, where there were enough of them.
            Without it, sets cover over all cases, but not those that bring a note alone.
        decision: which class is predicted.
    """

    temperature: float = Field(default=1.0, gt=0)
    scores: tuple[float, ...] = ()
    by_pattern: dict[str, tuple[float, ...]] = {}
    decision: Decision = Decision()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for each in (self.scores, *self.by_pattern.values()):
            if any(before > after for before, after in pairwise(each)):
                raise ValueError("scores must be in ascending order")
        return self

    @classmethod
    def fit(
        cls,
        outputs: Floats,
        targets: Floats,
        label: LabelSpec,
        patterns: Sequence[str] | NDArray[np.str_] = (),
    ) -> Self:
        """Fit to held-out cases.

        Args:
            outputs: (N, C) outputs of the head; (N, 1) for regression.
            targets: (N,) class index or number, none NaN.
            label: what they mean.
            patterns: (N,) what each case brings, see `lanistr.modalities.presence`; or none.
        """
        temperature = 1.0
        if label.kind != "regression":
            temperature = _fit_temperature(outputs.astype(np.float64), targets.astype(np.int64))
        scores = _scores(outputs / temperature, targets, label)
        names, counts = np.unique(np.asarray(patterns, np.str_), return_counts=True)
        return cls(
            temperature=temperature,
            scores=_ascending(scores),
            by_pattern={
                str(name): _ascending(scores[np.asarray(patterns) == name])
                for name, count in zip(names, counts, strict=True)
                if name and count >= ENOUGH  # "" is the name of all
            },
        )

    def predicted(self, outputs: Floats, label: LabelSpec) -> NDArray[np.int64]:
        """Return the predicted class index (N,) for outputs (N, C); 0 for regression."""
        return self.decision.predicted(softmax(outputs / self.temperature), label)

    def predict(
        self, output: Floats, label: LabelSpec, coverage: float = 0.9, pattern: str = ""
    ) -> Prediction:
        """Read one case's output (C,) of the head; `pattern` is what the case brings."""
        threshold, basis = self._threshold(coverage, pattern)
        if label.kind == "regression":
            value = float(output[0])
            if threshold is None or not math.isfinite(threshold):
                return Prediction(value=value)
            interval = (value - threshold, value + threshold)
            return Prediction(value=value, interval=interval, basis=basis)
        p = softmax(output / self.temperature)
        shares, ordinal = p.tolist(), label.kind == "ordinal"
        predicted = self.decision.predicted(p[None], label)
        said = Prediction(
            label=label.classes[predicted[0]],
            probabilities=dict(zip(label.classes, shares, strict=True)),
            probability=shares[1] if label.kind == "binary" else None,
            expected=float(p @ np.asarray(label.values)) if ordinal else None,
        )
        if threshold is None:
            return said
        members = np.flatnonzero(_members(p[None], predicted, threshold, label)[0]).tolist()
        return replace(
            said,
            set=tuple(label.classes[each] for each in members),
            interval=(label.values[members[0]], label.values[members[-1]]) if ordinal else None,
            basis=basis,
        )

    def covers(
        self,
        outputs: Floats,
        targets: Floats,
        label: LabelSpec,
        coverage: float = 0.9,
        patterns: Sequence[str] | NDArray[np.str_] = (),
    ) -> tuple[NDArray[np.bool_], Floats] | None:
        """Say which cases' sets or intervals hold what came true, and how large these are.

        Args:
            outputs: (N, C) outputs of the head; (N, 1) for regression.
            targets: (N,) class index or number, none NaN.
            label: what they mean.
            coverage: share of cases that are to be covered.
            patterns: (N,) what each case brings; or none, to go by the scores of all.

        Returns:
            (N,) covered or not, and (N,) number of classes or width of the interval; None where
            `predict` gives no set or interval.
        """
        names, which = np.unique(
            np.asarray(patterns if len(patterns) else [""] * len(targets), np.str_),
            return_inverse=True,
        )
        found = [self._threshold(coverage, str(name))[0] for name in names]
        # Those of all cases stand in wherever a pattern has too few of its own.
        everyone, _ = self._threshold(coverage, "")
        if everyone is None or (label.kind == "regression" and not math.isfinite(everyone)):
            return None
        thresholds = np.asarray(found, np.float64)[which]
        if label.kind == "regression":
            residuals = np.abs(outputs[:, 0].astype(np.float64) - targets)
            return residuals <= thresholds, 2 * thresholds
        p = softmax(outputs / self.temperature)
        inside = _members(p, self.decision.predicted(p, label), thresholds[:, None], label)
        truth = targets.astype(np.int64)[:, None]
        return np.take_along_axis(inside, truth, axis=1)[:, 0], inside.sum(axis=1)

    def most_coverage(self, pattern: str = "") -> float:
        """Return the share up to which scores of their own say something; 0 without any.

        Beyond it a pattern's cases go by the scores of all, and those of all by every class.
        """
        n = len(self.by_pattern[pattern] if pattern else self.scores)
        return n / (n + 1)

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

    def _threshold(self, coverage: float, pattern: str) -> tuple[float | None, Basis]:
        """Return the score that a share `coverage` of new cases like one stays under, and why.

        None: not known. Where a pattern has scores of its own, but too few for the coverage, those
        of all cases are taken, yet no less than its own: more coverage never gives a smaller set.
        """
        own = self.by_pattern.get(pattern, ())
        rank = _rank(len(own), coverage)
        if own and rank <= len(own):
            return own[rank - 1], Basis(coverage, len(own), pattern)
        basis = Basis(coverage, len(self.scores))
        if not self.scores:
            return None, basis
        rank = _rank(len(self.scores), coverage)
        everyone = self.scores[rank - 1] if rank <= len(self.scores) else math.inf
        return max((everyone, *own[-1:])), basis


def softmax(logits: Floats) -> Floats:
    """Return probabilities over the last axis, float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _scores(outputs: Floats, targets: Floats, label: LabelSpec) -> Floats:
    """Return how far what came true is from what was said, (N,); logits are divided already."""
    if label.kind == "regression":
        return np.abs(outputs[:, 0].astype(np.float64) - targets)
    truth = targets.astype(np.int64)[:, None]
    return np.asarray(1 - np.take_along_axis(softmax(outputs), truth, axis=1)[:, 0])


def _ascending(scores: Floats) -> tuple[float, ...]:
    """Return them to six digits, upwards, so that who has such a score stays within it."""
    return tuple(float(_SIX.create_decimal(each)) for each in np.sort(scores).tolist())


def _rank(n: int, coverage: float) -> int:
    """Return which of n ascending scores a share `coverage` of new cases stays under, from 1."""
    return max(1, math.ceil(round((n + 1) * coverage, 9)))  # .55 of 100 are 55, not 56


def _members(
    p: Floats, predicted: NDArray[np.int64], threshold: float | Floats, label: LabelSpec
) -> NDArray[np.bool_]:
    """Say which classes' score is within the threshold, one or (N, 1), of p (N, C): (N, C).

    The predicted class (N,) always is, and an order has no gaps.
    """
    inside = 1 - p <= threshold
    inside[np.arange(len(p)), predicted] = True
    if label.kind == "ordinal":
        up = np.logical_or.accumulate(inside, axis=1)
        down = np.logical_or.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
        inside = up & down
    return inside


def _fit_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """Minimise the negative log-likelihood, convex in 1 / temperature, by bisection.

    Where no case is guessed wrong, or one by a hair, nothing holds it up. So it is never lower than
    that of the cases guessed right where each of n cases of a class counts as (n + 1) / (n + 2) of
    it, and the rest as the other classes in equal parts.

    Source: of these targets, of two classes, Platt 1999, section 2.2.
    """
    wanted = np.take_along_axis(logits, truth[:, None], axis=1)[:, 0]
    found, right = _likeliest(logits, wanted), wanted >= logits.max(axis=1)
    if not right.any():
        return found
    n = np.bincount(truth)[truth]
    others = (logits.sum(axis=1) - wanted) / (logits.shape[1] - 1)
    so_few = ((n + 1) * wanted + others) / (n + 2)
    return max(found, _likeliest(logits[right], so_few[right]))


def _likeliest(logits: Floats, wanted: Floats) -> float:
    """Return the temperature for logits (N, C), of which targets have `wanted` (N,) in the mean."""
    low, high = math.log(1e-2), math.log(1e2)
    for _ in range(60):
        middle = (low + high) / 2
        slope = ((softmax(logits * math.exp(middle)) * logits).sum(axis=1) - wanted).mean()
        low, high = (middle, high) if slope < 0 else (low, middle)
    return math.exp(-(low + high) / 2)
