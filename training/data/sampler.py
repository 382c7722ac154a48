"""The order of an epoch: a pure function of (seed, epoch), batches of cases of like length."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POOL = 16
"""Batches whose cases are sorted by length together: enough to pad little, few enough to mix."""


def epoch_batches(
    positions: NDArray[np.int64],
    tokens: NDArray[Any],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
) -> list[NDArray[np.int64]]:
    """Deal the cases out to batches; each stands in exactly one, the last may be smaller.

    Args:
        positions: the cases.
        tokens: token count of every case of the data set, by position.
        batch_size: cases a batch.
        seed: of the run.
        epoch: from 0.
    """
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(positions)
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(shuffled), _POOL * batch_size):
        pool = shuffled[start : start + _POOL * batch_size]
        lengths = tokens[pool]
        if lengths.any():
            # A case without text fits any batch; a batch of such cases alone would teach no words.
            lengths = np.where(lengths > 0, lengths, rng.choice(lengths[lengths > 0], len(pool)))
        pool = pool[np.argsort(lengths, kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def in_order(positions: Sequence[int], batch_size: int) -> list[NDArray[np.int64]]:
    """Cut the cases into batches as they stand: for evaluation, which keeps every case."""
    array = np.asarray(positions, dtype=np.int64)
    return [array[i : i + batch_size] for i in range(0, len(array), batch_size)]
