"""Cases and results through memory that two sides see."""

import asyncio
import os

import numpy as np
import orjson
import pytest

from lanistr.batch import Features
from lanistr.modalities import Modality
from service.engine.arena import ALIGNMENT, Blocks, Memory, shared_file
from service.engine.runner import Job, Result
from service.engine.wire import line, read_job, read_result, size_of, write_job, write_result

OUTPUTS, WIDTH = 5, 64


@pytest.fixture
def sides():
    file = shared_file(2**20)
    yield Memory(file), Memory(file)
    os.close(file)


def made(explain=False):
    rng = np.random.default_rng(0)
    rows = {
        Modality.TEXT: ({"token_ids": np.arange(17)}, {"token_ids": np.arange(3)}),
        Modality.IMAGE: ({"pixels": rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)},),
        Modality.TABULAR: (
            {"numbers": rng.random(4, np.float32), "categories": np.arange(0)},
        ),
    }  # fmt: skip
    keys = {each: tuple(rng.bytes(16) for _ in found) for each, found in rows.items()}
    return Job(Features(rows), keys, explain)


@pytest.mark.parametrize("explain", [False, True])
def test_a_job_and_its_result_come_out_as_they_went_in(sides, explain):
    front, runner = sides
    job = made(explain)
    offset = 10 * ALIGNMENT
    message = orjson.loads(line(write_job(job, OUTPUTS, WIDTH, front, offset)))
    found = read_job(message, runner)
    assert found.explain is explain
    assert found.keys == job.keys
    assert found.coalitions() == job.coalitions()
    for modality, rows in job.features.rows.items():
        for ours, theirs in zip(rows, found.features.rows[modality], strict=True):
            assert list(ours) == list(theirs)
            for name in ours:
                assert ours[name].dtype == theirs[name].dtype
                np.testing.assert_array_equal(ours[name], theirs[name])

    rng = np.random.default_rng(1)
    said = {each: rng.random(OUTPUTS, np.float32) for each in job.coalitions()}
    whole = Result(said[job.coalitions()[-1]], rng.random(WIDTH, np.float32), said)
    write_result(whole, message, runner)
    result = read_result(job, message, front)
    np.testing.assert_array_equal(result.output, whole.output)
    np.testing.assert_array_equal(result.embedding, whole.embedding)
    assert list(result.coalitions) == list(said)
    assert all(np.array_equal(result.coalitions[each], said[each]) for each in said)


def test_a_job_keeps_to_its_block(sides):
    front, _ = sides
    whole = front.array("uint8", (2**20,), 0)
    whole[...] = 7
    job = made(explain=True)
    size, offset = size_of(job, OUTPUTS, WIDTH), 5 * ALIGNMENT
    write_job(job, OUTPUTS, WIDTH, front, offset)
    assert (whole[:offset] == 7).all()
    assert (whole[offset + size :] == 7).all()


def test_what_was_read_does_not_change_when_the_block_is_given_to_another(sides):
    front, runner = sides
    job = made()
    read = read_job(write_job(job, OUTPUTS, WIDTH, front, 0), runner)
    front.array("uint8", (2**20,), 0)[...] = 255
    (note, _) = read.features.rows[Modality.TEXT]
    np.testing.assert_array_equal(note["token_ids"], np.arange(17))


async def test_blocks_do_not_overlap_and_come_back():
    blocks = Blocks(100 * ALIGNMENT)
    rng = np.random.default_rng(0)
    held = {}
    for _ in range(2000):
        if held and rng.random() < 0.5:
            offset = list(held)[rng.integers(len(held))]
            blocks.give(offset, held.pop(offset))
            continue
        size = int(rng.integers(0, 9 * ALIGNMENT))
        try:
            offset = await asyncio.wait_for(blocks.take(size), 0.001)
        except TimeoutError:
            continue
        end = offset + size
        assert offset % ALIGNMENT == 0
        assert end <= 100 * ALIGNMENT
        assert all(end <= other or offset >= other + its for other, its in held.items())
        held[offset] = max(1, size)
    for offset, size in held.items():
        blocks.give(offset, size)
    assert await blocks.take(100 * ALIGNMENT) == 0


async def test_whoever_waits_for_a_block_is_served_in_turn_or_sent_away():
    blocks = Blocks(4 * ALIGNMENT)
    first = await blocks.take(3 * ALIGNMENT)
    large = asyncio.create_task(blocks.take(4 * ALIGNMENT))
    await asyncio.sleep(0)
    small = asyncio.create_task(blocks.take(ALIGNMENT))  # would fit, but is not first
    await asyncio.sleep(0)
    assert not small.done()
    blocks.give(first, 3 * ALIGNMENT)
    assert await large == 0
    blocks.close()
    with pytest.raises(ConnectionResetError):
        await small
