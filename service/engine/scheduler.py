"""Who is next: jobs wait in one queue a bundle, and what waits together runs together.

Whenever a runner is free it takes what is waiting, first in first out, up to a budget. Nothing is
held back to fill a batch: alone, a job runs at once. And nobody waits long for the others of a
batch: it takes no more than what was measured to be done in a moment. On a CPU, where many cost as
much together as one by one, that leaves large models one job at a time; on a GPU, where most of a
run's time is a fixed cost, only what further jobs add to it counts. Several runners, one a device,
work on the same queue: whichever is free takes the next batch, and those that are free at the same
time share what waits.

A job that is alone may be run by the thread that made it ready: waking another, and the loop after
it, takes as long as a tiny model, and longer on a busy machine.
"""

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Generic, TypeVar

from service.metrics import Metrics, TaskMetrics

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")

Run = Callable[[Sequence[JobT]], Sequence[ResultT]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[ResultT]):
    """A result and what it took: waiting and running, in milliseconds."""

    result: ResultT
    queue_ms: float
    inference_ms: float


@dataclass(slots=True)
class RunningMean:
    """A mean that follows its values.

    Attributes:
        memory: weight of what was known before.
        value: 0 before the first.
    """

    memory: float = 0.8
    value: float = 0.0

    def add(self, value: float) -> None:
        """Take a value in; the first one stands for those before it."""
        self.value = self.memory * (self.value or value) + (1 - self.memory) * value


@dataclass(slots=True)
class _Waiter(Generic[JobT, ResultT]):
    job: JobT
    cost: int
    future: asyncio.Future[Outcome[ResultT]]
    since: float = field(default_factory=perf_counter)


@dataclass(frozen=True, slots=True)
class _Runner(Generic[JobT, ResultT]):
    run: Run[JobT, ResultT]
    turn: threading.Lock = field(default_factory=threading.Lock)  # of whoever runs
    thread: ThreadPoolExecutor = field(
        default_factory=partial(ThreadPoolExecutor, 1, thread_name_prefix="runner")
    )


