"""Choose how a class is predicted, by the task's metric, on cases that were not learned from.

Two families of one parameter, of which few held-out cases suffice to choose (docs/log/models.md):
for quadratic kappa cuts of the expected value, the halves between the classes' values drawn towards
its mean; for macro F1 weights of the classes, a power of how rare each is expected to be. Every
other metric is served by the most likely class, or does not go by the class that is predicted.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lanistr.calibration import Calibration, softmax
from lanistr.decision import LIKELIEST, Decision
from lanistr.tasks import LabelSpec, TaskSpec
from training.metrics import BY_CLASS, Floats, measure

STRETCHES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
"""How many times as far from their mean expected values are taken to be."""

POWERS = (0.25, 0.5, 0.75, 1.0)

_RAREST = 1e-9
"""The least share of a class; what overflows in a network may leave it none."""


def calibrate(
    outputs: Floats,
    targets: Floats,
    task: TaskSpec,
    patterns: Sequence[str] | NDArray[np.str_] = (),
) -> Calibration:
    """Fit temperature and conformal scores, see `Calibration.fit`, then choose the decision.

    Of several decisions as good by the task's metric, the most likely class is predicted.

    Args:
        outputs: (N, C) of the head, not divided by anything; (N, 1) for regression.
        targets: (N,) class index or number, none NaN.
        task: whose label they are, and whose metric counts.
        patterns: (N,) what each case brings, see `lanistr.modalities.presence`; or none.
    """
    fitted, label = Calibration.fit(outputs, targets, task.label, patterns), task.label
    sound = outputs / fitted.temperature
    family = _FAMILIES.get(task.metric)
    if family is None:
        return fitted

    def score(decision: Decision) -> float:
        found = measure(sound, targets, label, decision)[task.metric]
        return -math.inf if math.isnan(found) else found  # of cases of one class alone

    tried = [LIKELIEST, *family(softmax(sound), label)]
    return fitted.model_copy(update={"decision": max(tried, key=score)})


def validated(outputs: Floats, targets: Floats, task: TaskSpec) -> dict[str, float]:
    """Return the figures of held-out cases, by which an epoch or a method is chosen.

    Those of the predicted class are under the decision that `calibrate` would choose on these
    cases; all others are of the outputs as they are. Arguments as for `calibrate`.
    """
    found = measure(outputs, targets, task.label)
    if task.metric in _FAMILIES:
        fitted = calibrate(outputs, targets, task)
        sound = outputs / fitted.temperature
        decided = measure(sound, targets, task.label, fitted.decision)
        found |= {name: decided[name] for name in BY_CLASS if name in found}
    return found


def _cuts(p: Floats, label: LabelSpec) -> Iterator[Decision]:
    mean = float((p @ np.asarray(label.values)).mean())
    halves = [(low + high) / 2 for low, high in pairwise(label.values)]
    places = 6 - math.floor(math.log10(label.values[-1] - label.values[0]))
    for stretch in STRETCHES:
        cuts = (mean + (half - mean) / stretch for half in halves)
        yield Decision(cuts=tuple(round(each, places) for each in cuts))


def _weights(p: Floats, label: LabelSpec) -> Iterator[Decision]:
    shares = np.maximum(p.mean(axis=0), _RAREST)
    for power in POWERS:
        weights = (shares.max() / shares) ** power
        yield Decision(weights=tuple(float(f"{each:.6g}") for each in weights.tolist()))


_FAMILIES = {"quadratic_kappa": _cuts, "macro_f1": _weights}
"""Metrics for which another class than the most likely one may be predicted, and what is tried."""
