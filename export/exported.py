"""Exported graphs in the place of the model that they were made of."""

from collections.abc import Callable, Iterator, Mapping

import onnxruntime
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from export.graphs import by_name
from export.torchscript import load_torchscript
from lanistr.batch import PADDED
from lanistr.manifest import FUSION, Build, Graph, Precision, as_bad_graph
from lanistr.modalities import Modality
from lanistr.model.lanistr import Lanistr, Output
from lanistr.model.tensors import TensorBatch, TensorPart
from lanistr.session import open_session

Run = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""A graph: inputs by name to outputs by name."""


def open_graphs(build: Build, read: Callable[[str], bytes]) -> dict[str, Run]:
    """Load the graphs of a build on the CPU, by name.

    Args:
        build: of a bundle.
        read: returns a file's bytes; what a graph needs stands in its one file.

    Raises:
        BundleError: a graph cannot be loaded, or is not what the manifest says; also, when it is
            run, that it cannot be.
    """
    opened: dict[str, Run] = {}
    for name, graph in build.graphs.items():
        precision = "fp32" if name in build.whole else build.precision
        run = _OPENERS[build.runtime](read(graph.file), graph, precision)
        opened[name] = _blaming(graph.file, run)
    return opened


class Exported:
    """Answers as `Lanistr` does, by exported graphs.

    Args:
        model: lays the tokens side by side; computes nothing else.
        graphs: by name.
        alone: encoders are given their rows one by one, without padding, as a service does that
            has such a build, see `Build.alone`. Fusion takes the cases as they come.
    """

    def __init__(self, model: Lanistr, graphs: Mapping[str, Run], *, alone: bool = False) -> None:
        self._model = model
        self._graphs = graphs
        self._alone = alone

    def __call__(self, batch: TensorBatch) -> Output:
        """Predict for every case of a batch."""
        return self.fuse(batch, self.encode(batch.parts))

    def encode(self, parts: Mapping[Modality, TensorPart]) -> dict[Modality, Tensor]:
        """See `Lanistr.encode`."""
        return {each: self._tokens(each, part.arrays) for each, part in parts.items()}

    def fuse(self, batch: TensorBatch, projected: Mapping[Modality, Tensor]) -> Output:
        """Fuse the projected tokens (R, N, D) of a batch's rows."""
        tokens, mask = self._model.assemble(batch, projected)
        found = self._graphs[FUSION]({"tokens": tokens, "mask": mask})
        return Output(found["output"], found["embedding"])

    def _tokens(self, name: str, arrays: Mapping[str, Tensor]) -> Tensor:
        run = self._graphs[name]
        if not self._alone:
            return run(arrays)["tokens"]
        found = [run(row)["tokens"][0] for row in _unpadded(arrays)]
        return pad_sequence(found, batch_first=True)


def _unpadded(arrays: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Give the rows one by one, each as long as it is."""
    for i in range(len(next(iter(arrays.values())))):
        row = {name: each[i : i + 1] for name, each in arrays.items()}
        if "attention_mask" in row:
            length = int(row["attention_mask"].sum())
            row = {n: each[:, :length] if n in PADDED else each for n, each in row.items()}
        yield row


def _blaming(file: str, run: Run) -> Run:
    def careful(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with as_bad_graph(file, "the graph cannot be run"):
            return run(inputs)

    return careful


def _open_onnx(data: bytes, graph: Graph, precision: Precision) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # which OMP_NUM_THREADS bounds
    # Several pools of threads that wait by spinning take the processor from one another.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = open_session(data, graph, graph.file, options, ["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        arrays = {name: inputs[name].numpy() for name in graph.inputs}
        outputs = session.run(list(graph.outputs), arrays)
        return {
            name: torch.from_numpy(each) for name, each in zip(graph.outputs, outputs, strict=True)
        }

    return run


def _open_torchscript(data: bytes, graph: Graph, precision: Precision) -> Run:
    with as_bad_graph(graph.file, "torch cannot load it"):
        module = load_torchscript(data)

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        narrow = precision == "bf16"
        with (
            torch.no_grad(),
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]  # as served
            torch.autocast("cpu", torch.bfloat16, enabled=narrow),
        ):
            outputs = module(*(inputs[name] for name in graph.inputs))
        return {name: each.float() for name, each in by_name(graph.outputs, outputs).items()}

    return run


_OPENERS = {"onnx": _open_onnx, "torchscript": _open_torchscript}
