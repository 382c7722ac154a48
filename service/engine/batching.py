"""Whether a graph does several rows quicker together than one by one: measured, not assumed.

On a CPU a large model gains nothing from company, and a tiny one much of its time; on a GPU both
gain. Source: spec/export_and_serving.md, "onnxruntime in a server".
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from lanistr.manifest import FUSION, Graph
from lanistr.modalities import Modality
from service.engine.backends.backend import TRIED_LENGTH, Backend, ones, seconds_of

_ROWS = 4
_GAIN = 0.9
"""Share of the time one by one below which company pays: less is noise."""


def paying(backend: Backend, width: int, longest: int) -> frozenset[str]:
    """Return the graphs that several rows are to be given to at once: modalities, and `fusion`.

    Args:
        backend: ready to run; not used otherwise meanwhile.
        width: D.
        longest: words that the model takes at most.
    """
    graphs = backend.build.graphs
    if backend.build.alone:
        return frozenset()
    length = min(TRIED_LENGTH, longest)
    return frozenset(
        name for name, graph in graphs.items() if _pays(backend, name, graph, width, length)
    )


def _pays(backend: Backend, name: str, graph: Graph, width: int, length: int) -> bool:
    seconds: dict[int, float] = {}
    run: Callable[[], object]
    for rows in (1, _ROWS):
        if name == FUSION:
            shape = (rows, length, width)
            tokens = np.zeros(shape, np.float32)
            run = partial(backend.fuse, tokens, np.ones(shape[:2], np.bool_))
        else:
            run = partial(backend.encode, Modality(name), ones(graph, rows, length))
        seconds[rows] = seconds_of(run)
    return seconds[_ROWS] < _GAIN * _ROWS * seconds[1]
