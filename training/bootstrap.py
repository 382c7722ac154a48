"""How sure figures are: percentile intervals over cases drawn again, with replacement.

Cases are drawn as if they were independent and without strata: the mix of classes that a split has
is itself a matter of chance, and an interval should say so. Where several cases share a patient or
a product, the true interval is wider.

Source: Efron 1979; the percentile interval, Efron and Tibshirani 1993, section 13.3.
"""

from collections.abc import Iterator

import numpy as np

from lanistr.tasks import LabelSpec
from training.metrics import Floats, weighted

ROUNDS = 1000
"""Source: Efron and Tibshirani 1993, section 13.3: about 1000 for the ends of a 95% interval."""

LEVEL = 0.95

_NUMBERS_AT_ONCE = 300_000  # few enough for a processor's cache: twice as fast as millions


def bootstrap(
    outputs: Floats, targets: Floats, label: LabelSpec, *, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95% interval of each figure of `training.metrics.measure`.

    Draws that do not determine a figure are passed over. One case alone has no interval: NaN.
    """
    drawn = resampled(outputs, targets, label, rounds=rounds, seed=seed)
    return {name: percentile_interval(values) for name, values in drawn.items()}


def resampled(
    outputs: Floats, targets: Floats, label: LabelSpec, *, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Floats]:
    """Return each figure of `training.metrics.measure` for each draw, (`rounds`,).

    Of as many cases the same are drawn every time, so that what two methods say of them can be
    compared draw by draw. NaN where a draw does not determine a figure; all are with one case.
    """
    figures = weighted(outputs, targets, label)
    if len(targets) < 2:
        return dict.fromkeys(figures(np.ones((1, len(targets)))), np.full(rounds, np.nan))
    drawn = [figures(weights) for weights in draws(len(targets), rounds=rounds, seed=seed)]
    return {name: np.concatenate([each[name] for each in drawn]) for name in drawn[0]}


def draws(cases: int, *, rounds: int = ROUNDS, seed: int = 0) -> Iterator[Floats]:
    """Yield how often each case was drawn: (R, `cases`) at a time, `rounds` rows in all."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // cases)
    for start in range(0, rounds, at_once):
        count = min(at_once, rounds - start)
        places = rng.integers(cases, size=(count, cases))
        places += np.arange(count)[:, None] * cases
        counted = np.bincount(places.ravel(), minlength=count * cases)
        yield counted.reshape(count, cases).astype(np.float64)


def percentile_interval(values: Floats) -> tuple[float, float]:
    """Return where the middle 95% of the values that are not NaN lie; NaN if there are none."""
    determined = values[~np.isnan(values)]
    if not len(determined):
        return np.nan, np.nan
    low, high = np.quantile(determined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
