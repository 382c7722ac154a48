"""What runs the jobs of one bundle: a thread of this process, or a process of its own."""

from typing import Protocol

from lanistr.manifest import Build
from service.engine.runner import Job, Result
from service.engine.scheduler import Outcome


class Engine(Protocol):
    """Where the jobs of one bundle go."""

    @property
    def build(self) -> Build:
        """The graphs that are run, as the bundle's manifest has them."""

    @property
    def device(self) -> str:
        """Where they run, for people."""

    @property
    def available(self) -> bool:
        """Whether jobs are taken."""

    def start(self) -> None:
        """Begin to work, on the running event loop."""

    async def close(self) -> None:
        """Finish what is waiting and stop."""

    async def submit(self, job: Job) -> Outcome[Result]:
        """Wait for the result of a job. Cancelled before its turn, the job is never run.

        Raises:
            RunnerLostError: what ran it has died.
            Exception: whatever running this job alone raised.
        """

    def run_at_once(self, job: Job) -> Outcome[Result] | None:
        """Run a job in the thread that asks, not the loop's, if nobody is before it; else None.

        Raises:
            Exception: whatever running this job raised.
        """

    def wait(self, inside: int) -> float:
        """Return how many seconds so many requests will take, of those that are inside."""
