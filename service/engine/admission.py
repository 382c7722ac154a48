"""Who is let in: so many requests of one bundle, with so much work before them at most."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lanistr.errors import LanistrError


class TooBusyError(LanistrError):
    """No place is free; one should be after `retry_after` seconds."""

    def __init__(self, retry_after: int, inside: int) -> None:
        super().__init__(
            "too many requests are waiting",
            code="too_busy",
            seen=f"{inside} waiting or in progress",
            accepted=f"a retry in {retry_after} s",
        )
        self.retry_after = retry_after


class Admission:
    """The places of one bundle.

    Args:
        places: requests that may be inside at once.
        longest: most seconds of work, as estimated, that may lie ahead of a request that is let in.
        wait: returns how many seconds a given number of requests inside will take.
    """

    def __init__(self, places: int, longest: float, wait: Callable[[int], float]) -> None:
        self._places = places
        self._longest = longest
        self._wait = wait
        self._empty = asyncio.Event()
        self._empty.set()
        self._left = asyncio.Event()
        self.inside = 0
        """Requests that hold a place."""

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places, from the body of a request to its answer.

        Raises:
            TooBusyError: none is free, or those inside have too much before them.
        """
        wait = self._wait(self.inside)
        # Work for requests that left may still run; the next waits for it, though nobody is inside.
        if self.inside >= self._places or (self.inside and wait > self._longest):
            raise TooBusyError(max(1, math.ceil(wait)), self.inside)
        self.inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.inside -= 1
            self._left.set()
            if not self.inside:
                self._empty.set()

    async def next_left(self, seconds: float) -> None:
        """Wait until the next of those inside leaves, for so long at most."""
        self._left.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._left.wait(), seconds)

    async def left(self) -> None:
        """Wait until nobody is inside."""
        await self._empty.wait()
