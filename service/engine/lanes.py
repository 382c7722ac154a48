"""Where requests are read and preprocessed: the large ones never take every thread.

A request that takes seconds to read would hold up those behind it, however fair the queue. Its size
is known before anything is done with it, so the large ones wait for one another, in threads of
their own, and the small ones pass.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_MOST = 4
"""Threads of a pool at most. Half of what they do is Python, which one thread runs at a time: more
get no more done, and the threads that run graphs wait for each of them, again and again."""


class Lanes:
    """Two pools of threads.

    Args:
        threads: that small requests share, up to `_MOST`; large ones share half as many others.
        large: bytes from which on a request is large.
    """

    def __init__(self, threads: int, large: int) -> None:
        threads = min(threads, _MOST)
        self._from = large
        self._small = ThreadPoolExecutor(threads, thread_name_prefix="preprocess")
        self._large = ThreadPoolExecutor(
            max(1, threads // 2), thread_name_prefix="preprocess-large"
        )

    async def run(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        """Do the work of a request of so many bytes in a thread."""
        lane = self._large if size >= self._from else self._small
        return await asyncio.get_running_loop().run_in_executor(lane, work, *arguments)

    def shutdown(self) -> None:
        """Finish what was begun and let the threads go."""
        self._small.shutdown()
        self._large.shutdown()
