"""Exported graphs in the place of the model that they were made of."""

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from export.torchscript import load_torchscript
from lanistr.bundle import FUSION, Build
from lanistr.modalities import Modality
from lanistr.model.lanistr import Lanistr, Output
from lanistr.model.tensors import TensorBatch, TensorPart

Run = Callable[[Mapping[str, Tensor]], list[Tensor]]
"""A graph: its inputs by name, in the manifest's order, to its outputs in order."""


def open_graphs(build: Build, read: Callable[[str], bytes]) -> dict[str, Run]:
    """Load the graphs of a build on the CPU, by name.

    Args:
        build: of a bundle.
        read: returns a file's bytes; what a graph needs stands in its one file.
    """
    open_graph = _OPENERS[build.runtime]
    return {name: open_graph(read(graph.file), build) for name, graph in build.graphs.items()}


class Exported:
    """Answers as `Lanistr` does, by exported graphs.

    Args:
        model: lays the tokens side by side; computes nothing else.
        graphs: by name.
    """

    def __init__(self, model: Lanistr, graphs: Mapping[str, Run]) -> None:
        self._model = model
        self._graphs = graphs

    def __call__(self, batch: TensorBatch) -> Output:
        """Predict for every case of a batch."""
        return self.fuse(batch, self.encode(batch.parts))

    def encode(self, parts: Mapping[Modality, TensorPart]) -> dict[Modality, Tensor]:
        """See `Lanistr.encode`."""
        return {each: self._graphs[each](part.arrays)[0] for each, part in parts.items()}

    def fuse(self, batch: TensorBatch, projected: Mapping[Modality, Tensor]) -> Output:
        """Fuse the projected tokens (R, N, D) of a batch's rows."""
        tokens, mask = self._model.assemble(batch, projected)
        return Output(*self._graphs[FUSION]({"tokens": tokens, "mask": mask}))


def _open_onnx(data: bytes, build: Build) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Several pools of threads that wait by spinning take the processor from one another.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        outputs = session.run(None, {name: each.numpy() for name, each in inputs.items()})
        return [torch.from_numpy(np.asarray(each)) for each in outputs]

    return run


def _open_torchscript(data: bytes, build: Build) -> Run:
    module = load_torchscript(data)

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        narrow = build.precision == "bf16"
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            outputs = module(*inputs.values())
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        return [each.float() for each in several]

    return run


_OPENERS = {"onnx": _open_onnx, "torchscript": _open_torchscript}
