"""Recipes that start from published weights, through the commands."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from lanistr.errors import CheckpointError, ConfigError, DataError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import read_config
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.text import TextOptions
from lanistr.tasks import TaskSpec, find_task
from tests.published import write_bert, write_flava, write_timm, write_vit
from training import finetune, pretrain
from training.data.store import Dataset
from training.initial import open_data
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.synthetic import SyntheticOptions, draw
from training.recipe import FinetuneRecipe, PretrainRecipe, load_recipe
from training.run import Run

PAPER = {
    "text": "bert-base-uncased",
    "image": "google/vit-base-patch16-224",
    "fusion": "facebook/flava-full",
}


def test_pictures_that_mean_something_else_mirrored_are_not_mirrored(stays: Path) -> None:
    recipe = load_recipe("demo", "pretrain", PretrainRecipe, ["augment.flip=0.5"])
    with pytest.raises(
        ConfigError, match=r"augment\.flip: the task file does not allow mirrored images.*seen 0\.5"
    ):
        open_data(stays, recipe)


def words_of(data: Path) -> tuple[str, ...]:
    ids = Tokenizer.from_file(str(data / "tokenizer.json")).get_vocab()
    return tuple(sorted(ids, key=ids.__getitem__))


@pytest.fixture(scope="session")
def published(reviews: Path, shop: Path) -> dict[str, Path]:
    """Small checkpoints that fit the reviews."""
    sizes = Dataset.open(reviews).preprocessor.dimensions()
    words = words_of(reviews)
    text = {"vocab_size": len(words), "max_position_embeddings": 512, "num_hidden_layers": 1}
    folders = {part: shop / "published" / part for part in ("text", "image", "timm", "fusion")}
    write_bert(folders["text"], words=words, **text)
    write_vit(folders["image"], image_size=sizes["image"]["size"], patch_size=8)
    write_timm(folders["timm"], img_size=sizes["image"]["size"], patch_size=8)
    write_flava(folders["fusion"], num_hidden_layers=1)
    return folders


@pytest.fixture(scope="session")
def notes_and_pictures(published: dict[str, Path], shop: Path) -> Path:
    """Reviews without rows, prepared with the checkpoint's vocabulary."""
    rating = find_task("rating").model_dump()
    kept = {Modality.TEXT, Modality.IMAGE}
    samples = [
        replace(
            each,
            parts={name: part for name, part in each.parts.items() if name in kept},
            subgroups={},
        )
        for each in draw("rating", SyntheticOptions(samples=60, missing=0))
    ]
    prepare(
        lambda: samples,
        TaskSpec.model_validate(rating | {"tabular": None}),
        shop / "notes-and-pictures",
        options=PreprocessOptions(
            text=TextOptions(vocabulary=published["text"] / "vocab.txt", max_tokens=64),
            image=ImageOptions(size=16),
        ),
        splits=SplitOptions(),
        source={"from": "synthetic"},
    )
    return shop / "notes-and-pictures"


def named(published: dict[str, Path], *parts: str) -> tuple[str, ...]:
    return tuple(f"init.{part}={published[part]}" for part in parts)


# ---- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mimic-iv", "amazon-office"])
def test_the_papers_recipes_start_from_what_the_paper_did(name: str) -> None:
    assert load_recipe(name, "pretrain", PretrainRecipe, ()).init.named() == PAPER
    bare = load_recipe(name, "pretrain", PretrainRecipe, ("init={}",))
    assert bare.init.named() == {}
    own = load_recipe(name, "pretrain", PretrainRecipe, ("init.image=/path/x", "init.text=null"))
    assert own.init.named() == {"image": "/path/x", "fusion": "facebook/flava-full"}


def test_a_part_without_published_weights_is_an_unknown_key() -> None:
    with pytest.raises(ConfigError, match=r"init\.txt: .*did you mean 'text'"):
        load_recipe("demo", "pretrain", PretrainRecipe, ("init.txt=bert-base-uncased",))
    with pytest.raises(ConfigError, match=r"init\.text"):
        load_recipe("demo", "pretrain", PretrainRecipe, ("init.text=''",))


# ---- dry runs -----------------------------------------------------------------------------------


