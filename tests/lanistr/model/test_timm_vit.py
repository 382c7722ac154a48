"""A timm ViT in the place of transformers'."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lanistr.errors import CheckpointError
from lanistr.model.config import LanistrConfig
from lanistr.model.hub import InitialWeights, initial_sizes, load_initial
from lanistr.model.lanistr import Lanistr
from tests.published import edit_config, pickle_weights, write_timm

SCALE = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}


def start(folder: Path, pretraining: LanistrConfig) -> tuple[Lanistr, Any]:
    init = InitialWeights(image=str(folder))
    sizes = pretraining.model_dump()
    sizes["image"] |= initial_sizes(init)["image"]
    model = Lanistr(LanistrConfig.model_validate(sizes)).eval()
    return model, load_initial(model, init)


@pytest.mark.parametrize(
    "architecture", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "vit_small_patch16_224.dino"]
)
@pytest.mark.parametrize("pickled", [False, True])
def test_it_sees_pictures_as_it_does_in_timm(
    tmp_path: Path, pretraining: LanistrConfig, architecture: str, pickled: bool
) -> None:
    theirs = write_timm(tmp_path, architecture, data=SCALE)
    if pickled:
        pickle_weights(tmp_path)
    model, report = start(tmp_path, pretraining)
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(each)[:, None, None] for each in SCALE.values())
    with torch.no_grad():
        ours = model.encoders["image"](pixels)
        features = theirs.forward_features((pixels / 255 - mean) / std)
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, features, atol=1e-5, rtol=0)
    assert report.loaded == ("encoders.image.vit",)
    assert report.fresh[-1] == "encoders.image.vit.embeddings.mask_token"
    assert report.left == ("image: head",)


def test_the_sizes_are_those_of_the_stored_model(tmp_path: Path) -> None:
    write_timm(tmp_path, data=SCALE, mlp_ratio=3)
    assert initial_sizes(InitialWeights(image=str(tmp_path)))["image"] == {
        "size": 16,
        "patch": 4,
        "width": 16,
        "layers": 2,
        "heads": 2,
        "feedforward": 48,
        "norm_eps": 1e-6,
        "mean": list(SCALE["mean"]),
        "std": list(SCALE["std"]),
    }


@pytest.mark.parametrize(
    ("architecture", "changes", "seen"),
    [
        ("vit_tiny_patch16_224", {"init_values": 1e-5}, "LayerScale at blocks.0.ls1"),
        ("vit_tiny_patch16_224", {"reg_tokens": 2}, "reg_token"),
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}, "no cls_token"),
        ("vit_tiny_patch16_224", {"no_embed_class": True}, "16 positions for 16 patches"),
        ("vit_tiny_patch16_224", {"pos_embed": "none"}, "no pos_embed"),
        ("vit_tiny_patch16_224", {"pre_norm": True}, "no patch_embed.proj.bias"),
        ("vit_tiny_patch16_224", {"qkv_bias": False}, "no blocks.0.attn.qkv.bias"),
        ("vit_tiny_patch16_224", {"qk_norm": True}, "blocks.0.attn.k_norm.bias"),
        ("vit_tiny_patch16_224", {"act_layer": "gelu_tanh"}, "GELUTanh at blocks.0.mlp.act"),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, "no norm.bias"),
        ("vit_tiny_patch16_224", {"in_chans": 1}, "1 channels"),
        ("vit_tiny_patch16_224", {"img_size": (16, 32)}, "images of 16 x 32"),
        ("deit_tiny_distilled_patch16_224", {}, "VisionTransformerDistilled"),
        ("beit_base_patch16_224", {}, "Beit"),
    ],
)
def test_what_is_not_plain_is_refused_by_name(
    tmp_path: Path, architecture: str, changes: dict[str, Any], seen: str
) -> None:
    write_timm(tmp_path, architecture, **changes)
    with pytest.raises(CheckpointError, match=r"init\.image: .*not a plain ViT") as refused:
        initial_sizes(InitialWeights(image=str(tmp_path)))
    assert seen in refused.value.seen
    assert "CLS token" in refused.value.accepted


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.pop("blocks.0.norm1.weight"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({"norm.weight": torch.zeros(3)}),
    ],
)
def test_weights_that_are_not_the_models_are_refused(
    tmp_path: Path, pretraining: LanistrConfig, damage: Callable[[dict[str, Any]], Any]
) -> None:
    from safetensors.torch import load_file, save_file

    write_timm(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"do not match the model in config\.json") as refused:
        start(tmp_path, pretraining)
    assert "\n" not in str(refused.value)


def test_an_architecture_that_timm_does_not_know_is_refused(tmp_path: Path) -> None:
    write_timm(tmp_path)
    edit_config(tmp_path, architecture="vit_of_mine")
    with pytest.raises(CheckpointError, match=r"init\.image: .*timm cannot build .*vit_of_mine"):
        initial_sizes(InitialWeights(image=str(tmp_path)))
