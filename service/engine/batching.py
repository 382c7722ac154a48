"""What is run together: where that was measured to be faster; padded where padding is cheaper.

A run of a graph has a fixed cost, and one for every token, padding included. On a CPU a large model
gains nothing from batching, and a tiny one much of its time; on a GPU both gain, so much that a
short note may well stand beside a longer one. Source: spec/export_and_serving.md, "onnxruntime in a
server".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np

from lanistr.batch import Arrays
from lanistr.manifest import FUSION
from lanistr.modalities import Modality
from service.engine.backends.backend import TRIED_LENGTH, Backend, Tokens, ones, seconds_of
from service.engine.cost import Cost

_ROWS = 4
"""Rows that are tried at first, and times as many after that."""

_GAIN = 0.9
"""Share of the time one by one below which batching pays: a smaller gain is noise."""

_SEEN = 2
"""Times the seconds of one row that so many must take for what a row costs to be seen."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a graph takes.

    Attributes:
        call: fixed seconds of a run.
        token: seconds for every token of every row, padding included.
    """

    call: float
    token: float

    def batches(self, lengths: Sequence[int], most: int) -> Iterator[list[int]]:
        """Yield the positions of rows to be run together, all of them in the shortest time.

        Args:
            lengths: tokens of each row; those run together are padded to the longest of them.
            most: tokens of a run, but for a single longer row.
        """
        if len(lengths) == 1:  # as most often
            yield [0]
            return
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        alike = [list(rows) for _, rows in groupby(order, key=lengths.__getitem__)]
        # The shortest times of the lengths up to each, and where the last of their batches begins.
        seconds, begins = [0.0], [0]
        for end in range(1, len(alike) + 1):
            longest, rows = lengths[alike[end - 1][0]], 0
            ways = []
            for begin in reversed(range(end)):
                rows += len(alike[begin])
                ways.append((seconds[begin] + self.call + self.token * rows * longest, begin))
            shortest, begin = min(ways)
            seconds.append(shortest)
            begins.append(begin)
        end = len(alike)
        while end:
            batch = [i for rows in alike[begins[end] : end] for i in rows]
            size = max(1, most // max(1, lengths[batch[-1]]))
            yield from (batch[start : start + size] for start in range(0, len(batch), size))
            end = begins[end]


def measure(
    backend: Backend, cost: Cost, *, width: int, longest: int, most: int
) -> Mapping[str, Pace]:
    """Return the pace of the graphs that do several rows sooner together: modalities and `fusion`.

    Args:
        backend: ready to run; not used otherwise meanwhile.
        cost: of rows, in tokens.
        width: D.
        longest: words that the model takes at most.
        most: tokens of a run.
    """
    if backend.build.alone:
        return {}
    found: dict[str, Pace] = {}
    for name, graph in backend.build.graphs.items():
        length = min(TRIED_LENGTH, longest)
        run: Callable[[int], object]
        if name == FUSION:
            case = [backend.place(np.zeros((length, width), np.float32))]
            run = partial(_fuse, backend, case)
        else:
            modality, row = Modality(name), ones(graph, 1, length)
            run = partial(_encode, backend, modality, row)
            length = cost.row(modality, {each: array[0] for each, array in row.items()})
        if pace := _pace(run, length, most):
            found[name] = pace
    return found


def _fuse(backend: Backend, case: Sequence[Tokens], rows: int) -> object:
    return backend.fuse([case] * rows)


def _encode(backend: Backend, modality: Modality, row: Arrays, rows: int) -> object:
    return backend.encode(modality, {name: each.repeat(rows, axis=0) for name, each in row.items()})


def _pace(run: Callable[[int], object], length: int, most: int) -> Pace | None:
    """Return the pace of a graph that takes so many rows; None: batching does not pay."""

    def seconds(rows: int) -> float:
        return seconds_of(partial(run, rows))

    alone, rows = seconds(1), _ROWS
    together = seconds(rows)
    if together >= _GAIN * rows * alone:
        return None
    while together < _SEEN * alone and rows * _ROWS * length <= most:
        rows *= _ROWS
        together = seconds(rows)
    a_row = max(0.0, together - alone) / (rows - 1)
    return Pace(call=max(0.0, alone - a_row), token=a_row / length)
