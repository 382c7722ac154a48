"""Graphs on onnxruntime, one session a graph, all of them on one pool of threads.

Source: spec/export_and_serving.md, "onnxruntime in a server": sessions with pools of their own
fight for the cores and take four times as long.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from lanistr.batch import Arrays
from lanistr.bundle import FUSION, Bundle, Graph, Precision, Tensor
from lanistr.errors import BundleError
from lanistr.modalities import Modality
from service.engine.backends import Floats

_GPU, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_FASTEST: Mapping[str, tuple[Precision, ...]] = {_GPU: ("fp16", "fp32"), _CPU: ("int8", "fp32")}
_DTYPES = {"float": "float32", "double": "float64", "float16": "float16"}
"""ONNX names of types that numpy calls otherwise."""

_TRIED_LENGTHS = (16, 1)
"""Sizes of the axes that a graph leaves open, tried when it is loaded."""


@cache
def _share_threads(threads: int) -> None:
    """Set the size of the one pool that all sessions use. onnxruntime takes it once a process."""
    onnxruntime.set_global_thread_pool_sizes(threads, 1)


class OnnxBackend:
    """The graphs of one bundle as onnxruntime sessions.

    Args:
        bundle: whose graphs.
        device: auto takes a GPU if this onnxruntime has one.
        precision: auto takes int8 on a CPU and fp16 on a GPU, where the bundle has it: it is there
            only if the task's metric holds.
        threads: of the one pool; the same for all bundles of a process.

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
        _share_threads(threads)
        self._bundle = bundle
        available = onnxruntime.get_available_providers()
        self._providers = [_GPU, _CPU] if device == "auto" and _GPU in available else [_CPU]
        wishes = _FASTEST[self._providers[0]] if precision == "auto" else (precision,)
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
        options = onnxruntime.SessionOptions()
        options.use_per_session_threads = False
        options.log_severity_level = 3  # errors: its warnings are about nodes, for who exports
        try:
            session = onnxruntime.InferenceSession(
                self._bundle.read(graph.file), options, providers=self._providers
            )
        except BundleError:
            raise
        except Exception as exc:  # onnxruntime's own errors share no base
            raise self._unfit(graph, f"onnxruntime cannot load it: {exc}") from exc
        for said, found in (
            (graph.inputs, session.get_inputs()),
            (graph.outputs, session.get_outputs()),
        ):
            self._compare(graph, said, {each.name: each for each in found})
        return session

    def _compare(self, graph: Graph, said: Mapping[str, Tensor], found: Mapping[str, Any]) -> None:
        """Hold a graph's inputs or outputs against the manifest, open axes aside."""
        if set(said) != set(found):
            raise self._unfit(graph, "names", ", ".join(sorted(found)), ", ".join(sorted(said)))
        for name, tensor in said.items():
            kind = found[name].type.removeprefix("tensor(").removesuffix(")")
            shape = found[name].shape
            fixed = [
                theirs if isinstance(size, int) and isinstance(theirs, int) else size
                for size, theirs in zip(tensor.shape, shape, strict=False)
            ]
            same = len(shape) == len(tensor.shape) and fixed == list(tensor.shape)
            if _DTYPES.get(kind, kind) != tensor.dtype or not same:
                seen = f"{name} {kind} {shape}"
                raise self._unfit(
                    graph, "shapes", seen, f"{name} {tensor.dtype} {list(tensor.shape)}"
                )

    def _try(self) -> None:
        """Run every graph once: better now than in the first request."""
        width = self._bundle.manifest.width
        for modality in self._bundle.task.modalities:
            graph = self.build.graphs[modality]
            for arrays in _ones(graph):
                tokens = self._attempt(graph, self.encode, modality, arrays)
                if tokens.ndim != 3 or tokens.shape[2] != width or not np.isfinite(tokens).all():
                    raise self._unfit(graph, "tokens", str(tokens.shape), f"(R, N, {width})")
        graph = self.build.graphs[FUSION]
        wanted = (1, self._bundle.task.label.outputs)
        for n in (0, *_TRIED_LENGTHS):
            tokens, mask = np.ones((1, n, width), np.float32), np.ones((1, n), np.bool_)
            output, _ = self._attempt(graph, self.fuse, tokens, mask)
            if output.shape != wanted or not np.isfinite(output).all():
                raise self._unfit(graph, f"output of {n} tokens", str(output.shape), str(wanted))

    def _attempt(self, graph: Graph, run: Any, *arguments: Any) -> Any:
        try:
            return run(*arguments)
        except Exception as exc:  # as above
            raise self._unfit(graph, f"it does not compute: {exc}") from exc

    def _unfit(self, graph: Graph, fault: str, seen: str = "", accepted: str = "") -> BundleError:
        return BundleError(
            f"not what the manifest says: {fault}" if seen else " ".join(fault.split()),
            code="bad_graph",
            field=str(self._bundle.folder / graph.file),
            seen=seen or None,
            accepted=accepted,
        )


def _ones(graph: Graph) -> Iterator[dict[str, NDArray[Any]]]:
    """Make inputs of one row, all ones, for several sizes of the open axes."""
    for length in _TRIED_LENGTHS:
        yield {
            name: np.ones(
                (1, *(length if isinstance(size, str) else size for size in tensor.shape[1:])),
                dtype=tensor.dtype,
            )
            for name, tensor in graph.inputs.items()
        }