class Scheduler(Generic[JobT, ResultT]):
    """A queue and the threads that work on it, one a runner.

    Args:
        runners: each takes jobs and returns as many results in order; each is called by one thread
            at a time.
        cost: of a job, in the unit of the budget.
        budget: what one call of a runner takes at most, a single dearer job aside.
        moment: seconds that a batch may take, as estimated from those before; or, with `added`,
            that it may take longer than its first job alone.
        added: seconds that a job adds to a batch, infinite if that is not known; None: never known.
        metrics: where queue and batches are noted.
        inline: run in the event loop's own thread, which has nothing else to do meanwhile; only
            where one runner is.
    """

    def __init__(
        self,
        runners: Sequence[Run[JobT, ResultT]],
        cost: Callable[[JobT], int],
        *,
        budget: int,
        moment: float = 0.05,
        added: Callable[[JobT], float] | None = None,
        metrics: TaskMetrics | None = None,
        inline: bool = False,
    ) -> None:
        assert len(runners) == 1 or not inline, "the second would never have its turn"
        self._inline = inline
        self._metrics = metrics or Metrics().task("")
        self._runners = [_Runner(each) for each in runners]
        self._free = 0
        self._cost = cost
        self._budget = budget
        self._waiting = 0
        self._owed = 0
        self._moment = moment
        self._added = added
        self._seconds_a_job = RunningMean()
        self._seconds_a_unit = RunningMean()
        self._queue: deque[_Waiter[JobT, ResultT]] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work, on the running event loop."""
        self._tasks = [asyncio.create_task(self._work(each)) for each in self._runners]

    async def close(self) -> None:
        """Finish what is waiting and stop."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._tasks)
        for each in self._runners:
            each.thread.shutdown()

    def wait(self, inside: int) -> float:
        """Return how many seconds those inside will take, by what others took before them.

        Args:
            inside: how many there are, whether or not their job is known yet.
        """
        coming = max(0, inside - self._waiting)
        known = self._owed * self._seconds_a_unit.value / len(self._runners)
        return known + coming * self.pace

    @property
    def pace(self) -> float:
        """Seconds that a job took lately, as all runners work; 0 before the first."""
        return self._seconds_a_job.value / len(self._runners)

    async def submit(self, job: JobT) -> Outcome[ResultT]:
        """Wait for the result of a job. Cancelled before its turn, the job is never run.

        Raises:
            Exception: whatever a runner raised on this job alone.
        """
        return await self.enqueue(job)

    def enqueue(self, job: JobT) -> asyncio.Future[Outcome[ResultT]]:
        """Return what a job's result will be; as `submit`."""
        assert self._tasks, "not started"
        future: asyncio.Future[Outcome[ResultT]] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(job, self._cost(job), future)
        self._queue.append(waiter)
        self._waiting += 1
        self._owed += waiter.cost
        self._metrics.queued(waiter.cost)
        self._arrived.set()
        return future

    def run_at_once(self, job: JobT) -> Outcome[ResultT] | None:
        """Run a job in the thread that asks, not the loop's, if nobody is before it; else None.

        Raises:
            Exception: whatever a runner raised.
        """
        if self._waiting or not self._tasks:
            return None
        free = (each for each in self._runners if each.turn.acquire(blocking=False))
        if (runner := next(free, None)) is None:
            return None
        try:
            (result,), seconds = self._timed(runner.run, [job], self._cost(job))
        finally:
            runner.turn.release()
        self._metrics.batch(1)
        self._metrics.spent("queue", 0.0)
        if isinstance(result, Exception):
            raise result
        return Outcome(result, 0.0, 1e3 * seconds)

    async def _work(self, runner: _Runner[JobT, ResultT]) -> None:
        self._free += 1
        while not (self._closing and not self._queue):
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._take():
                self._free -= 1
                await self._serve(batch, runner)
                self._free += 1
                if self._inline:  # waiters get their answers, and jobs that came meanwhile join
                    await asyncio.sleep(0)

    def _take(self) -> list[_Waiter[JobT, ResultT]]:
        """Take what is waiting, at least one, up to the budget, without those whose clients left.

        Where several runners are free, which ask in turn, no more than one's share.
        """
        batch: list[_Waiter[JobT, ResultT]] = []
        spent = 0
        pace, longer = self._seconds_a_unit.value, 0.0
        share = math.ceil(len(self._queue) / self._free)
        while self._queue and len(batch) < share:
            first = self._queue[0]
            if not first.future.done():
                if batch:
                    whole = pace * (spent + first.cost)
                    longer += math.inf if self._added is None else self._added(first.job)
                    if spent + first.cost > self._budget or min(whole, longer) > self._moment:
                        break
                batch.append(first)
                spent += first.cost
            else:
                self._settle(first)
            self._queue.popleft()
            self._metrics.left_queue(first.cost)
        return batch

    def _settle(self, waiter: _Waiter[JobT, ResultT]) -> None:
        self._waiting -= 1
        self._owed -= waiter.cost

    async def _serve(
        self, batch: list[_Waiter[JobT, ResultT]], runner: _Runner[JobT, ResultT]
    ) -> None:
        started = perf_counter()
        self._metrics.batch(len(batch))
        for waiter in batch:
            self._metrics.spent("queue", started - waiter.since)
        jobs, cost = [waiter.job for waiter in batch], sum(waiter.cost for waiter in batch)
        run = partial(self._in_turn, runner, jobs, cost)
        if self._inline:
            results, seconds = run()
        else:
            loop = asyncio.get_running_loop()
            results, seconds = await loop.run_in_executor(runner.thread, run)
        for waiter, result in zip(batch, results, strict=True):
            self._settle(waiter)
            if waiter.future.done():  # left while it ran
                continue
            if isinstance(result, Exception):
                waiter.future.set_exception(result)
            else:
                queued = started - waiter.since
                waiter.future.set_result(Outcome(result, 1e3 * queued, 1e3 * seconds))

    def _in_turn(
        self, runner: _Runner[JobT, ResultT], jobs: list[JobT], cost: int
    ) -> tuple[list[ResultT | Exception], float]:
        with runner.turn:
            return self._timed(runner.run, jobs, cost)

    def _timed(
        self, run: Run[JobT, ResultT], jobs: list[JobT], cost: int
    ) -> tuple[list[ResultT | Exception], float]:
        """Run jobs whose turn it is; also return the seconds, from which the next are estimated."""
        started = perf_counter()
        results = _attempt(run, jobs)
        seconds = perf_counter() - started
        self._seconds_a_job.add(seconds / len(jobs))
        self._seconds_a_unit.add(seconds / cost)
        return results, seconds


def _attempt(run: Run[JobT, ResultT], jobs: list[JobT]) -> list[ResultT | Exception]:
    """Run jobs together; where that fails, one by one, so that each fails for itself alone."""
    try:
        results = run(jobs)
        assert len(results) == len(jobs), "one result a job"
        return list(results)
    except Exception as exc:
        if len(jobs) == 1:
            return [exc]
        _log.warning(
            "a batch of %d failed (%s); running its cases one by one", len(jobs), type(exc).__name__
        )
        return [result for job in jobs for result in _attempt(run, [job])]
