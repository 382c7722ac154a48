"""ONNX graphs: dynamic where they must be, described as they are."""

from pathlib import Path

import numpy as np
import onnx
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
    path = tmp_path / "onnx" / "sum.onnx"
    signature = export_onnx(source(Sum(), 3, 3, names=("left", "right")), path)
    assert {name: each.shape for name, each in signature.inputs.items()} == {
        "left": ("rows", "length"),
        "right": ("rows", "length"),
    }
    assert signature.outputs["output"].model_dump() == {"dtype": "float32", "shape": ("rows",)}
    session = onnxruntime.InferenceSession(path)
    for rows, length in ((1, 1), (1, 5), (4, 2)):
        feed = dict.fromkeys(("left", "right"), np.ones((rows, length), np.float32))
        (found,) = session.run(None, feed)
        np.testing.assert_array_equal(found, np.full(rows, 2.0 * length, np.float32))


def test_an_axis_that_the_exporter_froze_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "onnx" / "frozen.onnx"
    with pytest.raises(BundleError, match="the exporter fixed the size of an axis") as refused:
        export_onnx(source(Three(), 3, 4, names=("left",)), path)
    assert refused.value.field == "output[0]"
    assert refused.value.accepted == "any number of rows"
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["stays_bundle", "ranks_bundle", "stars_bundle"])
def test_the_manifest_describes_every_graph_as_it_is(
    name: str, request: pytest.FixtureRequest
) -> None:
    bundle = Bundle.open(request.getfixturevalue(name))
    width = bundle.manifest.width
    embedding = {"stays_bundle": 2 * (width - 1)}.get(
        name, width
    )  # marked: with a part past fusion
    assert embedding == bundle.manifest.embedding
    for build in bundle.manifest.builds:
        for graph_name, graph in build.graphs.items():
            first = [each.shape[0] for each in (*graph.inputs.values(), *graph.outputs.values())]
            assert set(first) == {"cases" if graph_name == "fusion" else "rows"}
            if build.runtime != "onnx":
                continue
            session = onnxruntime.InferenceSession(bundle.read(graph.file))
            for described, found in (
                (graph.inputs, session.get_inputs()),
                (graph.outputs, session.get_outputs()),
            ):
                assert {n: list(each.shape) for n, each in described.items()} == {
                    each.name: each.shape for each in found
                }
        fusion = build.graphs["fusion"]
        assert fusion.inputs["tokens"].shape == ("cases", "tokens", width)
        assert fusion.inputs["mask"].model_dump() == {"dtype": "bool", "shape": ("cases", "tokens")}
        assert fusion.outputs["output"].shape == ("cases", bundle.task.label.outputs)
        assert fusion.outputs["embedding"].shape == ("cases", embedding)
        for modality in bundle.task.modalities:
            graph = build.graphs[modality]
            layout = bundle.preprocessor.parts[modality].layout()
            assert set(graph.inputs) >= set(layout)
            for array, spec in layout.items():
                assert graph.inputs[array].dtype == np.dtype(spec.dtype).name
            assert graph.outputs["tokens"].shape[-1] == width


def test_text_may_be_of_any_length(stays_bundle: Path) -> None:
    for build in Bundle.open(stays_bundle).manifest.builds:
        shapes = {each.shape for each in build.graphs["text"].inputs.values()}
        assert shapes == {("rows", "length")}


def test_attention_is_onnxruntimes_own_operator(stays_bundle: Path) -> None:
    (build, *_) = Bundle.open(stays_bundle).manifest.builds
    for name, graph in build.graphs.items():
        operators = [node.op_type for node in onnx.load(stays_bundle / graph.file).graph.node]
        assert "Softmax" not in operators
        assert ("MultiHeadAttention" in operators) == (name != "tabular")


def test_int8_multiplies_integers_and_takes_less_than_half_the_room(stays_bundle: Path) -> None:
    bundle = Bundle.open(stays_bundle)
    whole, reduced = (bundle.build("onnx", each) for each in ("fp32", "int8"))
    assert reduced.bytes < 0.5 * whole.bytes
    for name in ("text", "image", "timeseries", "fusion"):
        operators = [
            node.op_type for node in onnx.load(stays_bundle / reduced.graphs[name].file).graph.node
        ]
        assert "MatMulInteger" in operators
        assert "MatMul" not in operators
