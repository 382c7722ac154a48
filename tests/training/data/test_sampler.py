"""The order of training."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanistr.modalities import Modality
from training.data.sampler import Curriculum, MicroBatch, deal, in_order


def order(
    count: int, size: int, seed: int = 0, epoch: int = 0, textless: float = 0.3
) -> tuple[list[list[int]], np.ndarray]:
    """Return the steps of an epoch over every second case, and all token counts."""
    rng = np.random.default_rng(count)
    tokens = rng.integers(3, 500, 2 * count) * (rng.random(2 * count) >= textless)
    steps = deal(np.arange(0, 2 * count, 2), tokens, size, seed=seed, epoch=epoch)
    return [step.tolist() for step in steps], tokens


def curriculum(cases: int = 40, batch_size: int = 8, seed: int = 0, **changes: Any) -> Curriculum:
    """Cases of which a third lack the text and most lack the picture."""
    rng = np.random.default_rng(cases)
    tokens = rng.integers(3, 100, cases) * (rng.random(cases) >= 0.3)
    amounts = {
        Modality.TEXT: tokens,
        Modality.IMAGE: (rng.random(cases) < 0.1).astype(np.int64),
        Modality.TABULAR: np.ones(cases, np.int64),
    }
    return Curriculum(
        positions=np.arange(cases),
        amounts=amounts,
        batch_size=batch_size,
        seed=seed,
        lengths=tokens,
        costs=10 * amounts[Modality.IMAGE] + 1,
        compared=2 + 10 * amounts[Modality.IMAGE],
        **changes,
    )


def flat(rounds: list[list[MicroBatch]]) -> list[MicroBatch]:
    return [each for turn in rounds for each in turn]


# ---- epochs -------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 9), st.sampled_from([0, 0.3, 1]))
def test_every_case_stands_in_exactly_one_step(count: int, size: int, epoch: int, textless: float):
    steps, _ = order(count, size, epoch=epoch, textless=textless)
    assert sorted(i for step in steps for i in step) == list(range(0, 2 * count, 2))
    assert len(steps) == -(-count // size)
    assert sum(len(step) != size for step in steps) <= 1


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
    steps, tokens = order(2000, 16, textless=0)
    grouped = sum(tokens[step].max() * len(step) for step in steps)
    shuffled = sum(
        tokens[chunk].max() * len(chunk)
        for chunk in np.random.default_rng(0).permutation(np.arange(0, 4000, 2)).reshape(-1, 16)
    )
    assert grouped < 0.65 * shuffled


def test_short_steps_do_not_all_come_first():
    steps, tokens = order(2000, 16, textless=0)
    longest = np.array([tokens[step].max() for step in steps])
    half = len(longest) // 2
    assert abs(longest[:half].mean() - longest[half:].mean()) < 60


def test_in_order_keeps_the_order_and_every_case():
    assert [each.tolist() for each in in_order([5, 3, 9, 1], 3)] == [[5, 3, 9], [1]]
    assert in_order([], 3) == []


# ---- steps and processes ------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 6), st.sampled_from([None, 50, 400]))
def test_the_processes_share_a_steps_cases_out_and_none_is_left_or_counted_twice(
    cases: int, batch_size: int, processes: int, budget: int | None
):
    whole = curriculum(cases, batch_size, processes=processes, budget=budget)
    for step in range(whole.steps_per_epoch):
        rounds = whole.rounds(step)
        assert all(len(turn) == processes for turn in rounds)
        working = [each for each in flat(rounds) if each.weight]
        taken = sorted(i for each in working for i in each.positions.tolist())
        assert len(taken) == len(set(taken)) <= batch_size
        assert sum(each.weight for each in working) == pytest.approx(1)
        # Company has no share in anything.
        for each in flat(rounds):
            assert len(each.positions) >= 1
            assert each.weight or not any(each.shares.values())
        assert sum(each.compared for each in flat(rounds)) == pytest.approx(1)
        for modality in working[0].shares:
            assert sum(each.shares[modality] for each in working) == pytest.approx(1)
    everything = [
        i
        for step in range(whole.steps_per_epoch)
        for each in flat(whole.rounds(step))
        if each.weight
        for i in each.positions.tolist()
    ]
    assert sorted(everything) == list(range(cases))


def test_a_process_walks_its_own_part_from_any_step_on():
    parts = [curriculum(processes=2, process=p, budget=200) for p in range(2)]
    for process, mine in enumerate(parts):
        walked = list(mine.walk(3, 12))
        expected = [turn[process] for step in range(3, 12) for turn in mine.rounds(step)]
        assert [each.positions.tolist() for each in walked] == [
            each.positions.tolist() for each in expected
        ]
        assert [each.seed for each in walked] == [each.seed for each in expected]
        assert [each.step for each in walked if each.last] == list(range(3, 12))


def test_one_two_and_four_processes_cut_a_step_alike_within_a_budget():
    def cut(processes: int) -> list[Any]:
        whole = curriculum(80, 32, processes=processes, budget=500)
        return [
            (each.positions.tolist(), each.seed, each.weight, each.shares)
            for step in range(whole.steps_per_epoch)
            for each in flat(whole.rounds(step))
        ]

    assert len(cut(1)) > 4 * 3 - 1
    assert cut(1) == cut(2) == cut(4)


@given(st.integers(1, 200), st.integers(1, 64), st.integers(1, 4), st.integers(1, 900))
def test_a_micro_batch_keeps_to_the_budget_where_a_case_does(
    cases: int, batch_size: int, processes: int, budget: int
):
    whole = curriculum(cases, batch_size, processes=processes, budget=budget)
    assert whole.costs is not None
    for step in range(whole.steps_per_epoch):
        for each in flat(whole.rounds(step)):
            rows = each.positions
            size = len(rows) * whole.lengths[rows].max() + whole.costs[rows].sum()
            assert size <= budget or len(rows) == 1


def test_micro_batches_are_not_much_smaller_than_the_budget():
    whole = curriculum(200, 64, budget=600)
    assert whole.costs is not None
    sizes = [
        len(each.positions) * whole.lengths[each.positions].max()
        + whole.costs[each.positions].sum()
        for each in whole.walk(0, whole.steps_per_epoch)
    ]
    assert np.mean(sizes) > 250


def test_shares_go_by_what_a_case_brings_and_row_shares_by_its_rows():
    tokens = curriculum().amounts[Modality.TEXT]
    rows = {Modality.TEXT: (tokens > 0).astype(np.int64)}
    parts = flat(curriculum(budget=200, rows=rows).rounds(0))
    assert len(parts) > 1
    notes = [tokens[each.positions] for each in parts]
    said, counted = sum(map(sum, notes)), sum((each > 0).sum() for each in notes)
    for part, each in zip(parts, notes, strict=True):
        assert part.shares[Modality.TEXT] == pytest.approx(each.sum() / said)
        assert part.row_shares == {Modality.TEXT: pytest.approx((each > 0).sum() / counted)}


def test_every_micro_batch_has_a_seed_of_its_own_that_does_not_depend_on_the_processes():
    seeds = [each.seed for each in curriculum(budget=100).walk(0, 50)]
    assert len(set(seeds)) == len(seeds)
    assert seeds != [each.seed for each in curriculum(seed=1, budget=100).walk(0, 50)]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_process_knows_what_the_others_bring_and_in_the_last_round_what_any_round_brought():
    whole = curriculum(60, 30, processes=2, budget=100)
    lonely = 0
    for step in range(whole.steps_per_epoch):
        rounds = whole.rounds(step)
        assert len(rounds) > 1
        brought = [
            {m for m, a in whole.amounts.items() for p in turn if a[p.positions].any()}
            for turn in rounds
        ]
        for turn, there in zip(rounds[:-1], brought, strict=False):
            assert {each.company for each in turn} == {frozenset(there)}
            lonely += sum(not whole.amounts[Modality.IMAGE][each.positions].any() for each in turn)
        assert {each.company for each in rounds[-1]} == {frozenset().union(*brought)}
        assert [each.last for each in flat(rounds)] == [False] * (len(flat(rounds)) - 2) + [
            True
        ] * 2
    assert lonely  # some process lacks pictures


def test_a_process_alone_needs_no_company():
    assert {each.company for each in curriculum(budget=100).walk(0, 5)} == {frozenset()}


def test_a_step_of_fewer_cases_than_processes_lends_them_one():
    whole = curriculum(3, 8, processes=4)
    (turn,) = whole.rounds(0)
    assert [each.weight for each in turn] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert turn[3].positions.tolist() == turn[0].positions.tolist()
