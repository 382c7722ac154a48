"""Ways to run a graph: as torch has it, as each build of a bundle, and by other means."""

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.cases import example_cases, open_run
from export.exported import Run as Runnable
from export.exported import open_graphs
from export.graphs import GraphSource, by_name, graph_sources
from export.onnx import export_onnx
from lanistr.batch import Arrays
from lanistr.bundle import Bundle
from lanistr.manifest import Build
from lanistr.model.tensors import to_tensors

PLAIN = "onnx fp32 plain"
"""What the others are held against: float32 without the fused operator of attention."""

OPENVINO = ("f32", "bf16")


class Way:
    """One way to run one graph, on as many threads as torch has."""

    def __init__(self, run: Runnable) -> None:
        self._run = run

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the graph; outputs by name."""
        found = self._run({name: torch.from_numpy(each) for name, each in inputs.items()})
        return {name: each.numpy() for name, each in found.items()}


def model_sources(run: Path) -> dict[str, GraphSource]:
    """Return the graphs of a fine-tuned run's model as torch has them, by name."""
    _, dataset, model = open_run(run)
    return graph_sources(model, to_tensors(dataset.batch(example_cases(dataset))))


def open_ways(bundle: Bundle, name: str, source: GraphSource | None, work: Path) -> dict[str, Way]:
    """Open every way to run a graph that there is.

    Args:
        bundle: whose builds are run.
        name: of the graph.
        source: the graph as torch has it; None leaves out torch itself and plain attention.
        work: a folder for graphs that no bundle has.
    """
    ways: dict[str, Runnable] = {}
    whole = _only(name, bundle.build("onnx", "fp32"))
    file = bundle.folder / whole.graphs[name].file
    if source is not None:
        file = work / "plain" / f"{name}.onnx"
        export_onnx(source, file, fused=False)
        ways["torch eager"] = _eager(source)
        ways[PLAIN] = open_graphs(whole, lambda _: file.read_bytes())[name]
    for build in bundle.manifest.builds:
        ways[build.name] = open_graphs(_only(name, build), bundle.read)[name]
    for precision in OPENVINO:
        with suppress(ModuleNotFoundError):  # it is no part of the environment
            ways[f"openvino {precision}"] = _openvino(file, precision)
    return {each: Way(run) for each, run in ways.items()}


def _only(name: str, build: Build) -> Build:
    return build.model_copy(update={"graphs": {name: build.graphs[name]}})


def _eager(source: GraphSource) -> Runnable:
    def run(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            outputs = source.module(*(inputs[name] for name in source.inputs))
        return by_name(source.outputs, outputs)

    return run


def _openvino(graph: Path, precision: str) -> Runnable:
    """Open an ONNX graph in OpenVINO, which computes in the precision asked for."""
    openvino = import_module("openvino")
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(str(graph), "CPU", settings).create_infer_request()

    def run(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = request.infer({name: each.numpy() for name, each in inputs.items()})
        return {
            port.get_any_name(): torch.from_numpy(np.array(each)) for port, each in outputs.items()
        }

    return run
