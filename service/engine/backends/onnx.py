"""Graphs on onnxruntime, one session a graph, whose threads sleep when they have nothing to do.

Threads that wait by spinning, as onnxruntime's do unless told otherwise, take the cores from those
that read the next request: a quarter of the rate was left of tiny models. The one pool that all
sessions could share cannot be told. And a graph that is done in a moment has one thread, unless
more are measured to be worth waking. docs/log.md has the figures.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from lanistr.batch import Arrays
from lanistr.bundle import Bundle
from lanistr.manifest import FUSION, MOST_FALL, Graph, Precision
from lanistr.modalities import Modality
from lanistr.session import blamed, open_session, unfit
from service.engine.backends import TRIED_LENGTH, Floats, ones, seconds_of

_log = logging.getLogger(__name__)

_GPU, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_FASTEST: Mapping[str, tuple[Precision, ...]] = {
    _GPU: ("fp16", "fp32", "int8"),
    _CPU: ("int8", "fp32", "fp16"),
}
_FAILS = "it does not compute"
_MOMENT = 0.005
"""Seconds of a run from which on more threads than one are not put in question."""

_WORTH = 0.8
"""Share of one thread's time below which more are worth it: they take as many cores from others."""

_TRIED_LENGTHS = (16, 1)
"""Sizes of the axes that a graph leaves open, tried when it is loaded."""


def _fit_first(bundle: Bundle, wishes: Sequence[Precision]) -> list[Precision]:
    """Put last what costs too much of the metric, or nobody knows how much; and say so."""
    unfit: set[Precision] = set()
    for build in bundle.manifest.builds:
        known = build.fall is not None and build.fall <= MOST_FALL
        if build.runtime == "onnx" and build.precision != "fp32" and not known:
            unfit.add(build.precision)
            lost = "unknown" if build.fall is None else f"{build.fall:g}"
            _log.warning(
                "%s: %s is passed over unless --precision asks for it or there is no other: "
                "points of %s lost: %s; accepted: at most %g",
                *(bundle.folder, build.name, bundle.manifest.metric or "the metric"),
                *(lost, MOST_FALL),
            )
    return sorted(wishes, key=lambda each: each in unfit)


class OnnxBackend:
    """The graphs of one bundle as onnxruntime sessions.

    Args:
        bundle: whose graphs.
        device: auto takes a GPU if this onnxruntime has one.
        precision: auto takes int8 on a CPU and fp16 on a GPU, where the bundle has it and says
            that it costs no more of the task's metric than `MOST_FALL` points. Else fp32, else
            whatever there is. Asked for by name, it is taken whatever it costs.
        threads: of a graph at most; one graph of a bundle runs at a time.

    Raises:
        BundleError: the bundle has no such graphs, or one cannot be loaded, is not what the
            manifest says, or does not compute.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Literal["auto", "cpu"],
        precision: Literal["auto"] | Precision,
        threads: int,
    ) -> None:
        self._bundle = bundle
        self._threads = threads
        available = onnxruntime.get_available_providers()
        self._providers = [_GPU, _CPU] if device == "auto" and _GPU in available else [_CPU]
        fastest = _FASTEST[self._providers[0]]
        wishes = _fit_first(bundle, fastest) if precision == "auto" else [precision]
        self.build = bundle.build("onnx", *wishes)
        graphs = self.build.graphs
        self._encoders = {each: self._load(graphs[each]) for each in bundle.task.modalities}
        self._fusion = self._load(graphs[FUSION])
        self._try()

    @property
    def device(self) -> str:
        """What really runs the fusion: onnxruntime falls back silently from GPU to CPU."""
        first: str = self._fusion.get_providers()[0]
        return "GPU" if first == _GPU else "CPU"

    def encode(self, modality: Modality, arrays: Arrays) -> Floats:
        """See `Backend.encode`."""
        (tokens,) = self._encoders[modality].run(["tokens"], dict(arrays))
        return np.asarray(tokens, dtype=np.float32)

    def fuse(self, tokens: Floats, mask: NDArray[Any]) -> tuple[Floats, Floats]:
        """See `Backend.fuse`."""
        inputs = {"tokens": tokens, "mask": mask}
        output, embedding = self._fusion.run(["output", "embedding"], inputs)
        return np.asarray(output, np.float32), np.asarray(embedding, np.float32)

    def _load(self, graph: Graph) -> Any:
        """Open a graph with all threads, or with one where they gain little."""
        session = self._open(graph, self._threads)
        if self._threads == 1 or self._providers != [_CPU]:
            return session
        words = self._bundle.preprocessor.dimensions().get(Modality.TEXT, {})
        tried = ones(graph, 1, min(TRIED_LENGTH, words.get("max_tokens", TRIED_LENGTH)))
        with blamed(self._source(graph), _FAILS):
            seconds = seconds_of(partial(session.run, None, tried))
            if seconds >= _MOMENT:
                return session
            alone = self._open(graph, 1)
            worth = seconds < _WORTH * seconds_of(partial(alone.run, None, tried))
        return session if worth else alone

    def _open(self, graph: Graph, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        data = self._bundle.read(graph.file)
        return open_session(data, graph, self._source(graph), options, self._providers)

    def _try(self) -> None:
        """Run every graph once: better now than in the first request."""
        width = self._bundle.manifest.width
        for modality in self._bundle.task.modalities:
            source = self._source(self.build.graphs[modality])
            for length in _TRIED_LENGTHS:
                with blamed(source, _FAILS):
                    tokens = self.encode(modality, ones(self.build.graphs[modality], 1, length))
                if tokens.ndim != 3 or tokens.shape[2] != width or not np.isfinite(tokens).all():
                    raise unfit(source, "tokens", tokens.shape, f"(R, N, {width})")
        source = self._source(self.build.graphs[FUSION])
        wanted = (1, self._bundle.task.label.outputs)
        for n in (0, *_TRIED_LENGTHS):
            with blamed(source, _FAILS):
                output, _ = self.fuse(np.ones((1, n, width), np.float32), np.ones((1, n), np.bool_))
            if output.shape != wanted or not np.isfinite(output).all():
                raise unfit(source, f"output of {n} tokens", output.shape, wanted)

    def _source(self, graph: Graph) -> str:
        return str(self._bundle.folder / graph.file)
