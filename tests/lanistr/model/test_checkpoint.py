import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lanistr.errors import CheckpointError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import (
    from_pretrained,
    load_core,
    load_encoders,
    load_heads,
    save_pretrained,
)
from lanistr.model.config import LanistrConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import TensorBatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def pretrained(
    pretraining: LanistrConfig, full_batch: TensorBatch, folder: Path
) -> LanistrForPretraining:
    """A model whose batch norms have seen data, saved in `folder`."""
    model = LanistrForPretraining(pretraining)
    model(full_batch, torch.Generator())
    save_pretrained(model, folder)
    return model.eval()


def test_a_model_comes_back_as_it_was_saved(
    finetuning: LanistrConfig, full_batch: TensorBatch, folder: Path
) -> None:
    model = Lanistr(finetuning)
    model(full_batch)
    save_pretrained(model, folder)
    again = from_pretrained(folder, Lanistr)
    assert again.config == finetuning
    assert not again.training
    assert torch.equal(again(full_batch).logits, model.eval()(full_batch).logits)


def test_a_pretraining_model_comes_back_with_its_heads(
    pretrained: LanistrForPretraining, full_batch: TensorBatch, folder: Path
) -> None:
    again = from_pretrained(folder, LanistrForPretraining)
    want, got = (each(full_batch, torch.Generator().manual_seed(4)) for each in (pretrained, again))
    assert all(torch.equal(want[name], got[name]) for name in want)


