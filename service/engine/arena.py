"""Memory that two processes share: one deals it out and writes cases, the other reads them there.

Neither copies what the other wrote, and nothing is pickled.
"""

import asyncio
import mmap
import os
import tempfile
from bisect import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes to whose multiples blocks and arrays are laid: a line of the processor's cache."""


def shared_file(size: int) -> int:
    """Return a file descriptor of so many bytes of memory, which is taken as it is written to."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("lanistr-cases")
    else:
        with tempfile.TemporaryFile() as nameless:
            file = os.dup(nameless.fileno())
    os.ftruncate(file, size)
    return file


class Memory:
    """Bytes of a shared file as arrays.

    Args:
        file: descriptor; may be closed afterwards.
    """

    def __init__(self, file: int) -> None:
        self._bytes = mmap.mmap(file, 0)

    def array(self, kind: str, shape: Sequence[int], offset: int) -> NDArray[Any]:
        """Return the array that lies at an offset; what is written into it both sides see.

        Args:
            kind: dtype, such as float32.
            shape: of the array.
            offset: in bytes.

        Raises:
            ValueError: it would reach beyond the end.
        """
        found: NDArray[Any] = np.ndarray(tuple(shape), kind, self._bytes, offset)
        return found


class Blocks:
    """Deals out a range of bytes: the first gap that is wide enough, so that little is touched.

    Args:
        size: bytes in all.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._gaps = [(0, size)]
        self._turn = asyncio.Lock()
        self._given = asyncio.Event()
        self._closed = False

    async def take(self, size: int) -> int:
        """Return the offset of a block, once there is one; who asks first is served first.

        Args:
            size: in bytes, at most that of all.

        Raises:
            ConnectionResetError: they were closed.
        """
        assert size <= self.size
        async with self._turn:
            while (found := self._find(size)) is None and not self._closed:
                self._given.clear()
                await self._given.wait()
        if found is None or self._closed:
            raise ConnectionResetError
        return found

    def close(self) -> None:
        """Fail those who wait for a block."""
        self._closed = True
        self._given.set()

    def give(self, offset: int, size: int) -> None:
        """Give a block back."""
        start, end = offset, offset + padded(size)
        i = bisect(self._gaps, (start, end))
        if i < len(self._gaps) and self._gaps[i][0] == end:
            end = self._gaps.pop(i)[1]
        if i and self._gaps[i - 1][1] == start:
            start = self._gaps.pop(i - 1)[0]
            i -= 1
        self._gaps.insert(i, (start, end))
        self._given.set()

    def _find(self, size: int) -> int | None:
        wanted = padded(size)
        for i, (start, end) in enumerate(self._gaps):
            if end - start >= wanted:
                self._gaps[i : i + 1] = [(start + wanted, end)] if end - start > wanted else []
                return start
        return None


def padded(size: int) -> int:
    """Return a size rounded up to whole lines; nothing takes a line as well."""
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT
