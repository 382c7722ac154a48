"""Small checkpoints with random weights in the formats that the model hub holds."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn
from transformers import (
    BertConfig,
    BertForPreTraining,
    FlavaConfig,
    FlavaForPreTraining,
    FlavaMultimodalConfig,
    FlavaMultimodalModel,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIAL, *(f"word{i}" for i in range(55)))


def shake(model: nn.Module) -> None:
    """Draw all weights so large that a wrong one shows, and no two layers alike."""
    with torch.no_grad():
        for each in model.parameters():
            each.normal_(std=0.3)


def write_words(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder / "vocab.txt"


def write_bert(
    folder: Path,
    kind: type[PreTrainedModel] = BertForPreTraining,
    words: tuple[str, ...] | None = WORDS,
    **changes: Any,
) -> Any:
    config = {"vocab_size": 60, "max_position_embeddings": 16, **SIZES, **changes}
    model = kind(BertConfig(**config)).eval()
    shake(model)
    model.save_pretrained(folder)
    if words:
        write_words(folder, words)
    return model


def write_vit(
    folder: Path,
    kind: type[PreTrainedModel] = ViTForImageClassification,
    pixels: dict[str, Any] | None = None,
    **changes: Any,
) -> Any:
    config = {"image_size": 16, "patch_size": 4, **SIZES, **changes}
    model = kind(ViTConfig(**config)).eval()
    shake(model)
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}, **(pixels or {})).save_pretrained(folder)
    return model


def write_timm(
    folder: Path,
    architecture: str = "vit_tiny_patch16_224",
    data: dict[str, Any] | None = None,
    **changes: Any,
) -> Any:
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = timm.create_model(architecture, **{**sizes, "num_classes": 3, **changes}).eval()
    shake(model)
    save_for_hf(model, str(folder), data_config=data, safe_serialization=True)
    return model


def write_flava(
    folder: Path, kind: type[PreTrainedModel] = FlavaForPreTraining, **changes: Any
) -> Any:
    sizes = {**SIZES, **changes}
    alone = kind is FlavaMultimodalModel
    whole = FlavaConfig(
        text_config={**SIZES, "vocab_size": 60},
        image_config={**SIZES, "image_size": 16, "patch_size": 4},
        multimodal_config=sizes,
        image_codebook_config={"hidden_size": 4, "num_blocks_per_group": 1},
        hidden_size=16,
        projection_dim=16,
        init_codebook=False,
    )
    model = kind(FlavaMultimodalConfig(**sizes) if alone else whole).eval()
    shake(model)
    model.save_pretrained(folder)
    return model


def pickle_weights(folder: Path, rename: dict[str, str] | None = None) -> None:
    """Put `pytorch_model.bin`, as older checkpoints have it, in the place of safetensors."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    for old, new in (rename or {}).items():
        tensors = {name.replace(old, new): each for name, each in tensors.items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def edit_config(folder: Path, **changes: Any) -> None:
    """Change `config.json`; None takes a key away."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def put_into_cache(cache: Path, name: str, folder: Path) -> None:
    """Lay a checkpoint into a hub cache, as if it had been fetched by its name."""
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
