"""TorchScript graphs on torch: on a CPU, or on a GPU, in bf16 and by CUDA graphs.

TorchScript is a program: this backend is for bundles of people you trust.

A graph was recorded on a CPU, which it names where it makes tensors, with its weights as constants.
Both are set right once, when it is loaded. Sizes, which it reckons with in tensors without an axis,
stay on the host: read from a GPU they would make it wait, and could not be recorded.

On a GPU a small model spends its time asking for one operation after the other. A shape of inputs
that comes again is therefore recorded as a CUDA graph, and asked for as a whole from then on. What
encoders make stays on the GPU until it is fused.
"""

import logging
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lanistr.batch import Arrays
from lanistr.bundle import Bundle
from lanistr.manifest import FUSION, Build, Graph, Precision, as_bad_graph
from lanistr.modalities import Modality
from service.engine.backends.backend import Floats, Tokens, no_device, try_graphs, words_of
from service.engine.backends.choice import choose_build

Compute = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
"""A graph: inputs in the manifest's order to outputs in float32, on one device."""

_WEIGHED = frozenset({"aten::linear", "aten::matmul"})
"""Operations that autocast does in bf16 everywhere: a constant of these alone is kept so."""

_COMES_AGAIN = 3
"""Times that a shape comes before it is recorded: recording takes as long as some runs."""

_MOST_RECORDED = 256
"""Shapes that are recorded of a graph; each holds memory for its inputs and outputs."""

_MOST_ROWS = 8
"""Rows of a shape that is recorded."""

_WORDS = 16
"""Words, or fused tokens, that recorded lengths are apart at the least."""

_RECORDING = threading.Lock()
"""One thread at a time records."""

_log = logging.getLogger(__name__)


class TorchBackend:
    """The graphs of one bundle as TorchScript; arguments as in `open_backend`.

    auto takes bf16 on a GPU that computes in it, else fp32.

    Raises:
        BundleError: the bundle has no such graphs, or one cannot be loaded, is not what the
            manifest says, or does not compute.
        ConfigError: torch cannot use the device.
    """

    def __init__(
        self, bundle: Bundle, device: str, precision: Literal["auto"] | Precision, threads: int
    ) -> None:
        self._device = _found(device)
        on_gpu = self._device.type == "cuda"
        # Older ones do bf16 by way of float32.
        bf16 = on_gpu and torch.cuda.get_device_capability(self._device) >= (8, 0)
        fastest: Sequence[Precision] = ("bf16", "fp32") if bf16 else ("fp32", "bf16")
        self.build = choose_build(bundle, "torchscript", precision, fastest)
        graphs = self.build.graphs
        self._names = {name: tuple(graph.inputs) for name, graph in graphs.items()}
        self._nothing = torch.empty((0, bundle.manifest.width), device=self._device)
        computes = load_graphs(bundle, self.build, self._device)
        self._graphs: _OnCpu | _OnGpu = (
            _OnGpu(self._device, bundle, graphs, computes) if on_gpu else _OnCpu(threads, computes)
        )
        try_graphs(self, bundle)

    @property
    def device(self) -> str:
        """See `Backend.device`."""
        return f"GPU {self._device.index}" if self._device.type == "cuda" else "CPU"

    @property
    def ahead(self) -> int:
        """See `Backend.ahead`."""
        return 2 if self._device.type == "cuda" else 1

    def encode(self, modality: Modality, arrays: Arrays) -> list[Tokens]:
        """See `Backend.encode`."""
        words = words_of(self.build.graphs[modality], arrays)
        inputs = [self._graphs.ready(arrays[name]) for name in self._names[modality]]
        with self._graphs.turn():
            (tokens,) = self._graphs.run(modality, inputs)
            return [each[:n].clone() for each, n in zip(tokens, words, strict=True)]

    def average(self, rows: Sequence[Tokens]) -> Tokens:
        """See `Backend.average`."""
        with self._graphs.turn():
            return torch.stack([each.to(self._device) for each in rows]).mean(dim=0)

    def fuse(self, cases: Sequence[Sequence[Tokens]]) -> tuple[Floats, Floats]:
        """See `Backend.fuse`."""
        lengths = np.array([sum(map(len, pieces)) for pieces in cases])
        mask = self._graphs.ready(np.arange(lengths.max()) < lengths[:, None])
        with self._graphs.turn():
            # Another device may have encoded some of it.
            joined = [torch.cat([self._nothing, *(e.to(self._device) for e in c)]) for c in cases]
            given = {"tokens": pad_sequence(joined, batch_first=True), "mask": mask}
            found = self._graphs.run(FUSION, [given[name] for name in self._names[FUSION]])
            output, embedding = (each.cpu().numpy() for each in found)
        return output, embedding

    def place(self, tokens: Floats) -> Tokens:
        """See `Backend.place`."""
        return torch.from_numpy(tokens).to(self._device)


