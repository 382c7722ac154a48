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


async def test_into_an_empty_house_anyone_is_let_whatever_is_still_done_for_those_who_left():
    admission = Admission(99, 60, wait=lambda inside: 100.0)
    with admission.place(), pytest.raises(TooBusyError), admission.place():
        pass
    with admission.place():
        assert admission.inside == 1


async def test_the_next_who_leaves_is_waited_for_and_not_forever():
    admission = Admission(9, math.inf, wait=lambda inside: 0.0)
    with admission.place():
        await admission.next_left(0.01)
        waiting = asyncio.create_task(admission.next_left(600))
        await asyncio.sleep(0)
    await waiting


async def test_it_tells_when_everyone_has_left():
    admission = Admission(9, math.inf, wait=lambda inside: 0.0)
    await admission.left()
    with admission.place():
        left = asyncio.create_task(admission.left())
        await asyncio.sleep(0)
        assert not left.done()
    await left
