"""What runs the graphs of a bundle. One module a backend; only the chosen one is imported."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lanistr.batch import Arrays
from lanistr.manifest import Build, Graph
from lanistr.modalities import Modality

Floats = NDArray[np.float32]


class Backend(Protocol):
    """The graphs of one bundle, ready to run from any thread."""

    build: Build
    """The graphs as the bundle's manifest has them."""

    @property
    def device(self) -> str:
        """Where the graphs run, for people."""

    def encode(self, modality: Modality, arrays: Arrays) -> Floats:
        """Return the projected tokens (R, N, D) of R rows, see `lanistr.batch` for the arrays."""

    def fuse(self, tokens: Floats, mask: NDArray[Any]) -> tuple[Floats, Floats]:
        """Fuse cases.

        Args:
            tokens: (B, N, D) float32; N may be 0.
            mask: (B, N) bool, true for a token that is there.

        Returns:
            the head's outputs (B, C) and the embeddings (B, D).
        """


TRIED_LENGTH = 128
"""Words, or fused tokens, of a row that is tried, unless the model takes fewer."""

_TURNS = 3


def seconds_of(run: Callable[[], object]) -> float:
    """Return how long something takes when nothing comes between."""
    spent = []
    for _ in range(_TURNS):
        started = perf_counter()
        run()
        spent.append(perf_counter() - started)
    return min(spent)


def ones(graph: Graph, rows: int, length: int) -> dict[str, NDArray[Any]]:
    """Make inputs of an encoder to try it: all ones, so many of what an axis leaves open."""
    return {
        name: np.ones(
            (rows, *(length if isinstance(size, str) else size for size in tensor.shape[1:])),
            dtype=tensor.dtype,
        )
        for name, tensor in graph.inputs.items()
    }
