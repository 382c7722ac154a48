"""The order of an epoch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.data.sampler import epoch_batches, in_order


def order(
    count: int, size: int, seed: int = 0, epoch: int = 0, textless: float = 0.3
) -> tuple[list[list[int]], np.ndarray]:
    """Return the batches of an epoch over every second case, and all token counts."""
    rng = np.random.default_rng(count)
    tokens = rng.integers(3, 500, 2 * count) * (rng.random(2 * count) >= textless)
    batches = epoch_batches(np.arange(0, 2 * count, 2), tokens, size, seed=seed, epoch=epoch)
    return [batch.tolist() for batch in batches], tokens


@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 9), st.sampled_from([0, 0.3, 1]))
def test_every_case_stands_in_exactly_one_batch(count: int, size: int, epoch: int, textless: float):
    batches, _ = order(count, size, epoch=epoch, textless=textless)
    assert sorted(i for batch in batches for i in batch) == list(range(0, 2 * count, 2))
    assert len(batches) == -(-count // size)
    assert sum(len(batch) != size for batch in batches) <= 1


@given(st.integers(1, 200), st.integers(1, 20), st.integers(0, 9), st.integers(0, 9))
def test_the_order_is_a_pure_function_of_seed_and_epoch(
    count: int, size: int, seed: int, epoch: int
):
    np.random.seed(epoch)
    assert order(count, size, seed, epoch)[0] == order(count, size, seed, epoch)[0]


def test_another_seed_or_epoch_gives_another_order():
    orders = [order(100, 8, seed, epoch)[0] for seed in range(3) for epoch in range(3)]
    assert len({str(each) for each in orders}) == 9


def test_cases_of_like_length_stand_together():
    batches, tokens = order(2000, 16, textless=0)
    grouped = sum(tokens[batch].max() * len(batch) for batch in batches)
    shuffled = sum(
        tokens[chunk].max() * len(chunk)
        for chunk in np.random.default_rng(0).permutation(np.arange(0, 4000, 2)).reshape(-1, 16)
    )
    assert grouped < 0.65 * shuffled


def test_short_batches_do_not_all_come_first():
    batches, tokens = order(2000, 16, textless=0)
    longest = np.array([tokens[batch].max() for batch in batches])
    half = len(longest) // 2
    assert abs(longest[:half].mean() - longest[half:].mean()) < 60


def test_in_order_keeps_the_order_and_every_case():
    assert [each.tolist() for each in in_order([5, 3, 9, 1], 3)] == [[5, 3, 9], [1]]
    assert in_order([], 3) == []
