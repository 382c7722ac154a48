"""ONNX graphs: dynamic where they must be, described as they are."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.graphs import GraphSource
from export.onnx import export_onnx
from lanistr.bundle import Bundle
from lanistr.errors import BundleError


class Sum(nn.Module):
    """Adds two tensors row by row."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return (left + right).sum(dim=1)


class Three(nn.Module):
    """Takes its input for three rows, whatever it is."""

    def forward(self, left: Tensor) -> Tensor:
        return left.reshape(3, -1).sum(dim=1)


def source(module: nn.Module, *shape: int, names: tuple[str, ...]) -> GraphSource:
    inputs = {name: torch.ones(shape) for name in names}
    axes = {name: {0: "rows", 1: "length"} for name in names}
    return GraphSource(module.eval(), inputs, axes, ("output",))


def test_axes_have_the_names_that_a_bundle_promises(tmp_path: Path) -> None:
    # As many rows as the rows are long: equal sizes must not be taken for one axis.
    graph = export_onnx("sum", source(Sum(), 3, 3, names=("left", "right")), tmp_path)
    assert graph.file == "onnx/sum.onnx"
    assert {name: each.shape for name, each in graph.inputs.items()} == {
        "left": ("rows", "length"),
        "right": ("rows", "length"),
    }
    assert graph.outputs["output"].model_dump() == {"dtype": "float32", "shape": ("rows",)}
    session = onnxruntime.InferenceSession(tmp_path / graph.file)
    for rows, length in ((1, 1), (1, 5), (4, 2)):
        feed = dict.fromkeys(("left", "right"), np.ones((rows, length), np.float32))
        (found,) = session.run(None, feed)
        np.testing.assert_array_equal(found, np.full(rows, 2.0 * length, np.float32))


def test_an_axis_that_the_exporter_froze_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the exporter froze an axis") as refused:
        export_onnx("frozen", source(Three(), 3, 4, names=("left",)), tmp_path)
    assert refused.value.field == "output[0]"
    assert refused.value.accepted == "any number of rows"
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize("name", ["stays_bundle", "ranks_bundle", "stars_bundle"])
def test_the_manifest_describes_every_graph_as_it_is(
    name: str, request: pytest.FixtureRequest
) -> None:
    bundle = Bundle.open(request.getfixturevalue(name))
    width = bundle.manifest.width
    for graph_name, graph in bundle.manifest.graphs.items():
        session = onnxruntime.InferenceSession(bundle.graph(graph_name))
        for described, found in (
            (graph.inputs, session.get_inputs()),
            (graph.outputs, session.get_outputs()),
        ):
            assert {n: list(each.shape) for n, each in described.items()} == {
                each.name: each.shape for each in found
            }
        first = [each.shape[0] for each in (*graph.inputs.values(), *graph.outputs.values())]
        assert set(first) == {"cases" if graph_name == "fusion" else "rows"}
    fusion = bundle.manifest.graphs["fusion"]
    assert fusion.inputs["tokens"].shape == ("cases", "tokens", width)
    assert fusion.inputs["mask"].model_dump() == {"dtype": "bool", "shape": ("cases", "tokens")}
    assert fusion.outputs["output"].shape == ("cases", bundle.task.label.outputs)
    assert fusion.outputs["embedding"].shape == ("cases", width)
    for modality in bundle.task.modalities:
        graph = bundle.manifest.graphs[modality]
        layout = bundle.preprocessor.parts[modality].layout()
        assert set(graph.inputs) >= set(layout)
        for array, spec in layout.items():
            assert graph.inputs[array].dtype == np.dtype(spec.dtype).name
        assert graph.outputs["tokens"].shape[-1] == width


def test_text_may_be_of_any_length(stays_bundle: Path) -> None:
    text = Bundle.open(stays_bundle).manifest.graphs["text"]
    assert {each.shape for each in text.inputs.values()} == {("rows", "length")}
