"""Graphs on onnxruntime, one session a graph, whose threads sleep when they have nothing to do.

Threads that wait by spinning, as onnxruntime's do unless told otherwise, take the cores from those
that read the next request: a quarter of the rate was left of tiny models. The one pool that all
sessions could share cannot be told. And a graph that is done in a moment has one thread, unless
more are measured to be worth waking. docs/log/serving.md has the figures.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import onnxruntime

from lanistr.batch import Arrays
from lanistr.bundle import PROOF, Bundle
from lanistr.manifest import FUSION, Build, Graph, Precision, as_bad_graph
from lanistr.modalities import Modality
from lanistr.proof import allowed, difference, sides
from lanistr.session import open_session
from service.engine.backends.backend import (
    FAILS,
    TRIED_LENGTH,
    Floats,
    Tokens,
    no_device,
    ones,
    seconds_of,
    try_graphs,
    words_of,
)
from service.engine.backends.choice import choose_build

_log = logging.getLogger(__name__)

_GPU, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_FASTEST: Mapping[str, Sequence[Precision]] = {
    "cuda": ("fp16", "fp32", "int8"),
    "cpu": ("int8", "fp32", "fp16"),
}

_MOMENT = 0.005
"""Seconds of a run from which on more threads than one are not put in question."""

_WORTH = 0.8
"""Share of one thread's time below which more are worth it: they take as many cores from others."""


