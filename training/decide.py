"""Choose which class is named by the task's metric, on cases that were not learned from.

Two families of one parameter, so that a hundred held-out cases suffice to choose: for quadratic
kappa cuts of the expected value, the halves between the classes' values drawn towards its mean; for
macro F1 weights of the classes, a power of how rare each is expected to be. Every other metric is
served by the most likely class, or does not go by the class that is named.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lanistr.calibration import Calibration, softmax
from lanistr.decision import LIKELIEST, Decision
from lanistr.tasks import LabelSpec, TaskSpec
from training.metrics import Floats, measure

STRETCHES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
"""How many times as far from their mean expected values are taken to be."""

POWERS = (0.25, 0.5, 0.75, 1.0)


def decide(outputs: Floats, targets: Floats, task: TaskSpec) -> Decision:
    """Return the decision by which held-out cases have the best metric.

    Of several as good the most likely class, then what is closest to it.

    Args:
        outputs: (N, C) of the head, divided by the temperature; (N, 1) for regression.
        targets: (N,) class index or number, none NaN.
        task: whose label they are, and whose metric counts.
    """
    tried = [LIKELIEST, *_others(outputs, task.label, task.metric)]
    if len(tried) == 1:
        return LIKELIEST
    return max(tried, key=lambda each: measure(outputs, targets, task.label, each)[task.metric])


def decided(outputs: Floats, targets: Floats, task: TaskSpec) -> dict[str, float]:
    """Return the figures of `measure` under the best decision; arguments as for `decide`."""
    return measure(outputs, targets, task.label, decide(outputs, targets, task))


def calibrate(
    outputs: Floats,
    targets: Floats,
    task: TaskSpec,
    patterns: Sequence[str] | NDArray[np.str_] = (),
) -> Calibration:
    """Fit temperature and conformal scores, see `Calibration.fit`, and then the decision.

    Args:
        outputs: (N, C) of the head, not divided by anything; (N, 1) for regression.
        targets: (N,) class index or number, none NaN.
        task: whose label they are, and whose metric counts.
        patterns: (N,) what each case brings, see `lanistr.modalities.presence`; or none.
    """
    fitted = Calibration.fit(outputs, targets, task.label, patterns)
    decision = decide(outputs / fitted.temperature, targets, task)
    return fitted.model_copy(update={"decision": decision})


def _others(outputs: Floats, label: LabelSpec, metric: str) -> Iterator[Decision]:
    p = softmax(outputs)
    if metric == "quadratic_kappa":
        mean = float((p @ np.asarray(label.values)).mean())
        halves = [(low + high) / 2 for low, high in pairwise(label.values)]
        for stretch in STRETCHES:
            yield Decision(cuts=_short(mean + (half - mean) / stretch for half in halves))
    elif metric == "macro_f1":
        shares = p.mean(axis=0)
        for power in POWERS:
            yield Decision(weights=_short((shares.max() / shares) ** power))


def _short(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(f"{each:.6g}") for each in values)
