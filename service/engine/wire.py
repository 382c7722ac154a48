"""What a front end and a runner process say to one another: a JSON object a line, arrays in memory.

    front end                                           runner
    {"folder": ..., "version": ...} + a shared file     {"build": "onnx int8", "device": "CPU"}
                                                        {"error": {...}}: it cannot be opened
    {"job": 7, "rows": ..., "said": ..., ...}           {"job": 7, "queue_ms": ..., "wait": ...}
    {"drop": 7}                                         {"job": 7, "error": "RuntimeError"}

A connection is about one bundle. Every job is answered exactly once, also one that was dropped:
until then the block that it lies in is not given to another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from lanistr.batch import Features
from lanistr.modalities import Modality
from service.engine.arena import Memory, padded
from service.engine.runner import Job, Result

Where = tuple[str, Sequence[int], int]
"""Of an array: dtype, shape, offset."""


def line(message: Mapping[str, Any]) -> bytes:
    """Return a message as it is sent."""
    return orjson.dumps(message) + b"\n"


def size_of(job: Job, outputs: int, width: int) -> int:
    """Return how many bytes a job and its result take.

    Args:
        job: one case.
        outputs: C.
        width: D.
    """
    arrays = [
        array for rows in job.features.rows.values() for row in rows for array in row.values()
    ]
    said = (len(job.coalitions()) * outputs, width)
    return sum(padded(array.nbytes) for array in arrays) + sum(padded(4 * each) for each in said)


def write_job(job: Job, outputs: int, width: int, memory: Memory, offset: int) -> dict[str, Any]:
    """Put a job into memory; return the message that says where.

    Args:
        job: one case.
        outputs: C.
        width: D.
        memory: that both sides see.
        offset: of a block of `size_of` bytes.
    """

    def lay(kind: Any, shape: Sequence[int]) -> tuple[Where, NDArray[Any]]:
        nonlocal offset
        where, found = (str(kind), shape, offset), memory.array(str(kind), shape, offset)
        offset += padded(found.nbytes)
        return where, found

    rows: dict[str, list[Any]] = {}
    for modality, found in job.features.rows.items():
        rows[modality.value] = []
        for key, row in zip(job.keys[modality], found, strict=True):
            places: dict[str, Where] = {}
            for name, array in row.items():
                places[name], copy = lay(array.dtype, array.shape)
                copy[...] = array
            rows[modality.value].append([key.hex(), places])
    coalitions, _ = lay("float32", (len(job.coalitions()), outputs))
    embedding, _ = lay("float32", (width,))
    return {"rows": rows, "explain": job.explain, "said": [coalitions, embedding]}


def read_job(message: Mapping[str, Any], memory: Memory) -> Job:
    """Return the job of a message, out of the memory.

    A job that was dropped while it ran reads its arrays to the end: they must not change under it,
    or what is kept of them would be wrong.
    """
    rows = {
        Modality(name): tuple(
            {array: np.array(memory.array(*where)) for array, where in places.items()}
            for _, places in found
        )
        for name, found in message["rows"].items()
    }
    keys = {
        Modality(name): tuple(bytes.fromhex(key) for key, _ in found)
        for name, found in message["rows"].items()
    }
    return Job(Features(rows), keys, message["explain"])


def write_result(result: Result, message: Mapping[str, Any], memory: Memory) -> None:
    """Put the result of a job where its message says."""
    coalitions, embedding = (memory.array(*where) for where in message["said"])
    coalitions[...] = list(result.coalitions.values())
    embedding[...] = result.embedding


def read_result(job: Job, message: Mapping[str, Any], memory: Memory) -> Result:
    """Return the result of a job, out of the memory."""
    coalitions, embedding = (np.array(memory.array(*where)) for where in message["said"])
    by_subset = dict(zip(job.coalitions(), coalitions, strict=True))
    return Result(coalitions[-1], embedding, by_subset)