# ---- graphs -------------------------------------------------------------------------------------


def load_graphs(bundle: Bundle, build: Build, device: torch.device) -> dict[str, Compute]:
    """Read the graphs of a build onto a device, by name.

    Raises:
        BundleError: torch cannot load one.
    """
    torch.backends.cudnn.allow_tf32 = False  # which is no fp32
    computes: dict[str, Compute] = {}
    for name, graph in build.graphs.items():
        whole = build.precision == "fp32" or name in build.whole
        with bundle.unchanged(graph.file) as file, as_bad_graph(str(file), "torch cannot load it"):
            module = load_graph(file, device, narrow=not whole)
        computes[name] = _computing(module, device, narrow=not whole)
    return computes


def load_graph(file: Path, device: torch.device, *, narrow: bool) -> torch.jit.ScriptModule:
    """Read a graph that was recorded on a CPU, to be run on a device.

    Args:
        file: the graph's.
        device: that its inputs will stand on.
        narrow: it will run under bf16 autocast; the weights that this would cast in every run are
            cast here, which changes no result.
    """
    with warnings.catch_warnings():
        # Deprecated in favour of torch.export, whose programs libtorch alone cannot load.
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        module = torch.jit.load(file, map_location="cpu").eval()
    for node in module.graph.findAllNodes("prim::Constant"):
        if node.output().type().kind() == "DeviceObjType":
            node.s_("value", str(device))
        elif node.hasAttribute("value") and node.kindOf("value") == "t" and node.t("value").dim():
            weights = node.t("value")
            users = {use.user.kind() for use in node.output().uses()}
            fits = narrow and weights.dtype == torch.float32 and users <= _WEIGHED
            moved = weights.to(device, torch.bfloat16 if fits else weights.dtype)
            node.t_("value", moved)
            node.output().inferTypeFrom(moved)
    return module


