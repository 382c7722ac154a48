"""ONNX graphs of reduced precision, made of the float32 ones."""

import logging
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from lanistr.manifest import Precision


def reduce_onnx(graph: Path, precision: Precision, out: Path) -> None:
    """Write a float32 graph in a lower precision; inputs and outputs keep their types.

    int8 stores the matrices that activations are multiplied with, a scale a column, and tables of
    embeddings; activations are scaled as they come. The matrices take seven of the eight bits: with
    all of them, processors without VNNI cut sums of two products off, and are up to a tenth off.
    fp16 stores and computes nearly everything so.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    REDUCERS[precision](graph, out)


def _to_int8(graph: Path, out: Path) -> None:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a step of preparation that is of no use here
    try:
        quantize_dynamic(
            graph,
            out,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gather"],
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    finally:
        root.setLevel(level)


def _to_fp16(graph: Path, out: Path) -> None:
    # onnxruntime 1.32 crashes on a CPU when it optimises a Gelu of this type.
    whole = [*DEFAULT_OP_BLOCK_LIST, "Gelu"]
    model = convert_float_to_float16(onnx.load(graph), keep_io_types=True, op_block_list=whole)
    onnx.save(model, out)


REDUCERS = {"int8": _to_int8, "fp16": _to_fp16}
