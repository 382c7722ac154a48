"""How sure figures are: percentile intervals over cases drawn again, with replacement.

Cases that share a patient or a product are not independent, so patients and products are drawn,
each with all of its cases; where none are shared, that is to draw cases. There are no strata: the
mix of classes that a split has is itself a matter of chance, and an interval should say so.

Source: Efron 1979; the percentile interval, Efron and Tibshirani 1993, section 13.3; whole groups,
Davison and Hinkley 1997, section 3.8.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanistr.decision import LIKELIEST, Decision
from lanistr.tasks import LabelSpec
from training.metrics import Floats, weighted

ROUNDS = 1000
"""Source: Efron and Tibshirani 1993, section 13.3: about 1000 for the ends of a 95% interval."""

LEVEL = 0.95

_NUMBERS_AT_ONCE = 300_000  # few enough for a processor's cache: twice as fast as millions


def bootstrap(
    outputs: Floats,
    targets: Floats,
    label: LabelSpec,
    groups: NDArray[np.str_],
    decision: Decision = LIKELIEST,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return the 95% interval of each figure of `training.metrics.measure`.

    Draws that do not determine a figure are passed over. One group alone has no interval: NaN.
    Arguments as for `resampled`.
    """
    drawn = resampled(outputs, targets, label, groups, decision, rounds=rounds, seed=seed)
    return {name: percentile_interval(values) for name, values in drawn.items()}


def resampled(
    outputs: Floats,
    targets: Floats,
    label: LabelSpec,
    groups: NDArray[np.str_],
    decision: Decision = LIKELIEST,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, Floats]:
    """Return each figure of `training.metrics.measure` for each draw, (`rounds`,).

    Of cases in the same groups the same are drawn every time, so that what two methods say of them
    can be compared draw by draw. NaN where a draw does not determine a figure; all are with one
    group.

    Args:
        outputs: (N, C) of the head, see `training.metrics.measure`.
        targets: (N,) what came true.
        label: what both mean.
        groups: (N,) the patient or product of each, see `Dataset.groups_of`.
        decision: which class is predicted.
        rounds: how many draws.
        seed: of them.
    """
    figures = weighted(outputs, targets, label, decision)
    if len(np.unique(groups)) < 2:
        return dict.fromkeys(figures(np.ones((1, len(targets)))), np.full(rounds, np.nan))
    drawn = [figures(weights) for weights in draws(groups, rounds=rounds, seed=seed)]
    return {name: np.concatenate([each[name] for each in drawn]) for name in drawn[0]}


def draws(groups: NDArray[np.str_], *, rounds: int = ROUNDS, seed: int = 0) -> Iterator[Floats]:
    """Yield how often each of N cases was drawn: (R, N) at a time, `rounds` rows in all.

    As many groups are drawn as there are, so that draws of unequal groups differ in their cases.
    """
    group_of = pa.array(groups).dictionary_encode().indices.to_numpy()
    number = int(group_of.max()) + 1
    rng = np.random.default_rng(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // len(group_of))
    for start in range(0, rounds, at_once):
        count = min(at_once, rounds - start)
        places = rng.integers(number, size=(count, number))
        places += np.arange(count)[:, None] * number
        counted = np.bincount(places.ravel(), minlength=count * number)
        yield counted.reshape(count, number)[:, group_of].astype(np.float64)


def drawn_again(counts: Mapping[str, int]) -> str:
    """Say what was drawn, of so many ``cases`` of so many ``groups``."""
    if counts["groups"] == counts["cases"]:
        return "cases"
    return f"the cases' {counts['groups']:,} groups (such as patients or products)"


def percentile_interval(values: Floats) -> tuple[float, float]:
    """Return where the middle 95% of the values that are not NaN lie; NaN if there are none."""
    determined = values[~np.isnan(values)]
    if not len(determined):
        return np.nan, np.nan
    low, high = np.quantile(determined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
