"""Lanes: who waits for whom."""

import asyncio
import threading

import pytest

from service.engine.lanes import Lanes


@pytest.mark.parametrize("threads", [1, 2, 5])
async def test_a_small_request_passes_any_number_of_large_ones(threads: int):
    lanes, held = Lanes(threads, large=100), threading.Event()
    large = [asyncio.ensure_future(lanes.run(100, held.wait)) for _ in range(20)]
    try:
        assert await asyncio.wait_for(lanes.run(99, lambda: "passed"), 10) == "passed"
    finally:
        held.set()
    assert await asyncio.gather(*large) == [True] * 20
    lanes.shutdown()


async def test_what_the_work_raises_is_raised():
    lanes = Lanes(1, large=100)
    with pytest.raises(ZeroDivisionError):
        await lanes.run(1, lambda: 1 // 0)
    lanes.shutdown()
