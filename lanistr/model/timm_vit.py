"""A timm ViT as weights of transformers' ViT, so that there is one image encoder.

Only plain ones: a CLS token, learned positions for it and every patch, pre-norm blocks of
attention and an exact-GELU MLP with all biases, a norm at the end.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from lanistr.errors import CheckpointError
from lanistr.model.published import PICKLED, SAFE, Found, cause_of, load_published

_PLAIN = {
    *("VisionTransformer", "PatchEmbed", "Sequential", "Block", "Attention", "Mlp"),
    *("Conv2d", "Linear", "LayerNorm", "GELU", "Identity", "Dropout", "DropPath", "PatchDropout"),
}
"""Names of the module types that a plain ViT is made of."""

_HEAD = ("head.", "head_drop.", "fc_norm.", "attn_pool.")
"""Where what stands behind the last token begins: not ours to take, and no part of the features."""

_OUTER = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
# The names under which ViTs of transformers are published; newer releases of the library call
# them otherwise inside and translate as they read.
_BLOCK = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_FUSED = tuple(f"attention.attention.{each}" for each in ("query", "key", "value"))


class TimmViT:
    """Reads ViTs in timm's hub format: `config.json` names an architecture."""

    accepted = "a plain ViT of timm"

    def accepts(self, config: Mapping[str, Any]) -> bool:
        """Whether a `config.json` is timm's."""
        return "architecture" in config

    def sizes(self, folder: Path) -> dict[str, Any]:
        """Return what `ImageConfig` must say for the weights to mean what they meant.

        Raises:
            CheckpointError: timm knows no such model, or it is not a plain ViT.
        """
        model = _skeleton(folder)
        block = model.blocks[0]
        (side, other), (patch, wide) = model.patch_embed.img_size, model.patch_embed.patch_size
        if side != other or patch != wide:
            raise _refusal(f"images of {side} x {other} in patches of {patch} x {wide}")
        described = model.pretrained_cfg
        return {
            "size": side,
            "patch": patch,
            "width": model.embed_dim,
            "layers": len(model.blocks),
            "heads": block.attn.num_heads,
            "feedforward": block.mlp.fc1.out_features,
            "norm_eps": block.norm1.eps,
            "mean": described["mean"],
            "std": described["std"],
        }

    def found(self, folder: Path, like: PreTrainedModel) -> Found:
        """Read the weights.

        Raises:
            CheckpointError: they are missing, damaged, or not those of the model.
        """
        skeleton = _skeleton(folder)
        stored = _read(folder)
        try:
            skeleton.load_state_dict(stored, strict=True, assign=True)
        except RuntimeError as exc:
            raise CheckpointError(
                f"the weights do not match the model in config.json: {cause_of(exc)}",
                code="wrong_weights",
            ) from exc
        left = {name for name in stored if name.startswith(_HEAD)}
        kept = {name: each for name, each in stored.items() if name not in left}
        # The sizes were found to be those of `like`, whose config so describes the weights too.
        read = load_published(
            like, None, like.config, use_mask_token=True, state_dict=published_names(kept)
        )
        return Found(read.tensors, frozenset(left) | read.left)


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give timm's weights the names of transformers; query, key and value come apart."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
        if name in _OUTER:  # a parameter of the model itself
            named[_OUTER[name]] = tensor
        elif block is None:
            named[f"{_OUTER[stem]}.{kind}"] = tensor
        elif block[2] == "attn.qkv":
            for target, piece in zip(_FUSED, tensor.chunk(3), strict=True):
                named[f"encoder.layer.{block[1]}.{target}.{kind}"] = piece.contiguous()
        else:
            named[f"encoder.layer.{block[1]}.{_BLOCK[block[2]]}.{kind}"] = tensor
    return named


def _skeleton(folder: Path) -> Any:
    """Return timm's model without weights.

    Raises:
        CheckpointError: timm knows no such model, or it is not a plain ViT.
    """
    import timm  # slow to import, and seldom asked for

    try:
        with torch.device("meta"):
            model = timm.create_model(f"local-dir:{folder}", pretrained=False)
    except Exception as exc:  # whatever a wrong argument of whatever model provokes
        raise CheckpointError(
            f"timm cannot build the model: {cause_of(exc)}",
            code="bad_config",
            accepted="config.json as timm writes it for the hub",
        ) from exc
    _refuse_fancy(model)
    return model


def _refuse_fancy(model: Any) -> None:
    """Refuse every model that transformers' ViT would compute otherwise.

    Raises:
        CheckpointError: naming what is not plain.
    """
    modules = {n: each for n, each in model.named_modules() if not f"{n}.".startswith(_HEAD)}
    for name, module in modules.items():
        kind = type(module).__name__
        if kind not in _PLAIN or (isinstance(module, nn.GELU) and module.approximate != "none"):
            raise _refusal(f"{kind} at {name}" if name else kind)
    weights = {n for n in model.state_dict() if not n.startswith(_HEAD)}
    both = ("weight", "bias")
    plain = {"cls_token", "pos_embed", *(f"{stem}.{k}" for stem in list(_OUTER)[2:] for k in both)}
    for i in range(len(model.blocks)):
        plain |= {f"blocks.{i}.{stem}.{k}" for stem in (*_BLOCK, "attn.qkv") for k in both}
    for missing in sorted(plain - weights):
        raise _refusal(f"no {missing}")
    for more in sorted(weights - plain):
        raise _refusal(more)
    if model.patch_embed.proj.in_channels != 3:
        raise _refusal(f"images with {model.patch_embed.proj.in_channels} channels")
    positions, patches = model.pos_embed.shape[1], model.patch_embed.num_patches
    if positions != 1 + patches:
        raise _refusal(f"{positions} positions for {patches} patches")
    norms = {each.eps for each in modules.values() if isinstance(each, nn.LayerNorm)}
    if len(norms) > 1:
        raise _refusal(f"normalization layers with epsilons {sorted(norms)}")


def _refusal(seen: str) -> CheckpointError:
    return CheckpointError(
        "not a plain ViT",
        code="wrong_model",
        seen=seen,
        accepted="CLS token, learned positions for it and each patch, pre-norm blocks with exact "
        "GELU and all biases, a final norm; no layer scale, no registers, no query normalization",
    )


def _read(folder: Path) -> dict[str, Tensor]:
    """Read timm's weights; of a pickled file nothing but tensors."""
    try:
        if (folder / SAFE).is_file():
            return dict(load_file(folder / SAFE))
        stored = torch.load(folder / PICKLED, map_location="cpu", weights_only=True)
        return {name: tensor for name, tensor in stored.items() if isinstance(tensor, Tensor)}
    except Exception as exc:  # the libraries raise whatever a damaged file provokes
        raise CheckpointError(
            f"cannot read the weights: {cause_of(exc)}",
            code="damaged_weights",
            accepted=f"{SAFE}, or a {PICKLED} that contains only tensors",
        ) from exc
