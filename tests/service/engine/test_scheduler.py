"""The queue: what runs together, who fails, who is dropped."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from service.engine.scheduler import Scheduler


class Runner:
    """Doubles numbers; runs only while its gate is open; cannot stand 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, jobs: Sequence[int]) -> list[int]:
        self.batches.append(list(jobs))
        self.entered.set()
        assert self.gate.wait(timeout=30)
        if 13 in jobs:
            raise ValueError("13")
        return [2 * job for job in jobs]

    async def busy(self) -> None:
        """Wait until a batch is running."""
        assert await asyncio.to_thread(self.entered.wait, 30)


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
async def scheduler(runner: Runner) -> AsyncIterator[Scheduler[int, int]]:
    scheduler = Scheduler([runner], lambda job: job, budget=100, moment=math.inf)
    scheduler.start()
    yield scheduler
    runner.gate.set()
    await scheduler.close()


async def hold(scheduler: Scheduler[int, int], runner: Runner) -> "asyncio.Task[object]":
    """Keep the runner busy with a job until its gate opens."""
    runner.gate.clear()
    first = asyncio.create_task(scheduler.submit(1))
    await runner.busy()
    return first


async def test_alone_a_job_runs_at_once(scheduler, runner):
    outcome = await scheduler.submit(5)
    assert outcome.result == 10
    assert outcome.queue_ms >= 0
    assert outcome.inference_ms >= 0
    assert runner.batches == [[5]]


async def test_where_nobody_is_before_it_a_job_is_run_by_the_thread_that_asks(scheduler, runner):
    outcome = await asyncio.to_thread(scheduler.run_at_once, 5)
    assert (outcome.result, outcome.queue_ms) == (10, 0)
    assert (await scheduler.submit(6)).result == 12
    assert runner.batches == [[5], [6]]


async def test_nobody_is_run_before_those_who_wait_nor_beside_who_runs(scheduler, runner):
    first = await hold(scheduler, runner)
    later = asyncio.create_task(scheduler.submit(2))
    await asyncio.sleep(0)
    assert scheduler.run_at_once(3) is None
    runner.gate.set()
    await asyncio.gather(first, later)
    runner.gate.clear()
    runner.entered.clear()
    alone = asyncio.create_task(asyncio.to_thread(scheduler.run_at_once, 4))
    await runner.busy()
    assert scheduler.run_at_once(5) is None
    waiting = asyncio.create_task(scheduler.submit(6))
    await asyncio.sleep(0.05)
    assert runner.batches == [[1], [2], [4]]
    runner.gate.set()
    assert ((await alone).result, (await waiting).result) == (8, 12)


async def test_a_poisoned_job_that_is_run_at_once_fails_for_itself_alone(scheduler):
    with pytest.raises(ValueError, match="13"):
        scheduler.run_at_once(13)
    assert scheduler.run_at_once(4).result == 8


async def test_what_waits_together_runs_together(scheduler, runner):
    first = await hold(scheduler, runner)
    later = [asyncio.create_task(scheduler.submit(job)) for job in (2, 3, 4)]
    await asyncio.sleep(0)
    runner.gate.set()
    outcomes = await asyncio.gather(first, *later)
    assert [each.result for each in outcomes] == [2, 4, 6, 8]
    assert runner.batches == [[1], [2, 3, 4]]


async def test_a_batch_keeps_to_the_budget_and_to_the_order(scheduler, runner):
    first = await hold(scheduler, runner)
    later = [asyncio.create_task(scheduler.submit(job)) for job in (60, 40, 1, 500, 2)]
    await asyncio.sleep(0)
    runner.gate.set()
    await asyncio.gather(first, *later)
    assert runner.batches == [[1], [60, 40], [1], [500], [2]]


async def test_a_batch_takes_no_more_than_a_moment(runner, monkeypatch):
    ticks = iter(range(0, 1000, 1))
    monkeypatch.setattr("service.engine.scheduler.perf_counter", lambda: float(next(ticks)))
    scheduler = Scheduler([runner], lambda job: 1, budget=100, moment=2.5)
    scheduler.start()
    await scheduler.submit(1)  # a second a job by that clock
    runner.entered.clear()
    runner.gate.clear()
    first = asyncio.create_task(scheduler.submit(2))
    await runner.busy()
    later = [asyncio.create_task(scheduler.submit(job)) for job in (3, 4, 5)]
    await asyncio.sleep(0)
    runner.gate.set()
    await asyncio.gather(first, *later)
    await scheduler.close()
    assert runner.batches == [[1], [2], [3, 4], [5]]


async def test_where_company_adds_little_a_batch_is_as_large_as_it_may_be_however_long_one_takes(
    runner, monkeypatch
):
    seconds = iter(range(0, 1000, 5))
    monkeypatch.setattr("service.engine.scheduler.perf_counter", lambda: float(next(seconds)))
    scheduler = Scheduler([runner], lambda job: 1, budget=100, moment=2.5, added=lambda job: 0.5)
    scheduler.start()
    await scheduler.submit(0)  # takes 5 seconds, twice the moment
    runner.entered.clear()
    first = await hold(scheduler, runner)
    waiting = [asyncio.create_task(scheduler.submit(job)) for job in range(8)]
    await asyncio.sleep(0)
    runner.gate.set()
    await asyncio.gather(first, *waiting)
    assert runner.batches == [[0], [1], [0, 1, 2, 3, 4, 5], [6, 7]]
    await scheduler.close()


