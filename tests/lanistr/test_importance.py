"""Shapley values: they add up, and are fair."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanistr.importance import shapley, subsets
from lanistr.modalities import Modality

ALL = tuple(Modality)
values = st.lists(st.floats(-10, 10), min_size=16, max_size=16)
present = st.sets(st.sampled_from(ALL)).map(lambda chosen: [m for m in ALL if m in chosen])


def test_every_subset_is_named_once_from_none_to_all():
    found = subsets(ALL)
    assert len(found) == len(set(found)) == 16
    assert (found[0], found[-1]) == (frozenset(), frozenset(ALL))


@given(present, values)
def test_contributions_add_up_to_the_whole_less_nothing(members: list[Modality], game: list[float]):
    worth = dict(zip(subsets(members), game, strict=False))
    shares = shapley(worth)
    assert list(shares) == members
    assert sum(shares.values()) == pytest.approx(
        worth[frozenset(members)] - worth[frozenset()], abs=1e-9
    )


@given(values)
def test_contributions_are_the_mean_over_all_orders_of_joining(game: list[float]):
    worth = dict(zip(subsets(ALL), game, strict=True))
    orders = list(permutations(ALL))
    for player, share in shapley(worth).items():
        gains = []
        for order in orders:
            before = frozenset(order[: order.index(player)])
            gains.append(worth[before | {player}] - worth[before])
        assert share == pytest.approx(sum(gains) / len(orders), abs=1e-9)


def test_who_adds_nothing_gets_nothing_and_equals_get_equal_shares():
    def worth(members: frozenset[Modality]) -> float:
        return len(members - {Modality.TABULAR}) ** 2

    shares = shapley({each: worth(each) for each in subsets(ALL)})
    assert shares.pop(Modality.TABULAR) == 0
    assert list(shares.values()) == pytest.approx([3, 3, 3])


def test_one_alone_gets_everything():
    alone = {frozenset(): -1.0, frozenset({Modality.IMAGE}): 2.5}
    assert shapley(alone) == {Modality.IMAGE: 3.5}
    assert shapley({frozenset(): 1.0}) == {}
