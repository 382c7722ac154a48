"""A checkpoint of the research release: what its tensors are called, and what they say of sizes.

Source: the release's modules and configurations, read for facts. What tensors cannot say (heads,
TabNet's gamma) is as the release's configurations have it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lanistr.errors import CheckpointError
from lanistr.modalities import Modality

DATASETS: Mapping[str, frozenset[Modality]] = {
    "mimic": frozenset({Modality.TEXT, Modality.IMAGE, Modality.TIMESERIES}),
    "amazon": frozenset({Modality.TEXT, Modality.IMAGE, Modality.TABULAR}),
}
"""The modalities that the release trains on a data set, some of which a run may leave out."""

HEADS = {"text": 12, "image": 12, "timeseries": 4, "fusion": 12}
GAMMA = 1.8

# ---- names --------------------------------------------------------------------------------------

_NAMES: tuple[tuple[str, str], ...] = (
    (r"text_encoder\.", "encoders.text.bert."),
    (r"image_encoder\.", "encoders.image.vit."),
    (r"tabular_encoder\.tabnet\.(initial_bn|final_mapping)\.", r"encoders.tabular.\1."),
    (r"tabular_encoder\.(?:tabnet\.)?encoder\.", "encoders.tabular.encoder."),
    (r"tabular_encoder\.embedder\.", "encoders.tabular.embedder."),
    (r"tabular_encoder\.decoder\.", "pretexts.tabular.decoder."),
    (r"timeseries_encoder\.pos_enc\.pe$", "encoders.timeseries.positions"),
    (r"timeseries_encoder\.transformer_encoder\.", "encoders.timeseries."),
    (r"timeseries_encoder\.", "encoders.timeseries."),
    (r"mm_fusion\.", "fusion.flava."),
    (r"(text|image|tabular)_proj\.layer1\.0\.", r"projections.\1.0."),
    (r"time_proj\.layer1\.0\.", "projections.timeseries.0."),
    (r"mm_proj\.layer1\.0\.", "projector.0."),
    (r"mm_proj\.layer2\.0\.", "projector.2."),
    (r"mm_proj\.layer3\.0\.", "projector.4."),
    (r"mm_predictor\.layer1\.0\.", "predictor.0."),
    (r"mm_predictor\.layer2\.", "predictor.2."),
    (r"mlm_head\.predictions\.transform\.dense\.", "pretexts.text.transform.0."),
    (r"mlm_head\.predictions\.transform\.layer_norm\.", "pretexts.text.transform.2."),
    (r"mlm_head\.predictions\.decoder\.", "pretexts.text.decoder."),
    (r"mlm_head\.predictions\.bias$", "pretexts.text.decoder.bias"),
    (r"mim_head\.decoder\.0\.", "pretexts.image.decoder."),
    (r"classifier\.model\.", "head.mlp."),
)
"""Starts of names there and here; the first that fits counts."""

_IMAGE_BLOCKS: tuple[tuple[str, str], ...] = (
    (r"\.encoder\.layer\.", ".layers."),
    (r"\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r".attention.\1_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
"""What transformers before 5 calls the parts of ViT, and what 5 does."""

_OLD_NORMS: tuple[tuple[str, str], ...] = (
    (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),
    (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
)
"""What BERT's norms are called in weights that come from TensorFlow."""

_UNUSED = re.compile(r"text_encoder\.embeddings\.(position_ids|token_type_ids)")
"""Counters that older versions of transformers keep among the weights."""


