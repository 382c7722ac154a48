"""What the engine asks of a backend, and what is asked of each before it serves."""

from collections.abc import Callable, Sequence
from math import isfinite
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lanistr.batch import Arrays
from lanistr.bundle import Bundle
from lanistr.errors import ConfigError
from lanistr.manifest import FUSION, Build, Graph, as_bad_graph, bad_graph
from lanistr.modalities import Modality

Floats = NDArray[np.float32]

FAILS = "the graph cannot be run"
_TRIED_LENGTHS = (16, 1)
"""Sizes of the axes that a graph leaves open, tried when it is loaded."""

TRIED_LENGTH = 128
"""Words, or fused tokens, of a row that is timed, unless the model takes fewer."""

_TURNS = 5
"""So many that a GPU has recorded what it is asked for before the last of them."""

Tokens = Any
"""What an encoder makes of a row, (N, D) float32: an array that has `nbytes`, where the graphs run.

Nobody but its backend looks into it; whoever holds it holds no other row's memory.
"""


class Backend(Protocol):
    """The graphs of one bundle on one device, ready to run from any thread."""

    build: Build
    """The graphs as the bundle's manifest has them."""

    @property
    def ahead(self) -> int:
        """Threads that may well call it at once: one makes inputs ready while another's run."""

    @property
    def device(self) -> str:
        """Where the graphs run, for people."""

    def encode(self, modality: Modality, arrays: Arrays) -> list[Tokens]:
        """Return the projected tokens of R rows, see `lanistr.batch` for the arrays."""

    def average(self, rows: Sequence[Tokens]) -> Tokens:
        """Return the mean of several rows' tokens, of which all have equally many."""

    def fuse(self, cases: Sequence[Sequence[Tokens]]) -> tuple[Floats, Floats]:
        """Fuse cases, padded to the longest of them.

        Args:
            cases: B of them, each of any number of tokens, also none, in pieces.

        Returns:
            the head's outputs (B, C) and the embeddings (B, E).
        """

    def place(self, tokens: Floats) -> Tokens:
        """Return tokens (N, D) as an encoder would have made them."""


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


def words_of(graph: Graph, arrays: Arrays) -> list[int]:
    """Return how many of the tokens that an encoder returns of each row stand for something.

    Args:
        graph: the encoder.
        arrays: what it is given.
    """
    tokens, rows = graph.outputs["tokens"].shape[1], len(next(iter(arrays.values())))
    if isinstance(tokens, int):
        return [tokens] * rows
    words: list[int] = arrays["attention_mask"].sum(axis=1).tolist()
    return words


def try_graphs(backend: Backend, bundle: Bundle) -> None:
    """Run every graph once: better now than in the first request.

    Raises:
        BundleError: one does not compute, or not what the manifest says.
    """
    width, graphs = bundle.manifest.width, backend.build.graphs
    for modality in bundle.task.modalities:
        source = str(bundle.folder / graphs[modality].file)
        for length in _TRIED_LENGTHS:
            with as_bad_graph(source, FAILS):
                (tokens,) = backend.encode(modality, ones(graphs[modality], 1, length))
            shape = tuple(tokens.shape)
            if len(shape) != 2 or shape[1] != width or not isfinite(tokens.sum()):
                raise bad_graph(source, "tokens", shape, f"(N, {width})")
    source = str(bundle.folder / graphs[FUSION].file)
    wanted = (1, bundle.task.label.outputs)
    for n in (0, *_TRIED_LENGTHS):
        with as_bad_graph(source, FAILS):
            output, _ = backend.fuse([[backend.place(np.ones((n, width), np.float32))]])
        if output.shape != wanted or not np.isfinite(output).all():
            raise bad_graph(source, f"output of {n} tokens", output.shape, wanted)


def no_device(device: str, accepted: Sequence[str]) -> ConfigError:
    """Return the error of a device that is not there, with those that are."""
    return ConfigError(
        "no such device here",
        code="no_device",
        field="device",
        seen=device,
        accepted=", ".join(accepted),
    )