def test_saving_leaves_the_two_files_and_no_other(
    pretrained: LanistrForPretraining, folder: Path
) -> None:
    save_pretrained(pretrained, folder)  # once more, over the first
    assert {each.name for each in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_others_may_read_the_weights_as_they_may_any_new_file(
    pretrained: LanistrForPretraining, folder: Path
) -> None:
    save_pretrained(pretrained, folder)
    (folder / "new").touch()
    modes = {each.name: each.stat().st_mode for each in folder.iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_a_save_that_fails_leaves_the_old_model_whole(
    pretrained: LanistrForPretraining, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("lanistr.model.checkpoint.save_file", full)
    with pytest.raises(OSError, match="disk full"):
        save_pretrained(pretrained, folder)
    monkeypatch.undo()
    assert {each.name for each in folder.iterdir()} == {"config.json", "model.safetensors"}
    from_pretrained(folder, LanistrForPretraining)


# ---- from pretraining to pretraining ------------------------------------------------------------


def test_pretraining_goes_on_with_the_heads_that_it_had(
    pretrained: LanistrForPretraining, full_batch: TensorBatch, folder: Path
) -> None:
    model = LanistrForPretraining(pretrained.config)
    load_core(model.core, folder)
    assert load_heads(model, folder).fresh == ()
    want, got = (
        each.eval()(full_batch, torch.Generator().manual_seed(4)) for each in (pretrained, model)
    )
    assert all(torch.equal(want[name], got[name]) for name in want)


def test_heads_of_other_sizes_or_of_none_start_anew_as_a_whole_and_are_named(
    pretrained: LanistrForPretraining, finetuning: LanistrConfig, folder: Path
) -> None:
    simmmm = pretrained.config.simmmm
    assert simmmm is not None
    narrow = simmmm.model_copy(update={"bottleneck": simmmm.bottleneck + 1})
    model = LanistrForPretraining(pretrained.config.model_copy(update={"simmmm": narrow}))
    before = {name: each.clone() for name, each in model.predictor.state_dict().items()}
    report = load_heads(model, folder)
    assert report.fresh == report.left == ("predictor",)
    assert {"projector", "pretexts.image"} <= set(report.loaded)
    assert all(
        torch.equal(before[name], each) for name, each in model.predictor.state_dict().items()
    )
    save_pretrained(Lanistr(finetuning), folder)
    assert load_heads(model, folder).loaded == ()


# ---- from pretraining to fine-tuning ------------------------------------------------------------


def test_what_was_pretrained_arrives_in_the_fine_tuning_model(
    pretrained: LanistrForPretraining, finetuning: LanistrConfig, folder: Path
) -> None:
    """The released code lost TabNet's weights over a key prefix, and froze random ones."""
    model = Lanistr(finetuning)
    report = load_core(model, folder)
    theirs, ours = pretrained.core.state_dict(), model.state_dict()
    assert all(torch.equal(ours[name], each) for name, each in theirs.items())
    assert any("running_var" in name and (each != 1).any() for name, each in ours.items())
    assert report.fresh == ("head",)
    assert report.left == ("predictor", "pretexts", "projector")
    assert "encoders.tabular" in report.loaded


def test_a_fine_tuned_model_can_be_the_start_of_another(
    finetuning: LanistrConfig, folder: Path
) -> None:
    first, second = Lanistr(finetuning), Lanistr(finetuning)
    save_pretrained(first, folder)
    report = load_core(second, folder)
    assert report.left == ("head",)
    assert torch.equal(first.fusion.flava.cls_token, second.fusion.flava.cls_token)
    assert first.head is not None
    assert second.head is not None
    assert not torch.equal(first.head.mlp[0].weight, second.head.mlp[0].weight)


def test_a_model_of_fewer_modalities_leaves_the_others_encoders(
    pretrained: LanistrForPretraining, finetuning: LanistrConfig, folder: Path
) -> None:
    model = Lanistr(finetuning.model_copy(update={"image": None}))
    report = load_core(model, folder)
    assert {"encoders.image", "projections.image"} <= set(report.left)


def test_an_encoder_that_was_not_pretrained_is_refused_unless_it_is_named(
    pretraining: LanistrConfig, finetuning: LanistrConfig, folder: Path
) -> None:
    small = pretraining.model_copy(update={"tabular": None})
    save_pretrained(LanistrForPretraining(small), folder)
    with pytest.raises(CheckpointError, match=r"missing.*encoders\.tabular"):
        load_core(Lanistr(finetuning), folder)
    report = load_core(Lanistr(finetuning), folder, fresh=[Modality.TABULAR])
    assert report.fresh == ("encoders.tabular", "head", "projections.tabular")


def test_layers_that_nothing_depends_on_may_be_missing(
    pretrained: LanistrForPretraining, finetuning: LanistrConfig, folder: Path
) -> None:
    assert finetuning.tabular is not None
    tabular = finetuning.tabular.model_copy(update={"output_mapping": 24})
    fusion = finetuning.fusion.model_copy(update={"pooler": True})
    model = Lanistr(finetuning.model_copy(update={"tabular": tabular, "fusion": fusion}))
    report = load_core(model, folder)
    assert report.fresh == ("encoders.tabular", "fusion", "head")  # in part


def test_a_batch_norm_of_the_same_name_that_is_used_may_not(
    pretrained: LanistrForPretraining, finetuning: LanistrConfig, folder: Path
) -> None:
    edit(folder, core__encoders__tabular__encoder__initial_bn__weight=None)
    with pytest.raises(CheckpointError, match=r"missing.*encoder\.initial_bn\.weight"):
        load_core(Lanistr(finetuning), folder)


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        ("text", "heads", 1),
        ("image", "mean", (0.4, 0.4, 0.4)),
        ("tabular", "gamma", 2.5),
        ("fusion", "heads", 1),
    ],
)
def test_weights_do_not_run_with_settings_that_they_were_not_learned_with(
    part: str, setting: str, value: Any, pretrained: LanistrForPretraining,
    finetuning: LanistrConfig, folder: Path,
) -> None:  # fmt: skip
    other = getattr(finetuning, part).model_copy(update={setting: value})
    model = Lanistr(finetuning.model_copy(update={part: other}))
    with pytest.raises(CheckpointError, match=rf"model\.{part}\.{setting}: .*another setting"):
        load_core(model, folder)
    if part != "fusion":
        with pytest.raises(CheckpointError, match=rf"model\.{part}\.{setting}: .*another setting"):
            load_encoders(model, folder, [Modality(part)])


@pytest.mark.parametrize(
    ("part", "setting"), [("text", "layers"), ("tabular", "steps"), ("fusion", "layers")]
)
def test_the_first_layers_of_a_deeper_part_are_not_taken_for_all_of_it(
    part: str, setting: str, pretraining: LanistrConfig, finetuning: LanistrConfig, folder: Path
) -> None:
    deep = getattr(pretraining, part).model_copy(update={setting: 3})
    save_pretrained(LanistrForPretraining(pretraining.model_copy(update={part: deep})), folder)
    flat = getattr(finetuning, part).model_copy(update={setting: 2})
    model = Lanistr(finetuning.model_copy(update={part: flat}))
    with pytest.raises(
        CheckpointError, match=r"contains weights that the model does not have .*\.2\."
    ):
        load_core(model, folder)
    if part != "fusion":
        with pytest.raises(CheckpointError, match=r"contains weights that the model does not have"):
            load_encoders(model, folder, [Modality(part)])


# ---- what cannot be read ------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such folder: .*model"):
        from_pretrained(folder, Lanistr)


def test_a_folder_without_a_model_says_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"accepted: a folder with config\.json"):
        from_pretrained(tmp_path, Lanistr)


