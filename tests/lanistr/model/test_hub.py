"""Published weights: what our modules then compute, and what is refused."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import (
    BertModel,
    FlavaForPreTraining,
    FlavaModel,
    FlavaMultimodalModel,
    ViTForMaskedImageModeling,
    ViTModel,
)

from lanistr.errors import CheckpointError, ConfigError
from lanistr.model.checkpoint import LoadReport, weights
from lanistr.model.config import LanistrConfig
from lanistr.model.hub import InitialWeights, initial_sizes, load_initial
from lanistr.model.lanistr import Lanistr
from tests.published import (
    SIZES,
    WORDS,
    edit_config,
    pickle_weights,
    put_into_cache,
    write_bert,
    write_flava,
    write_timm,
    write_vit,
)

Start = Callable[..., tuple[Lanistr, LoadReport]]


@pytest.fixture
def start(pretraining: LanistrConfig) -> Start:
    """Return a function that starts a model from folders, of the sizes that they dictate."""

    def make(changes: dict[str, dict[str, Any]] | None = None, **init: Path) -> Any:
        named = InitialWeights(**{part: str(folder) for part, folder in init.items()})
        sizes = pretraining.model_dump()
        for part, found in (*initial_sizes(named).items(), *(changes or {}).items()):
            sizes[part] |= found
        model = Lanistr(LanistrConfig.parse(sizes, ConfigError, "model")).eval()
        return model, load_initial(model, named)

    return make


def notes() -> tuple[Tensor, Tensor]:
    mask = torch.ones(3, 12, dtype=torch.int64)
    mask[1, 7:] = 0
    return torch.randint(5, 60, (3, 12)), mask


def pictures() -> Tensor:
    return torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.std() > 0.1  # or any two would be alike
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


# ---- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, BertModel])
def test_a_bert_says_of_notes_what_it_says_in_transformers(
    tmp_path: Path, start: Start, kind: Any
) -> None:
    theirs = write_bert(tmp_path / "bert", *filter(None, [kind]))
    model, report = start(text=tmp_path / "bert")
    ids, mask = notes()
    bert = theirs if kind else theirs.bert
    with torch.no_grad():
        assert_same(
            model.encoders["text"].hidden(ids, mask),
            bert(ids, attention_mask=mask).last_hidden_state,
        )
    assert report.loaded == ("encoders.text.bert",)
    assert report.left == (
        ("text: pooler.dense",)
        if kind
        else ("text: bert.pooler", "text: cls.predictions", "text: cls.seq_relationship")
    )


def test_a_pooler_is_taken_where_the_model_keeps_one(tmp_path: Path, start: Start) -> None:
    theirs = write_bert(tmp_path / "bert")
    model, report = start({"text": {"pooler": True}}, text=tmp_path / "bert")
    pooler = model.get_submodule("encoders.text.bert.pooler.dense")
    assert torch.equal(pooler.weight, theirs.bert.pooler.dense.weight)
    assert not any("bert" in each for each in report.fresh)


def test_the_old_names_of_layer_norms_in_an_old_pickled_file_are_known(
    tmp_path: Path, start: Start
) -> None:
    theirs = write_bert(tmp_path / "bert")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    pickle_weights(tmp_path / "bert", rename=old)
    model, _ = start(text=tmp_path / "bert")
    ids, mask = notes()
    with torch.no_grad():
        assert_same(
            model.encoders["text"].hidden(ids, mask),
            theirs.bert(ids, attention_mask=mask).last_hidden_state,
        )


def test_half_precision_weights_become_whole_ones(tmp_path: Path, start: Start) -> None:
    write_bert(tmp_path / "bert").half().save_pretrained(tmp_path / "bert")
    model, _ = start(text=tmp_path / "bert")
    assert {each.dtype for each in model.parameters()} == {torch.float32}


def test_shorter_notes_than_the_checkpoint_knows_take_its_first_positions(
    tmp_path: Path, start: Start
) -> None:
    theirs = write_bert(tmp_path / "bert")
    model, report = start({"text": {"max_tokens": 12}}, text=tmp_path / "bert")
    ids, mask = notes()
    with torch.no_grad():
        assert_same(
            model.encoders["text"].hidden(ids, mask),
            theirs.bert(ids, attention_mask=mask).last_hidden_state,
        )
    assert "text: embeddings.position_embeddings.weight from row 12" in report.left


def test_rows_beyond_the_vocabulary_that_only_fill_a_table_up_are_left(
    tmp_path: Path, start: Start
) -> None:
    write_bert(tmp_path / "bert", vocab_size=64)
    assert initial_sizes(InitialWeights(text=str(tmp_path / "bert")))["text"]["vocab_size"] == 60
    model, report = start(text=tmp_path / "bert")
    assert (
        model.get_submodule("encoders.text.bert.embeddings.word_embeddings").weight.shape[0] == 60
    )
    assert "text: embeddings.word_embeddings.weight from row 60" in report.left


# ---- image --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, ViTModel, ViTForMaskedImageModeling])
def test_a_vit_sees_pictures_as_it_does_in_transformers(
    tmp_path: Path, start: Start, kind: Any
) -> None:
    scaled = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    options = {"layer_norm_eps": 1e-3, "pixels": scaled, "encoder_stride": 4}
    theirs = write_vit(tmp_path / "vit", *filter(None, [kind]), **options)
    model, report = start(image=tmp_path / "vit")
    pixels = pictures()
    mean, std = (torch.tensor(each)[:, None, None] for each in scaled.values())
    vit = theirs if kind is ViTModel else theirs.vit
    with torch.no_grad():
        seen = vit((pixels / 255 - mean) / std).last_hidden_state
        assert_same(model.encoders["image"](pixels), seen)
    fresh = "encoders.image.vit.embeddings.mask_token"
    assert (fresh in report.fresh) == (kind is not ViTForMaskedImageModeling)


def test_what_hides_patches_is_taken_from_a_vit_that_learned_it(
    tmp_path: Path, start: Start
) -> None:
    theirs = write_vit(tmp_path / "vit", ViTForMaskedImageModeling, encoder_stride=4)
    model, _ = start(image=tmp_path / "vit")
    ours = model.get_parameter("encoders.image.vit.embeddings.mask_token")
    assert torch.equal(ours, theirs.vit.embeddings.mask_token)


@pytest.mark.parametrize(
    ("written", "mean", "std"),
    [
        (None, [0.5] * 3, [0.5] * 3),
        ({}, [0.5] * 3, [0.5] * 3),
        ({"image_mean": 0.4, "image_std": 0.3}, [0.4] * 3, [0.3] * 3),
        ({"do_normalize": False}, [0.0] * 3, [1.0] * 3),
    ],
)
def test_pixels_are_normalised_as_the_checkpoint_says(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    written: Any,
    mean: list[float],
    std: list[float],
) -> None:
    write_vit(tmp_path / "vit")
    path = tmp_path / "vit" / "preprocessor_config.json"
    path.unlink() if written is None else path.write_text(json.dumps(written))
    sizes = initial_sizes(InitialWeights(image=str(tmp_path / "vit")))["image"]
    assert (sizes["mean"], sizes["std"]) == (mean, std)
    assert ("are taken to be 0.5" in caplog.text) == (written is None)


def test_a_size_may_be_written_as_height_and_width(tmp_path: Path) -> None:
    write_vit(tmp_path / "vit")
    edit_config(tmp_path / "vit", image_size=[16, 16])
    assert initial_sizes(InitialWeights(image=str(tmp_path / "vit")))["image"]["size"] == 16
    edit_config(tmp_path / "vit", image_size=[16, 32])
    with pytest.raises(CheckpointError, match="not square"):
        initial_sizes(InitialWeights(image=str(tmp_path / "vit")))


# ---- fusion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FlavaForPreTraining, FlavaModel, FlavaMultimodalModel])
def test_fusion_computes_what_flavas_multimodal_encoder_does(
    tmp_path: Path, start: Start, kind: Any
) -> None:
    """In FlavaModel's files transformers itself finds none of the encoder's weights."""
    theirs = write_flava(tmp_path / "flava", kind)
    if kind is FlavaForPreTraining:
        theirs = theirs.flava
    if kind is not FlavaMultimodalModel:
        theirs = theirs.multimodal_model
    model, report = start(fusion=tmp_path / "flava")
    assert torch.equal(model.fusion.flava.cls_token, theirs.cls_token)
    tokens = torch.randn(3, 9, 16)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 5:] = False
    seen = torch.cat([torch.ones(3, 1), mask], dim=1)
    with torch.no_grad():
        ours = model.fusion(tokens, mask)
        all_of_it = theirs(functional.normalize(tokens, dim=-1), attention_mask=seen)
    assert_same(ours[seen.bool()], all_of_it.last_hidden_state[seen.bool()])
    assert report.loaded == ("fusion.flava",)


# ---- the whole model ----------------------------------------------------------------------------


def test_nothing_starts_at_random_unsaid(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    write_bert(tmp_path / "bert")
    write_vit(tmp_path / "vit")
    write_flava(tmp_path / "flava")
    folders = {"text": tmp_path / "bert", "image": tmp_path / "vit", "fusion": tmp_path / "flava"}
    with caplog.at_level(logging.INFO, "lanistr.model.hub"):
        _, report = start({"image": {"pooler": True}}, **folders)
    assert report.loaded == ("encoders.text.bert", "encoders.image.vit", "fusion.flava")
    assert report.fresh == (
        "encoders.tabular",
        "encoders.timeseries",
        "projections.image",
        "projections.tabular",
        "projections.text",
        "projections.timeseries",
        "encoders.image.vit.embeddings.mask_token",
        "encoders.image.vit.pooler.dense",
    )
    assert f"fusion.flava is initialized from {tmp_path / 'flava'}" in caplog.text
    assert "vit.pooler.dense is initialized at random" in caplog.text
    assert "mask_token is initialized at random" in caplog.text


def test_without_a_name_a_part_stays_as_it_is(pretraining: LanistrConfig) -> None:
    model = Lanistr(pretraining)
    before = {name: each.clone() for name, each in weights(model).items()}
    report = load_initial(model, InitialWeights())
    assert report.loaded == report.left == ()
    assert all(torch.equal(each, before[name]) for name, each in weights(model).items())
    assert initial_sizes(InitialWeights()) == {}


def test_weights_for_a_part_that_the_model_lacks_are_passed_over_with_a_warning(
    tmp_path: Path, pretraining: LanistrConfig, caplog: pytest.LogCaptureFixture
) -> None:
    write_vit(tmp_path / "vit")
    model = Lanistr(pretraining.model_copy(update={"image": None}))
    report = load_initial(model, InitialWeights(image=str(tmp_path / "vit")))
    assert report.loaded == ()
    assert report.left == (f"image: {tmp_path / 'vit'}",)
    assert "the model has no image encoder" in caplog.text


def test_a_name_is_looked_up_on_the_hub_or_in_its_cache(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    theirs = write_bert(tmp_path / "bert").bert
    write_vit(tmp_path / "vit")
    pickle_weights(tmp_path / "vit")
    write_timm(tmp_path / "timm")
    put_into_cache(tmp_path / "cache", "bert-base-uncased", tmp_path / "bert")
    put_into_cache(tmp_path / "cache", "google/vit-base-patch16-224", tmp_path / "vit")
    put_into_cache(tmp_path / "cache", "timm/vit_tiny", tmp_path / "timm")
    names = {"text": "bert-base-uncased", "image": "google/vit-base-patch16-224"}
    model, report = start(**names)
    assert report.loaded == ("encoders.text.bert", "encoders.image.vit")
    words = model.get_parameter("encoders.text.bert.embeddings.word_embeddings.weight")
    assert torch.equal(words, theirs.embeddings.word_embeddings.weight)
    assert start(image="timm/vit_tiny")[1].loaded == ("encoders.image.vit",)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"init\.text: roberta-base: no such folder, and"):
        start(text="roberta-base")  # type: ignore[arg-type]


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/no/such/folder", "./bert", "~/no-such-bert", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_asked_for_on_the_hub(name: str) -> None:
    with pytest.raises(CheckpointError, match="no such folder; seen"):
        initial_sizes(InitialWeights(text=name))


@pytest.mark.parametrize(
    ("part", "write", "seen"),
    [
        ("text", write_vit, "model_type vit"),
        ("image", write_bert, "model_type bert"),
        ("fusion", write_bert, "model_type bert"),
        ("text", write_timm, "model_type None"),
    ],
)
def test_another_kind_of_model_is_refused(
    tmp_path: Path, part: str, write: Callable[[Path], Any], seen: str
) -> None:
    write(tmp_path)
    with pytest.raises(
        CheckpointError, match=f"init.{part}: .*no checkpoint for {part}"
    ) as refused:
        initial_sizes(InitialWeights(**{part: str(tmp_path)}))
    assert refused.value.seen == seen
    assert "model_type" in refused.value.accepted


@pytest.mark.parametrize(
    ("part", "write", "changes", "field"),
    [
        ("text", write_bert, {"hidden_act": "relu"}, "hidden_act"),
        ("text", write_bert, {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
        ("text", write_bert, {"type_vocab_size": 3}, "type_vocab_size"),
        ("text", write_bert, {"position_embedding_type": "relative_key"}, "position_embedding"),
        ("text", write_bert, {"is_decoder": True}, "is_decoder"),
        ("image", write_vit, {"qkv_bias": False}, "qkv_bias"),
        ("image", write_vit, {"num_channels": 1}, "num_channels"),
        ("fusion", write_flava, {"use_cls_token": False}, "use_cls_token"),
        ("fusion", write_flava, {"hidden_act": "gelu_new"}, "hidden_act"),
    ],
)
def test_a_model_that_computes_what_ours_does_not_is_refused_by_name(
    tmp_path: Path, part: str, write: Callable[..., Any], changes: dict[str, Any], field: str
) -> None:
    write(tmp_path, **changes)
    with pytest.raises(
        CheckpointError,
        match=rf"init\.{part}: .*{field}.*: the model has a setting that is not supported",
    ):
        initial_sizes(InitialWeights(**{part: str(tmp_path)}))


def test_pixels_on_another_scale_are_refused(tmp_path: Path) -> None:
    write_vit(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_rescale": false}')
    with pytest.raises(CheckpointError, match=r"init\.image: .*rescale_factor"):
        initial_sizes(InitialWeights(image=str(tmp_path)))


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("text", {"max_tokens": 32}, r"model\.text\.max_tokens.*seen 32; accepted: at most 16"),
        ("text", {"vocab_size": 59}, r"model\.text\.vocab_size.*seen 59; accepted: 60"),
        ("image", {"size": 32}, r"model\.image\.size.*seen 32; accepted: 16"),
        ("image", {"mean": [0.1, 0.2, 0.3]}, r"model\.image\.mean"),
        ("image", {"heads": 4}, r"model\.image\.heads"),
        ("fusion", {"layers": 1}, r"model\.fusion\.layers.*seen 1; accepted: 2"),
    ],
)
def test_a_model_of_other_sizes_is_refused_before_anything_is_copied(
    tmp_path: Path, start: Start, part: str, changes: dict[str, Any], said: str
) -> None:
    {"text": write_bert, "image": write_vit, "fusion": write_flava}[part](tmp_path)
    with pytest.raises(
        CheckpointError, match=rf"init\.{part}: .*sizes differ from the checkpoint.*|{said}"
    ) as refused:
        start({part: changes}, **{part: tmp_path})
    assert refused.match(said)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("part", "write", "name"),
    [
        ("text", write_bert, "bert.encoder.layer.1.output.dense.weight"),
        ("image", write_vit, "vit.encoder.layer.0.attention.attention.key.bias"),
        ("fusion", write_flava, "flava.multimodal_model.cls_token"),
    ],
)
def test_a_missing_weight_is_refused_and_none_drawn_in_its_place(
    tmp_path: Path, start: Start, part: str, write: Callable[[Path], Any], name: str
) -> None:
    write(tmp_path)
    rewrite(tmp_path, lambda tensors: tensors.pop(name))
    with pytest.raises(
        CheckpointError, match=rf"init\.{part}: .*the checkpoint lacks 1 of .* weights"
    ):
        start(**{part: tmp_path})


@pytest.mark.parametrize(
    ("part", "write", "changes"),
    [
        ("text", write_bert, {"num_hidden_layers": 1}),
        ("image", write_vit, {"num_hidden_layers": 1}),
        ("fusion", write_flava, {"multimodal_config": {**SIZES, "num_hidden_layers": 1}}),
    ],
)
def test_more_layers_than_the_config_says_are_refused(
    tmp_path: Path,
    start: Start,
    part: str,
    write: Callable[[Path], Any],
    changes: dict[str, Any],
) -> None:
    write(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=rf"init\.{part}: .*1\..* is not part of the model"):
        start(**{part: tmp_path})


def test_the_position_numbers_in_older_files_are_passed_over(tmp_path: Path, start: Start) -> None:
    write_bert(tmp_path)
    numbers = {"bert.embeddings.position_ids": torch.arange(16)[None]}
    rewrite(tmp_path, lambda tensors: tensors.update(numbers))
    assert start(text=tmp_path)[1].loaded == ("encoders.text.bert",)


def test_a_weight_of_another_shape_than_the_config_says_is_refused(
    tmp_path: Path, start: Start
) -> None:
    write_bert(tmp_path)
    name = "bert.encoder.layer.1.output.dense.weight"
    rewrite(tmp_path, lambda tensors: tensors.update({name: torch.zeros(16, 31)}))
    with pytest.raises(
        CheckpointError, match=r"init\.text: .*output\.dense\.weight does not match config"
    ):
        start(text=tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.safetensors", "damaged", "cannot read the weights"),
        ("model.safetensors", None, "cannot read the weights"),
        ("config.json", None, "contains no config.json"),
        ("config.json", "{", "cannot read .*config.json"),
        ("config.json", "[]", "cannot read .*config.json"),
        ("config.json", '{"model_type": "bert", "hidden_size": "x"}', "cannot read config.json"),
        ("tokenizer.json", "{}", "cannot read the tokenizer"),
    ],
)
def test_a_damaged_or_missing_file_is_refused_in_one_line(
    tmp_path: Path, start: Start, file: str, content: str | None, said: str
) -> None:
    write_bert(tmp_path)
    (tmp_path / file).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=said) as refused:
        start(text=tmp_path)
    assert "\n" not in str(refused.value)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize(("part", "write"), [("text", write_bert), ("image", write_timm)])
def test_no_code_in_a_pickled_file_is_run(
    tmp_path: Path, start: Start, part: str, write: Callable[[Path], Any]
) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weight": Evil(tmp_path / "trace")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot read the weights") as refused:
        start(**{part: tmp_path})
    assert "contains only tensors" in refused.value.accepted
    assert not (tmp_path / "trace").exists()


def test_safetensors_go_before_a_pickled_file(tmp_path: Path, start: Start) -> None:
    write_bert(tmp_path, words=WORDS)
    torch.save({"weight": Evil(tmp_path / "trace")}, tmp_path / "pytorch_model.bin")
    assert start(text=tmp_path)[1].loaded == ("encoders.text.bert",)
    assert not (tmp_path / "trace").exists()
