"""What each modality contributed to a prediction: exact Shapley values.

Source: Shapley 1953; with four players at most, all 16 subsets are evaluated.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

from lanistr.modalities import Modality

Subset = frozenset[Modality]


def subsets(present: Sequence[Modality]) -> list[Subset]:
    """Return all subsets of the modalities present, the empty one first, the whole one last."""
    return [
        frozenset(chosen)
        for size in range(len(present) + 1)
        for chosen in combinations(present, size)
    ]


def shapley(values: Mapping[Subset, float]) -> dict[Modality, float]:
    """Share out the value of the whole among its members.

    Args:
        values: the prediction from every subset of the modalities present, see `subsets`.

    Returns:
        By modality; the sum is the value of all minus the value of none.
    """
    everyone = max(values, key=len)
    n = len(everyone)
    shares: dict[Modality, float] = {}
    for player in Modality:
        if player not in everyone:
            continue
        share = 0.0
        for subset, value in values.items():
            if player in subset:
                continue
            weight = factorial(len(subset)) * factorial(n - len(subset) - 1) / factorial(n)
            share += weight * (values[subset | {player}] - value)
        shares[player] = share
    return shares