class OnnxBackend:
    """The graphs of one bundle as onnxruntime sessions; arguments as in `open_backend`.

    auto takes int8 on a CPU and fp16 on a GPU, else fp32; and no int8 that the bundle's proof shows
    to compute otherwise here than where it was exported: that depends on the processor.

    Raises:
        BundleError: the bundle has no such graphs, or one cannot be loaded, is not what the
            manifest says, or does not compute.
        ConfigError: this onnxruntime cannot use the device.
    """

    def __init__(
        self, bundle: Bundle, device: str, precision: Literal["auto"] | Precision, threads: int
    ) -> None:
        self._bundle = bundle
        self._threads = threads
        kind, _, number = device.partition(":")
        offered = _GPU in onnxruntime.get_available_providers()
        if kind == "auto":
            kind = "cuda" if offered else "cpu"
        elif kind == "cuda" and not offered:
            raise no_device(device, ["cpu; or a GPU, with onnxruntime-gpu"])
        self._number = int(number or 0)
        self._take(kind, precision)
        # onnxruntime falls back silently from a GPU to the CPU.
        if kind != "cpu" and not self._on_gpu:
            if device != "auto":
                raise no_device(device, ["cpu", "a GPU that onnxruntime can use"])
            self._take("cpu", precision)
        try_graphs(self, bundle)

    def _take(self, kind: str, precision: Literal["auto"] | Precision) -> None:
        """Load the build that suits a kind of device."""
        self._kind = kind
        self._load_build(choose_build(self._bundle, "onnx", precision, _FASTEST[kind]))
        if self.build.precision != "int8" or not (off := self._off()):
            return
        other = self._bundle.build("onnx", "fp32", "int8")
        if precision == "auto" and other != self.build:
            self._load_build(other)
        _log.warning(
            "%s: onnx int8 gives other results on this processor than where it was exported: %s; "
            "using %s",
            *(self._bundle.folder, off, self.build.name),
        )

    def _off(self) -> str:
        """Say which graph is further off the bundle's proof than it was at the export; "": none."""
        if PROOF not in self._bundle.manifest.files:  # of format 1
            return ""
        proof = self._bundle.proof()
        options = onnxruntime.RunOptions()
        if self._kind == "cpu":  # several rows, as long as can be, which nobody may ask for again
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        for name, most in allowed(self.build, self.build.proof).items():
            inputs, wanted = sides(proof, name)
            with as_bad_graph(str(self._bundle.folder / self.build.graphs[name].file), FAILS):
                found = self._sessions[name].run(list(wanted), inputs, options)
            off = max(map(difference, found, wanted.values()))
            if off > most:
                return f"{name} is off by {off:.2g}, accepted: at most {most:.2g}"
        return ""

    def _load_build(self, build: Build) -> None:
        """Open the graphs of a build, in the place of those of another."""
        self.build, self._sessions = build, {}
        graphs, files = self.build.graphs, self._bundle.manifest.files
        # The largest first: a graph takes more memory while it is loaded than afterwards.
        sizes = {name: files[graph.file].bytes for name, graph in graphs.items()}
        names = sorted((*self._bundle.task.modalities, FUSION), key=lambda each: -sizes[each])
        self._sessions = {each: self._load(graphs[each]) for each in names}

    @property
    def ahead(self) -> int:
        """See `Backend.ahead`."""
        return 2 if self._kind == "cuda" else 1

    @property
    def _on_gpu(self) -> bool:
        return all(each.get_providers()[0] == _GPU for each in self._sessions.values())

    @property
    def device(self) -> str:
        """See `Backend.device`."""
        return f"GPU {self._number}" if self._kind == "cuda" else "CPU"

    def encode(self, modality: Modality, arrays: Arrays) -> list[Tokens]:
        """See `Backend.encode`."""
        (tokens,) = self._run(modality, arrays, ["tokens"])
        words = words_of(self.build.graphs[modality], arrays)
        return [each[:n].copy() for each, n in zip(tokens, words, strict=True)]

    def average(self, rows: Sequence[Tokens]) -> Tokens:
        """See `Backend.average`."""
        return np.mean(rows, axis=0)

    def fuse(self, cases: Sequence[Sequence[Tokens]]) -> tuple[Floats, Floats]:
        """See `Backend.fuse`."""
        lengths = [sum(map(len, pieces)) for pieces in cases]
        tokens = np.zeros((len(cases), max(lengths), self._bundle.manifest.width), np.float32)
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        for case, pieces in zip(tokens, cases, strict=True):
            end = 0
            for each in pieces:
                case[end : end + len(each)] = each
                end += len(each)
        inputs = {"tokens": tokens, "mask": mask}
        output, embedding = self._run(FUSION, inputs, ["output", "embedding"])
        return np.asarray(output, np.float32), np.asarray(embedding, np.float32)

    def place(self, tokens: Floats) -> Tokens:
        """See `Backend.place`."""
        return tokens

    def _run(self, name: str, inputs: Arrays, outputs: Sequence[str]) -> Sequence[Any]:
        session = self._sessions[name]
        if self._kind == "cpu":
            found: Sequence[Any] = session.run(outputs, dict(inputs))
            return found
        return run_bound(session, inputs, outputs, self._kind, self._number)

    def _load(self, graph: Graph) -> Any:
        """Open a graph with all threads, or with one where they gain little."""
        session = self._open(graph, self._threads)
        if self._threads == 1 or self._kind != "cpu":
            return session
        words = self._bundle.preprocessor.dimensions().get(Modality.TEXT, {})
        tried = ones(graph, 1, min(TRIED_LENGTH, words.get("max_tokens", TRIED_LENGTH)))
        with as_bad_graph(str(self._bundle.folder / graph.file), FAILS):
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
        on_gpu = [(_GPU, {"device_id": self._number})] if self._kind == "cuda" else []
        with self._bundle.unchanged(graph.file) as file:
            return open_session(file, graph, str(file), options, [*on_gpu, _CPU])


def run_bound(
    session: Any, inputs: Arrays, outputs: Sequence[str], kind: str, number: int
) -> Sequence[Any]:
    """Run a graph whose inputs and outputs stand on its own device: each is copied once.

    Args:
        session: of onnxruntime.
        inputs: by name, in the host's memory.
        outputs: names of those wanted; they come back into the host's memory, where the cache is.
        kind: of device, cpu or cuda.
        number: of the device, among those of its kind.
    """
    binding = session.io_binding()
    for name, array in inputs.items():
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array, kind, number)
        binding.bind_ortvalue_input(name, value)
    for name in outputs:
        binding.bind_output(name, kind, number)
    session.run_with_iobinding(binding)
    found: Sequence[Any] = binding.copy_outputs_to_cpu()
    return found