def read(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint without running anything in it, on the CPU.

    Raises:
        CheckpointError: there is no such file, it is no flat mapping of tensors, or a tensor holds
            NaN or infinity.
    """
    accepted = "a .pth.tar file of the release: a state dict written by torch.save"
    if not path.is_file():
        raise CheckpointError(
            "no such file", code="no_checkpoint", field=str(path), accepted=accepted
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:
        # Anything, since rubbish trips the reader anywhere; and torch's own words would advise to
        # run the code that the file may hold.
        raise CheckpointError(
            "contains more than tensors, or is damaged",
            code="bad_checkpoint",
            field=str(path),
            accepted=accepted,
        ) from exc
    tensors = found if isinstance(found, Mapping) else {}
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                "contains something other than tensors",
                code="bad_checkpoint",
                field=f"{path}: {name}",
                seen=type(value).__name__,
                accepted=accepted,
            )
        if not value.isfinite().all():
            raise CheckpointError(
                "a tensor contains numbers that are not finite",
                code="bad_checkpoint",
                field=f"{path}: {name}",
            )
    if not tensors:
        raise CheckpointError(
            "contains no state dict",
            code="bad_checkpoint",
            field=str(path),
            seen=type(found).__name__,
            accepted=accepted,
        )
    return {str(name).removeprefix("module."): value for name, value in tensors.items()}


def translate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Call the tensors what they are called in `Lanistr`, and shape them so.

    Args:
        tensors: by the release's names, without `module.`.

    Raises:
        CheckpointError: nothing here is called like one of them, or two that should be one differ.
    """
    renamed: dict[str, Tensor] = {}
    strange: list[str] = []
    for theirs, tensor in tensors.items():
        if _UNUSED.fullmatch(theirs):
            continue
        ours = _rename(theirs)
        if ours is None:
            strange.append(theirs)
            continue
        if ours == "encoders.timeseries.positions" and tensor.ndim == 3:
            tensor = tensor.squeeze(1)  # their batch axis
        if ours == "pretexts.image.decoder.weight" and tensor.ndim == 4:
            tensor = tensor.flatten(1)  # a 1x1 convolution
        add(renamed, ours, tensor)
    if strange:
        shown = ", ".join(sorted(strange)[:3]) + (", …" if len(strange) > 3 else "")
        raise CheckpointError(
            f"tensors that belong to no part of the model ({len(strange)}): {shown}",
            code="wrong_weights",
            accepted="names of the release: text_encoder., image_encoder., mm_fusion., ...",
        )
    return renamed


def add(tensors: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    """Put a tensor under its name; it may stand there already if it is the same.

    Raises:
        CheckpointError: another one stands there.
    """
    before = tensors.setdefault(name, tensor)
    if before is not tensor and not torch.equal(before, tensor):
        raise CheckpointError(
            "two tensors differ that the release shares", code="wrong_weights", field=name
        )


def _rename(name: str) -> str | None:
    for start, ours in _NAMES:
        renamed, fits = re.subn("^" + start, ours, name)
        if not fits:
            continue
        if renamed.startswith("encoders.image."):
            renamed = _replace(renamed, _IMAGE_BLOCKS)
        return _replace(renamed, _OLD_NORMS)
    return None


def _replace(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in pairs:
        name = re.sub(theirs, ours, name)
    return name


# ---- sizes --------------------------------------------------------------------------------------


def stage(tensors: Mapping[str, Tensor]) -> Literal["pretrain", "finetune"]:
    """Say which of the release's two stages made a checkpoint, by our names.

    Raises:
        CheckpointError: it has the parts of neither, or of both.
    """
    has = {name.split(".")[0] for name in tensors}
    pretrained, tuned = bool(has & {"pretexts", "projector", "predictor"}), "head" in has
    if pretrained == tuned:
        raise CheckpointError(
            "neither a pretrained nor a fine-tuned model"
            if not tuned
            else "both a pretrained and a fine-tuned model",
            code="wrong_weights",
            accepted="mlm_head., mim_head., mm_proj. and mm_predictor., or else classifier.",
        )
    return "finetune" if tuned else "pretrain"


def sizes(tensors: Mapping[str, Tensor], dataset: str) -> dict[str, Any]:
    """Infer a `LanistrConfig`, as data, from the shapes of tensors by our names.

    Raises:
        CheckpointError: a tensor that tells a size is missing, or the modalities are not those
            that the release trains on the data set.
    """
    found = {Modality(name.split(".")[1]) for name in tensors if name.startswith("encoders.")}
    allowed = DATASETS[dataset]
    if not found or not found <= allowed:
        raise CheckpointError(
            "the checkpoint's modalities differ from the data set's",
            code="wrong_modalities",
            field="--dataset",
            seen=", ".join(each for each in Modality if each in found) or "none",
            accepted=f"{', '.join(each for each in Modality if each in allowed)} for {dataset}",
        )
    shapes = Shapes(tensors)
    config: dict[str, Any] = {each: _READERS[each](shapes) for each in Modality if each in found}
    if dataset == "amazon" and "image" in config:
        # So its loader for these pictures.
        config["image"] |= {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    config["fusion"] = {
        **shapes.blocks("fusion.flava.encoder.layer", "intermediate.dense.weight"),
        "heads": HEADS["fusion"],
        "pooler": shapes.has("fusion.flava.pooler."),
    }
    config["simmmm"] = None
    if stage(tensors) == "pretrain":
        width = shapes.of("projector.0.weight")[0]
        config["simmmm"] = {"width": width, "bottleneck": shapes.of("predictor.0.weight")[0]}
    else:
        outputs = shapes.of("head.mlp.6.weight")[0]
        config["head"] = {
            "kind": "classes" if outputs > 1 else "regression",
            "outputs": outputs,
            "hidden": shapes.of("head.mlp.0.weight")[0],
        }
    config["compat"] = "release"
    return config


class Shapes:
    """The shapes of tensors by name."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def of(self, name: str, axes: int = 2) -> tuple[int, ...]:
        """Return the shape of a tensor of so many axes.

        Raises:
            CheckpointError: there is no such tensor, or it has others.
        """
        if name not in self._tensors:
            raise CheckpointError("a tensor is missing", code="wrong_weights", field=name)
        shape = tuple(self._tensors[name].shape)
        if len(shape) != axes:
            raise CheckpointError(
                "a tensor's shape differs from the release's",
                code="wrong_shape",
                field=name,
                seen=str(shape),
                accepted=f"{axes} axes",
            )
        return shape

    def has(self, start: str) -> bool:
        """Say whether any name starts so."""
        return any(name.startswith(start) for name in self._tensors)

    def count(self, start: str) -> int:
        """Return how many numbers follow a start: the members of a list of modules."""
        pattern = re.compile(re.escape(start) + r"\.(\d+)\.")
        return len({found[1] for name in self._tensors if (found := pattern.match(name))})

    def blocks(self, start: str, hidden: str) -> dict[str, int]:
        """Return layers, width and feed-forward width of a Transformer's list of blocks."""
        feedforward, width = self.of(f"{start}.0.{hidden}")
        return {"layers": self.count(start), "width": width, "feedforward": feedforward}


def _text(shapes: Shapes) -> dict[str, Any]:
    bert = "encoders.text.bert"
    return {
        **shapes.blocks(f"{bert}.encoder.layer", "intermediate.dense.weight"),
        "heads": HEADS["text"],
        "vocab_size": shapes.of(f"{bert}.embeddings.word_embeddings.weight")[0],
        "max_tokens": shapes.of(f"{bert}.embeddings.position_embeddings.weight")[0],
        "pooler": shapes.has(f"{bert}.pooler."),
        "mlm_positions": "all",
    }


def _image(shapes: Shapes) -> dict[str, Any]:
    vit = "encoders.image.vit"
    patch = shapes.of(f"{vit}.embeddings.patch_embeddings.projection.weight", 4)[-1]
    patches = shapes.of(f"{vit}.embeddings.position_embeddings", 3)[1] - 1
    return {
        **shapes.blocks(f"{vit}.layers", "mlp.fc1.weight"),
        "heads": HEADS["image"],
        "patch": patch,
        "size": patch * round(patches**0.5),
        "pooler": shapes.has(f"{vit}.pooler."),
    }


def _tabular(shapes: Shapes) -> dict[str, Any]:
    tabular, decoder = "encoders.tabular", "pretexts.tabular.decoder"
    embeddings = [
        shapes.of(f"{tabular}.embedder.embeddings.{i}.weight")
        for i in range(shapes.count(f"{tabular}.embedder.embeddings"))
    ]
    entries = shapes.of(f"{tabular}.encoder.initial_bn.weight", 1)[0]
    sizes: dict[str, Any] = {
        "categories": [codes for codes, _ in embeddings],
        "numbers": entries - sum(width for _, width in embeddings),
        "width": shapes.of(f"{tabular}.encoder.att_transformers.0.fc.weight")[1],
        "steps": shapes.count(f"{tabular}.encoder.att_transformers"),
        "gamma": GAMMA,
        "shared": shapes.count(f"{tabular}.encoder.initial_splitter.shared.glu_layers"),
        "independent": shapes.count(f"{tabular}.encoder.initial_splitter.specifics.glu_layers"),
    }
    if embeddings:
        sizes["category_width"] = embeddings[0][1]
    if shapes.has(f"{tabular}.final_mapping."):
        sizes["output_mapping"] = shapes.of(f"{tabular}.final_mapping.weight")[0]
    if shapes.has(f"{decoder}."):
        first = f"{decoder}.feat_transformers.0"
        sizes["decoder_shared"] = shapes.count(f"{first}.shared.glu_layers")
        sizes["decoder_independent"] = shapes.count(f"{first}.specifics.glu_layers")
    return sizes


def _timeseries(shapes: Shapes) -> dict[str, Any]:
    series = "encoders.timeseries"
    features = shapes.of(f"{series}.project_inp.weight")[1]
    return {
        **shapes.blocks(f"{series}.layers", "linear1.weight"),
        "heads": HEADS["timeseries"],
        "features": features,
        "steps": shapes.of(f"{series}.positions")[0],
        "groups": [[column] for column in range(features)],  # each is hidden by itself
    }


_READERS = {
    Modality.TEXT: _text,
    Modality.IMAGE: _image,
    Modality.TABULAR: _tabular,
    Modality.TIMESERIES: _timeseries,
}