def test_a_folder_without_weights_says_so(pretrained: LanistrForPretraining, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="contains no weights"):
        from_pretrained(folder, LanistrForPretraining)


def test_a_model_of_the_other_kind_is_refused(
    pretrained: LanistrForPretraining, folder: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"another kind of model.*accepted: Lanistr$"):
        from_pretrained(folder, Lanistr)


def test_a_truncated_file_is_refused(pretrained: LanistrForPretraining, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot read"):
        from_pretrained(folder, LanistrForPretraining)


@pytest.mark.parametrize("content", ["{", '"\\ud800"', "[]", '{"model": "Lanistr"}'])
def test_a_damaged_config_is_refused(
    pretrained: LanistrForPretraining, folder: Path, content: str
) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        from_pretrained(folder, LanistrForPretraining)


def test_an_unknown_setting_names_the_nearest(
    pretrained: LanistrForPretraining, folder: Path
) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["config"]["fusion"]["layer"] = data["config"]["fusion"].pop("layers")
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="did you mean 'layers'"):
        from_pretrained(folder, LanistrForPretraining)


def edit(folder: Path, **changes: torch.Tensor | None) -> None:
    """Change, add or (None) remove weights on disk."""
    tensors: dict[str, torch.Tensor | None] = dict(load_file(folder / "model.safetensors"))
    tensors |= {name.replace("__", "."): each for name, each in changes.items()}
    kept = {name: each for name, each in tensors.items() if each is not None}
    save_file(kept, folder / "model.safetensors")


def test_missing_superfluous_and_misshapen_weights_are_named(
    pretrained: LanistrForPretraining, folder: Path
) -> None:
    edit(folder, core__projections__text__0__bias=torch.zeros(7))
    with pytest.raises(
        CheckpointError, match=r"projections\.text\.0\.bias.*seen '\(7,\)'; accepted: \(24,\)"
    ):
        from_pretrained(folder, LanistrForPretraining)
    edit(folder, core__projections__text__0__bias=None)
    with pytest.raises(CheckpointError, match=r"missing.*\(1\): core\.projections\.text\.0"):
        from_pretrained(folder, LanistrForPretraining)
    edit(folder, core__projections__text__0__bias=torch.zeros(24), core__more=torch.zeros(1))
    with pytest.raises(CheckpointError, match=r"does not have.*core\.more"):
        from_pretrained(folder, LanistrForPretraining)


def test_weights_that_do_not_fit_on_the_disk_are_the_users_to_mend(
    pretraining: LanistrConfig, folder: Path
) -> None:
    model = LanistrForPretraining(pretraining)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot be written"):
            save_pretrained(model, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(folder.iterdir()) == []