def _computing(module: torch.jit.ScriptModule, device: torch.device, *, narrow: bool) -> Compute:
    def compute(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # What torch makes of a graph in its first runs takes longer than they do, and gains
        # nothing; in bf16 it also casts otherwise. The export measures likewise.
        with (
            torch.inference_mode(),
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
            torch.autocast(device.type, torch.bfloat16, enabled=narrow, cache_enabled=False),
        ):
            found = module(*inputs)
            several = found if isinstance(found, tuple) else (found,)
            return tuple(each.float() for each in several)

    return compute


# ---- devices ------------------------------------------------------------------------------------


def _found(device: str) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    found = torch.device(device)
    if found.type == "cpu":
        return found
    number = found.index or 0
    if number >= gpus:
        raise no_device(device, ["cpu", *(f"cuda:{each}" for each in range(gpus))])
    return torch.device("cuda", number)


class _OnCpu:
    """Runs graphs in the memory that their inputs stand in."""

    def __init__(self, threads: int, computes: Mapping[str, Compute]) -> None:
        torch.set_num_threads(threads)  # of each thread that calls
        self._computes = computes

    def ready(self, array: NDArray[Any]) -> Tensor:
        """Return an input as graphs are given it."""
        return torch.from_numpy(array)

    def turn(self) -> AbstractContextManager[None]:
        """Return what is to be entered by whoever runs something."""
        return torch.inference_mode()

    def run(self, name: str, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs of a graph."""
        return self._computes[name](inputs)


class _OnGpu:
    """Runs graphs on a GPU, one at a time, in a stream of their own."""

    def __init__(
        self,
        device: torch.device,
        bundle: Bundle,
        graphs: Mapping[str, Graph],
        computes: Mapping[str, Compute],
    ) -> None:
        self._stream = torch.cuda.Stream(device)
        pool = torch.cuda.graph_pool_handle()
        words = bundle.preprocessor.dimensions().get(Modality.TEXT, {}).get("max_tokens")
        longest: Mapping[str, int | None] = {Modality.TEXT: words}
        self._recorders = {
            name: Recorder(graph, computes[name], self._stream, pool, longest.get(name))
            for name, graph in graphs.items()
        }
        self._one = threading.Lock()

    def ready(self, array: NDArray[Any]) -> Tensor:
        """Return an input in memory that is pinned, which the GPU reads by itself."""
        return torch.from_numpy(array).pin_memory()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn, and at its end for the GPU: what it made may be used anywhere."""
        with self._one, torch.inference_mode(), torch.cuda.stream(self._stream):
            yield
            self._stream.synchronize()

    def run(self, name: str, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs of a graph, good until it runs again."""
        return self._recorders[name](inputs)


Shapes = tuple[tuple[int, ...], ...]
"""Of the inputs of a graph."""


class Recording(NamedTuple):
    """A CUDA graph: what it reads, and what it writes whenever it is replayed."""

    graph: torch.cuda.CUDAGraph
    inputs: Sequence[Tensor]
    outputs: tuple[Tensor, ...]


class Recorder:
    """Runs one graph, and records the shapes that come again.

    So that few shapes come, and often, rows are widened to lengths that are a little apart, by
    words that the mask beside them hides. Many rows run as they are: each operation takes longer
    then than to ask for the next.

    Called in the stream that it is for, under inference mode, by one thread at a time.

    Args:
        graph: as the manifest has it.
        compute: the graph.
        stream: of the GPU.
        pool: of memory for what lies between inputs and outputs, shared by all that never run at
            the same time.
        longest: words that it takes at most; None for any number.
    """

    def __init__(
        self,
        graph: Graph,
        compute: Compute,
        stream: torch.cuda.Stream,
        pool: Any,
        longest: int | None = None,
    ) -> None:
        self._file = graph.file
        self._shapes = [each.shape for each in graph.inputs.values()]
        self._longest = longest or sys.maxsize
        self._compute = compute
        self._stream = stream
        self._pool = pool
        self._most = _MOST_RECORDED
        self._seen: Counter[Shapes] = Counter()
        self.recordings: dict[Shapes, Recording] = {}

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return outputs on the GPU, good until the next call.

        Args:
            inputs: in pinned memory, or on the GPU.
        """
        if len(inputs[0]) > _MOST_ROWS:
            return self._compute(
                [each.to(self._stream.device, non_blocking=True) for each in inputs]
            )
        shapes = tuple(map(self._widen, inputs, self._shapes))
        if recording := self.recordings.get(shapes):
            _fill(recording.inputs, inputs)
            recording.graph.replay()
            return recording.outputs
        moved = [
            torch.zeros(shape, dtype=each.dtype, device=self._stream.device)
            for shape, each in zip(shapes, inputs, strict=True)
        ]
        _fill(moved, inputs)
        outputs = self._compute(moved)  # before it is recorded, as libraries prepare themselves
        if len(self.recordings) < self._most:
            self._seen[shapes] += 1
            if self._seen[shapes] >= _COMES_AGAIN:
                self._record(shapes, moved)
        return outputs

    def _widen(self, given: Tensor, shape: Sequence[int | str]) -> tuple[int, ...]:
        """Return the shape that an input is widened to, where its length is open."""
        rows, *sizes = given.shape
        if sizes and isinstance(shape[1], str):
            sizes[0] = min(widened(sizes[0]), max(sizes[0], self._longest))
        return rows, *sizes

    def _record(self, shapes: Shapes, inputs: Sequence[Tensor]) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # `torch.cuda.graph` would give all free memory back before, to be asked for again.
            with _RECORDING:
                graph.capture_begin(self._pool, capture_error_mode="thread_local")
                try:
                    outputs = self._compute(inputs)
                finally:
                    graph.capture_end()
        except RuntimeError as exc:  # no memory is left, or it waits for the GPU somewhere
            self._most = 0
            _log.warning("%s: no further CUDA graphs are captured: %s", self._file, exc)
        else:
            self.recordings[shapes] = Recording(graph, inputs, outputs)


def widened(length: int) -> int:
    """Return the next length up that is a multiple of an eighth to a quarter of it."""
    step = max(_WORDS, 1 << max(0, length.bit_length() - 3))
    return -(-length // step) * step


def _fill(places: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
    """Copy inputs to the beginning of their places, and hide what was there before behind them."""
    for place, each in zip(places, inputs, strict=True):
        place[tuple(map(slice, each.shape))].copy_(each, non_blocking=True)
        if place.shape != each.shape:
            place[:, each.shape[1] :].zero_()
