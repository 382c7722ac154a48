"""ONNX graphs by torch's exporter, checked to be as dynamic as they were asked to be."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from torch.export import Dim

from export.attention import translations
from export.graphs import GraphSource
from lanistr.errors import BundleError
from lanistr.manifest import Tensor

OPSET = 20


class Signature(NamedTuple):
    """What goes in and out of a graph, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def export_onnx(source: GraphSource, path: Path, *, fused: bool = True) -> Signature:
    """Write one graph, weights inside, and return its inputs and outputs for the manifest.

    Args:
        source: what to export.
        path: of the file.
        fused: attention is onnxruntime's own operator; else it is made of standard ones.

    Raises:
        BundleError: the exporter froze an axis that must vary; it does not say so itself.
    """
    symbols = {axis: Dim.DYNAMIC for axes in source.dynamic.values() for axis in axes.values()}
    shapes = tuple(
        {axis: symbols[each] for axis, each in source.dynamic[key].items()} for key in source.inputs
    )
    with warnings.catch_warnings():
        # torch.export copies its own deprecated tree nodes.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        # Of an LSTM it checks a size by a deprecated name, and finds the list of weights new.
        warnings.filterwarnings("ignore", "_check_is_size will be removed", FutureWarning)
        warnings.filterwarnings("ignore", r"The tensor attributes? .*\._flat_weights", UserWarning)
        program = torch.onnx.export(
            source.module,
            tuple(source.inputs.values()),
            input_names=list(source.inputs),
            output_names=list(source.outputs),
            # A module that takes `*arrays` has one argument in the exporter's eyes.
            dynamic_shapes={"arrays": shapes} if source.variadic else shapes,
            opset_version=OPSET,
            custom_translation_table=translations() if fused else None,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _name_axes(model.graph, source)
    _forget_the_making(model)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))
    return Signature(_describe(model.graph.input), _describe(model.graph.output))


def _name_axes(graph: onnx.GraphProto, source: GraphSource) -> None:
    """Give the exporter's symbols (s4, s86) the names that the bundle promises."""
    names: dict[str, str] = {}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, wanted in source.dynamic[value.name].items():
            if not dims[axis].dim_param:
                raise _frozen(value, axis, wanted)
            names[dims[axis].dim_param] = wanted
    for value in [*graph.input, *graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names.get(dim.dim_param, dim.dim_param)
    first = next(iter(source.dynamic.values()))[0]
    for value in graph.output:
        if value.type.tensor_type.shape.dim[0].dim_param != first:
            raise _frozen(value, 0, first)
    del graph.value_info[:]  # they would go on speaking of s4


def _forget_the_making(model: onnx.ModelProto) -> None:
    """Remove where in whose files each node comes from."""
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def _frozen(value: onnx.ValueInfoProto, axis: int, wanted: str) -> BundleError:
    return BundleError(
        "the exporter fixed the size of an axis",
        code="frozen_axis",
        field=f"{value.name}[{axis}]",
        seen=value.type.tensor_type.shape.dim[axis].dim_value,
        accepted=f"any number of {wanted}",
    )


def _describe(values: Iterable[onnx.ValueInfoProto]) -> dict[str, Tensor]:
    described: dict[str, Tensor] = {}
    for value in values:
        kind = value.type.tensor_type
        shape = tuple(dim.dim_param or int(dim.dim_value) for dim in kind.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        described[value.name] = Tensor(dtype=dtype, shape=shape)
    return described
