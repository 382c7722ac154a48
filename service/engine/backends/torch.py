"""TorchScript graphs on torch: on a CPU, or on a GPU, in bf16 and by CUDA graphs.

TorchScript is a program: this backend is for bundles of people you trust.

A graph was recorded on a CPU, which it names where it makes tensors, with its weights as constants.
Both are set right once, when it is loaded. Sizes, which it reckons with in tensors without an axis,
stay on the host: read from a GPU they would make it wait, and could not be recorded.

On a GPU a small model spends its time asking for one operation after the other. A shape of inputs
that comes again is therefore recorded as a CUDA graph, and asked for as a whole from then on.
"""

import io
import logging
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from lanistr.batch import Arrays
from lanistr.bundle import Bundle
from lanistr.manifest import FUSION, Precision, blamed
from lanistr.modalities import Modality
from service.engine.backends.backend import Floats, no_device, try_graphs
from service.engine.backends.choice import choose_build

Compute = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
"""A graph: inputs in the manifest's order to outputs in float32, on one device."""

_WEIGHED = frozenset({"aten::linear", "aten::matmul"})
"""Operations that autocast does in bf16 everywhere: a constant of these alone is kept so."""

_COMES_AGAIN = 3
"""Times that a shape comes before it is recorded: recording takes as long as some runs."""

_MOST_RECORDED = 32
"""Shapes that are recorded of a graph; each holds memory for its inputs and outputs."""

_RECORDING = threading.Lock()
"""One thread at a time records: it empties caches, and waits for the whole GPU."""

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
        computes: dict[str, Compute] = {}
        for name, graph in graphs.items():
            whole = self.build.precision == "fp32" or name in self.build.whole
            with blamed(str(bundle.folder / graph.file), "torch cannot load it"):
                module = load_graph(bundle.read(graph.file), self._device, narrow=not whole)
            computes[name] = _computing(module, self._device, narrow=not whole)
        self._run: Callable[[str, Sequence[Tensor]], tuple[Floats, ...]] = (
            _OnGpu(self._device, computes) if on_gpu else _OnCpu(threads, computes)
        )
        try_graphs(self, bundle)

    @property
    def device(self) -> str:
        """See `Backend.device`."""
        return f"GPU {self._device.index}" if self._device.type == "cuda" else "CPU"

    def encode(self, modality: Modality, arrays: Arrays) -> Floats:
        """See `Backend.encode`."""
        (tokens,) = self._run(modality, self._ordered(modality, arrays))
        return tokens

    def fuse(self, tokens: Floats, mask: NDArray[Any]) -> tuple[Floats, Floats]:
        """See `Backend.fuse`."""
        output, embedding = self._run(
            FUSION, self._ordered(FUSION, {"tokens": tokens, "mask": mask})
        )
        return output, embedding

    def _ordered(self, name: str, arrays: Arrays) -> list[Tensor]:
        return [torch.from_numpy(arrays[each]) for each in self._names[name]]


# ---- graphs -------------------------------------------------------------------------------------


def load_graph(data: bytes, device: torch.device, *, narrow: bool) -> torch.jit.ScriptModule:
    """Read a graph that was recorded on a CPU, to be run on a device.

    Args:
        data: of its file.
        device: that its inputs will stand on.
        narrow: it will run under bf16 autocast; the weights that this would cast in every run are
            cast here, which changes no result.
    """
    with warnings.catch_warnings():
        # Deprecated in favour of torch.export, whose programs libtorch alone cannot load.
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
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

    def __call__(self, name: str, inputs: Sequence[Tensor]) -> tuple[Floats, ...]:
        return tuple(each.numpy() for each in self._computes[name](inputs))


class _OnGpu:
    """Runs graphs on a GPU, one at a time, in a stream of their own.

    Copies from and to memory that is pinned, which the GPU reads by itself.
    """

    def __init__(self, device: torch.device, computes: Mapping[str, Compute]) -> None:
        torch.backends.cudnn.allow_tf32 = False  # which is no fp32
        self._device = device
        self._stream = torch.cuda.Stream(device)
        pool = torch.cuda.graph_pool_handle()
        self._recorders = {
            name: Recorder(name, compute, self._stream, pool) for name, compute in computes.items()
        }
        self._one = threading.Lock()

    def __call__(self, name: str, inputs: Sequence[Tensor]) -> tuple[Floats, ...]:
        with self._one, torch.inference_mode(), torch.cuda.stream(self._stream):
            outputs = self._recorders[name]([each.pin_memory() for each in inputs])
            copies = [each.to("cpu", non_blocking=True) for each in outputs]
            self._stream.synchronize()
        return tuple(each.numpy() for each in copies)


class Recording(NamedTuple):
    """A CUDA graph: what it reads, and what it writes whenever it is replayed."""

    graph: torch.cuda.CUDAGraph
    inputs: Sequence[Tensor]
    outputs: tuple[Tensor, ...]


class Recorder:
    """Runs one graph, and records the shapes that come again.

    Called in the stream that it is for, under inference mode, by one thread at a time.

    Args:
        name: of the graph.
        compute: the graph.
        stream: of the GPU.
        pool: of memory for what lies between inputs and outputs, shared by all that never run at
            the same time.
    """

    def __init__(self, name: str, compute: Compute, stream: torch.cuda.Stream, pool: Any) -> None:
        self._name = name
        self._compute = compute
        self._stream = stream
        self._pool = pool
        self._most = _MOST_RECORDED
        self._seen: Counter[tuple[torch.Size, ...]] = Counter()
        self.recordings: dict[tuple[torch.Size, ...], Recording] = {}

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return outputs on the GPU, good until the next call; inputs stand in pinned memory."""
        shapes = tuple(each.shape for each in inputs)
        if recording := self.recordings.get(shapes):
            for place, each in zip(recording.inputs, inputs, strict=True):
                place.copy_(each, non_blocking=True)
            recording.graph.replay()
            return recording.outputs
        moved = [each.to(self._stream.device, non_blocking=True) for each in inputs]
        outputs = self._compute(moved)  # before it is recorded, as libraries prepare themselves
        if len(self.recordings) < self._most:
            self._seen[shapes] += 1
            if self._seen[shapes] >= _COMES_AGAIN:
                self._record(shapes, moved)
        return outputs

    def _record(self, shapes: tuple[torch.Size, ...], inputs: Sequence[Tensor]) -> None:
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(
            graph, self._pool, self._stream, capture_error_mode="thread_local"
        )
        try:
            with _RECORDING, recording:
                outputs = self._compute(inputs)
        except RuntimeError as exc:  # no memory is left, or it waits for the GPU somewhere
            self._most = 0
            _log.warning("%s: no more shapes are recorded: %s", self._name, exc)
        else:
            self.recordings[shapes] = Recording(graph, inputs, outputs)
