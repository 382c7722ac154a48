"""Who is let in and who is sent away."""

import asyncio
import math

import pytest

from service.engine.admission import Admission, TooBusyError


async def test_a_full_house_says_when_to_come_back():
    admission = Admission(3, math.inf, wait=lambda inside: 4.2 * inside)
    with admission.place(), admission.place(), admission.place():
        with pytest.raises(TooBusyError) as caught, admission.place():
            pass
        assert caught.value.retry_after == 13
        assert caught.value.code == "too_busy"
    with admission.place():  # the others left
        pass


async def test_nobody_is_let_in_before_whom_there_is_too_much_work():
    admission = Admission(99, 60, wait=lambda inside: 25.0 * inside)
    with admission.place(), admission.place():
        with admission.place():  # 50 seconds before it
            assert admission.inside == 3
            with pytest.raises(TooBusyError) as caught, admission.place():
                pass
        assert caught.value.retry_after == 75


async def test_it_tells_when_everyone_has_left():
    admission = Admission(9, math.inf, wait=lambda inside: 0.0)
    await admission.left()
    with admission.place():
        left = asyncio.create_task(admission.left())
        await asyncio.sleep(0)
        assert not left.done()
    await left
