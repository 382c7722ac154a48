"""Attention as onnxruntime's fused operator, in place of the dozen nodes of torch's exporter.

onnxruntime fuses no attention of these graphs by itself. Source: spec/export_and_serving.md.

Shapes: B case, H head, S token, E = width / H.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import onnx
import torch
from onnx.defs import OpSchema
from onnxscript import opset20 as op
from onnxscript.values import Opset

_DOMAIN, _NAME = "com.microsoft", "MultiHeadAttention"


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what `torch.onnx.export` takes as `custom_translation_table`."""
    _register()
    return {torch.ops.aten.scaled_dot_product_attention.default: _attend}


def _attend(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Translate attention of (B, H, S, E), with an optional mask (B, 1, S, S), True to look at.

    The operator takes one mask of keys a case, which is what padding needs: that of the first
    query stands for all.
    """
    unknown = dropout_p or is_causal or enable_gqa
    assert not unknown, "the graphs need no more than padding"
    heads, size = query.shape[1], query.shape[3]
    keys = None
    if attn_mask is not None:
        assert attn_mask.dtype == onnx.TensorProto.BOOL
        assert attn_mask.shape[1] == 1
        first = op.Slice(attn_mask, _ints(0), _ints(1), _ints(2))
        keys = op.Cast(op.Squeeze(first, _ints(1, 2)), to=onnx.TensorProto.INT32)
    attend = getattr(Opset(_DOMAIN, 1), _NAME)
    scaled = {} if scale is None else {"scale": scale}
    merged = [_merge(each, heads * size) for each in (query, key, value)]
    fused = attend(*merged, None, keys, num_heads=heads, **scaled)
    return op.Transpose(op.Reshape(fused, _ints(0, 0, heads, size)), perm=[0, 2, 1, 3])


def _merge(tensor: Any, width: int) -> Any:
    """(B, H, S, E) to (B, S, H * E); onnxruntime drops the transposition with the one before."""
    return op.Reshape(op.Transpose(tensor, perm=[0, 2, 1, 3]), _ints(0, 0, width))


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


@cache
def _register() -> None:
    """Tell onnx what the operator looks like: its own knows only the standard ones."""
    parameter, kind = OpSchema.FormalParameter, OpSchema.AttrType
    optional = {"param_option": onnx.defs.OpSchema.FormalParameterOption.Optional}
    onnx.defs.register_schema(
        OpSchema(
            _NAME,
            _DOMAIN,
            1,
            inputs=[
                parameter("query", "T"),
                parameter("key", "T", **optional),
                parameter("value", "T", **optional),
                parameter("bias", "T", **optional),
                parameter("key_padding_mask", "M", **optional),
            ],
            outputs=[parameter("output", "T")],
            type_constraints=[
                ("T", ["tensor(float)", "tensor(float16)"], "numbers"),
                ("M", ["tensor(int32)"], "1 for a key to look at, 0 for none"),
            ],
            attributes=[
                OpSchema.Attribute("num_heads", kind.INT, "H"),
                OpSchema.Attribute("scale", kind.FLOAT, "of the scores", required=False),
            ],
        )
    )