def test_a_dry_run_names_what_it_would_fetch_and_fetches_nothing(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanistr.model.published.snapshot_download", None)
    plan = json.loads(command(pretrain.main, "--recipe", "mimic-iv", "--dry-run"))
    assert plan["init"] == {
        part: {"from": name, "sizes": "the recipe's"} for part, name in PAPER.items()
    }
    assert plan["parameters"]["total"] == 277_158_390


@pytest.mark.parametrize("main", [pretrain.main, finetune.main])
@pytest.mark.parametrize("with_data", [False, True])
def test_a_dry_run_looks_into_folders(
    main: Callable[[], None],
    with_data: bool,
    reviews: Path,
    published: dict[str, Path],
    command: Callable[..., str],
) -> None:
    given = ("--data", reviews) if with_data else ()
    overrides = (*named(published, "image"), "init.text=bert-base-uncased")
    said = command(main, "--recipe", "demo", "--dry-run", *given, overrides=overrides)
    plan = json.loads(said)
    assert plan["init"]["image"] == {
        "from": str(published["image"]),
        "sizes": "the checkpoint's",
    }
    assert plan["init"]["text"]["sizes"] == "the recipe's"
    assert plan["model"]["image"]["width"] == 16
    assert plan["model"]["text"]["width"] == 64


# ---- what is trained ----------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["image", "timm"])
def test_pretraining_starts_from_published_weights_of_other_sizes(
    image: str,
    reviews: Path,
    shop: Path,
    published: dict[str, Path],
    command: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = shop / f"from-published-{image}"
    command(
        pretrain.main, "--recipe", "demo", "--data", reviews, "--out", out,
        overrides=(
            *named(published, "text", "fusion"), f"init.image={published[image]}",
            "optim.epochs=1", "optim.lr=1e-30", "optim.weight_decay=0",
        ),
    )  # fmt: skip
    config = read_config(out / "model").config
    assert config.text is not None
    assert config.image is not None
    assert (config.text.width, config.image.width, config.fusion.width) == (16, 16, 16)
    assert (config.text.layers, config.image.layers, config.fusion.layers) == (1, 2, 1)
    assert config.image.norm_eps == (1e-6 if image == "timm" else 1e-12)
    assert (
        "model.text.width is 16, as in the initial weights, instead of the recipe's 64"
        in caplog.text
    )
    tensors = load_file(out / "model" / "model.safetensors")
    bert = load_file(published["text"] / "model.safetensors")
    flava = load_file(published["fusion"] / "model.safetensors")
    words = "embeddings.word_embeddings.weight"
    assert torch.equal(tensors[f"core.encoders.text.bert.{words}"], bert[f"bert.{words}"])
    cls = flava["flava.multimodal_model.cls_token"]
    assert torch.equal(tensors["core.fusion.flava.cls_token"], cls)
    assert Run.open(out).config.recipe["init"]["image"] == str(published[image])


def test_fine_tuning_freezes_encoders_that_were_published(
    notes_and_pictures: Path,
    published: dict[str, Path],
    shop: Path,
    command: Callable[..., str],
) -> None:
    out = shop / "tuned-published"
    command(
        finetune.main, "--recipe", "demo", "--data", notes_and_pictures, "--out", out,
        overrides=(
            *named(published, "text", "image"), "freeze_encoders=true", "optim.epochs=1",
        ),
    )  # fmt: skip
    tensors = load_file(out / "model" / "model.safetensors")
    bert = load_file(published["text"] / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    assert torch.equal(tensors[f"encoders.text.bert.{name}"], bert[f"bert.{name}"])


# ---- what is refused ----------------------------------------------------------------------------


def test_an_encoder_that_would_be_frozen_at_random_is_named(
    reviews: Path, published: dict[str, Path], shop: Path, command: Callable[..., str]
) -> None:
    out = shop / "never-frozen"
    with pytest.raises(ConfigError, match="frozen with random weights: tabular;"):
        command(
            finetune.main, "--recipe", "demo", "--data", reviews, "--out", out,
            overrides=(*named(published, "text", "image"), "freeze_encoders=true"),
        )  # fmt: skip
    assert not out.exists()


@pytest.mark.parametrize("main", [pretrain.main, finetune.main])
def test_a_run_and_published_weights_cannot_both_be_the_start(
    main: Callable[[], None], stays_pretrained: Path, command: Callable[..., str]
) -> None:
    with pytest.raises(ConfigError, match=r"given by a run and,.*bert-base.*--set init=\{\}"):
        command(
            main, "--recipe", "demo", "--init", stays_pretrained, "--dry-run",
            overrides=("init.text=bert-base-uncased",),
        )  # fmt: skip


def test_data_with_another_vocabulary_are_refused_before_anything_is_made(
    reviews: Path, shop: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    words = words_of(reviews)
    write_bert(tmp_path, vocab_size=len(words), words=(*words[:-2], words[-1], words[-2]))
    with pytest.raises(DataError, match=r"differs from that of .*--vocabulary"):
        command(
            pretrain.main, "--recipe", "demo", "--data", reviews, "--out", shop / "never",
            overrides=(f"init.text={tmp_path}",),
        )  # fmt: skip
    assert not (shop / "never").exists()


def test_pictures_of_another_size_than_the_checkpoint_saw_are_refused(
    reviews: Path, shop: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    write_vit(tmp_path, image_size=64, patch_size=8)
    with pytest.raises(CheckpointError, match=r"init\.image: .*model\.image\.size.*accepted: 64"):
        command(
            pretrain.main, "--recipe", "demo", "--data", reviews, "--out", shop / "never",
            overrides=(f"init.image={tmp_path}",),
        )  # fmt: skip
    assert not (shop / "never").exists()


def test_weights_for_a_part_that_the_recipe_leaves_out_are_refused(
    published: dict[str, Path], command: Callable[..., str]
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"init\.image: initial weights are given for a component that the model",
    ):
        command(
            pretrain.main, "--recipe", "demo", "--dry-run",
            overrides=(*named(published, "image"), "model.image=null"),
        )  # fmt: skip


def test_a_recipe_does_not_read_what_the_data_do_not_bring(reviews: Path) -> None:
    recipe = load_recipe("demo", "finetune", FinetuneRecipe, ["system=medfuse"])
    with pytest.raises(ConfigError, match=r"modalities: .*seen 'timeseries'; accepted: of text"):
        open_data(reviews, recipe)