async def test_a_poisoned_job_fails_alone(scheduler, runner):
    first = await hold(scheduler, runner)
    later = [asyncio.create_task(scheduler.submit(job)) for job in (2, 13, 4)]
    await asyncio.sleep(0)
    runner.gate.set()
    _, good, bad, other = await asyncio.gather(first, *later, return_exceptions=True)
    assert (good.result, other.result) == (4, 8)
    assert isinstance(bad, ValueError)
    assert runner.batches == [[1], [2, 13, 4], [2], [13], [4]]
    assert (await scheduler.submit(7)).result == 14


async def test_whoever_left_is_dropped_before_it_costs(scheduler, runner):
    first = await hold(scheduler, runner)
    later = [asyncio.create_task(scheduler.submit(job)) for job in (2, 3, 4)]
    await asyncio.sleep(0)
    later[1].cancel()
    await asyncio.sleep(0)
    runner.gate.set()
    outcomes = await asyncio.gather(first, *later, return_exceptions=True)
    assert isinstance(outcomes[2], asyncio.CancelledError)
    assert runner.batches == [[1], [2, 4]]


async def test_whoever_leaves_while_it_runs_harms_nobody(scheduler, runner):
    first = await hold(scheduler, runner)
    first.cancel()
    await asyncio.sleep(0)
    runner.gate.set()
    assert (await scheduler.submit(2)).result == 4


async def test_the_time_to_wait_comes_from_what_jobs_took(scheduler, runner, monkeypatch):
    ticks = iter(range(0, 1000, 5))
    monkeypatch.setattr("service.engine.scheduler.perf_counter", lambda: float(next(ticks)))
    assert scheduler.wait(3) == 0  # nobody knows yet
    await scheduler.submit(2)  # 5 seconds by that clock
    assert scheduler.wait(3) == 15


async def test_the_time_to_wait_counts_what_waits_by_its_cost(scheduler, runner, monkeypatch):
    ticks = iter(range(0, 10_000, 10))
    monkeypatch.setattr("service.engine.scheduler.perf_counter", lambda: float(next(ticks)))
    await scheduler.submit(1)  # 10 seconds a unit by that clock
    runner.gate.clear()
    runner.entered.clear()
    first = asyncio.create_task(scheduler.submit(2))
    await runner.busy()
    assert scheduler.wait(2) == 30  # 20 seconds of work, and 10 for another whose job is not known
    second = asyncio.create_task(scheduler.submit(5))
    await asyncio.sleep(0)
    assert scheduler.wait(2) == 70
    second.cancel()
    runner.gate.set()
    await first
    await asyncio.sleep(0.01)
    assert scheduler.wait(0) == 0  # whoever left owes nothing


async def test_closing_finishes_what_waits(runner):
    scheduler = Scheduler([runner], lambda job: job, budget=100)
    scheduler.start()
    first = await hold(scheduler, runner)
    later = asyncio.create_task(scheduler.submit(2))
    await asyncio.sleep(0)
    closing = asyncio.create_task(scheduler.close())
    await asyncio.sleep(0)
    runner.gate.set()
    await closing
    assert [(await each).result for each in (first, later)] == [2, 4]


# ---- several runners ----------------------------------------------------------------------------


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Scheduler[int, int], list[Runner]]]:
    """Two runners at one queue."""
    runners = [Runner(), Runner()]
    scheduler = Scheduler(runners, lambda job: job, budget=100, moment=math.inf)
    scheduler.start()
    await asyncio.sleep(0)  # until both wait
    yield scheduler, runners
    for each in runners:
        each.gate.set()
    await scheduler.close()


async def test_while_one_runner_is_busy_the_other_takes_the_next(pair):
    scheduler, (first, second) = pair
    held = await hold(scheduler, first)
    assert (await scheduler.submit(2)).result == 4
    assert (await scheduler.submit(3)).result == 6
    assert second.batches == [[2], [3]]
    first.gate.set()
    assert (await held).result == 2


async def test_runners_that_are_free_share_what_waits(pair):
    scheduler, runners = pair
    outcomes = await asyncio.gather(*(scheduler.submit(job) for job in (1, 2, 3, 4, 5)))
    assert [each.result for each in outcomes] == [2, 4, 6, 8, 10]
    assert [each.batches for each in runners] == [[[1, 2, 3]], [[4, 5]]]


async def test_what_fails_on_one_runner_fails_alone(pair):
    scheduler, _ = pair
    jobs = (scheduler.submit(job) for job in (1, 13, 3, 4))
    found = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(found.pop(1), ValueError)
    assert [each.result for each in found] == [2, 6, 8]


async def test_two_runners_halve_the_time_to_wait(monkeypatch):
    ticks = iter(range(0, 10_000, 10))
    monkeypatch.setattr("service.engine.scheduler.perf_counter", lambda: float(next(ticks)))
    scheduler = Scheduler([Runner(), Runner()], lambda job: job, budget=100)
    scheduler.start()
    await scheduler.submit(1)  # 10 seconds by that clock
    assert (scheduler.pace, scheduler.wait(3)) == (5, 15)
    await scheduler.close()


async def test_closing_finishes_what_every_runner_has(pair):
    scheduler, runners = pair
    held = [await hold(scheduler, each) for each in runners]
    waiting = [asyncio.create_task(scheduler.submit(job)) for job in (2, 3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(scheduler.close())
    await asyncio.sleep(0)
    for each in runners:
        each.gate.set()
    await closing
    assert [(await each).result for each in (*held, *waiting)] == [2, 2, 4, 6]


async def test_a_job_that_is_alone_is_run_at_once_by_whichever_runner_is_free(pair):
    scheduler, (first, second) = pair
    first.gate.clear()
    alone = asyncio.create_task(asyncio.to_thread(scheduler.run_at_once, 1))
    await first.busy()
    assert scheduler.run_at_once(2).result == 4
    assert second.batches == [[2]]
    first.gate.set()
    assert (await alone).result == 2
