"""What frozen encoders yield, stored once: the same numbers, keyed by weights and data."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lanistr.errors import DataError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from training.data import encoded as module
from training.data.encoded import EncodedStore, encode_once
from training.data.store import Dataset

Make = Callable[..., Path]
CPU = torch.device("cpu")


@pytest.fixture
def data(stays: Path, tmp_path: Path) -> Dataset:
    """The stays in a folder of this test's own, since the store is written beside them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for each in stays.iterdir():
        if each.is_file():
            (folder / each.name).hardlink_to(each)
    return Dataset.open(folder)


@pytest.fixture
def model(stays_finetuned: Path) -> Lanistr:
    return from_pretrained(stays_finetuned / "model", Lanistr).freeze_encoders()


def test_stored_tokens_are_the_encoders_to_half_precision(model: Lanistr, data: Dataset) -> None:
    cases = data.rows("train")[:30]
    store = EncodedStore(encode_once(model, data, cases, device=CPU, dtype=torch.float32))
    stored = to_tensors(data.batch(cases.tolist(), encoded=store))
    whole = to_tensors(data.batch(cases.tolist()))
    assert stored.parts.keys() == whole.parts.keys() == set(data.task.modalities)
    with torch.inference_mode():
        for modality, part in stored.parts.items():
            assert modality in store
            tokens = model.encoders[modality](**whole.parts[modality].arrays)
            assert part.arrays["encoded"].dtype == torch.float16
            assert torch.equal(part.sample, whole.parts[modality].sample)
            torch.testing.assert_close(part.arrays["encoded"].float(), tokens, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(model(stored).logits, model(whole).logits, rtol=1e-2, atol=1e-2)


def test_notes_whose_every_token_is_handed_on_keep_their_lengths(
    stays_finetuned: Path, data: Dataset
) -> None:
    trained = from_pretrained(stays_finetuned / "model", Lanistr)
    assert trained.config.text is not None
    text = trained.config.text.model_copy(update={"tokens": "all"})
    model = Lanistr(trained.config.model_copy(update={"text": text})).eval().freeze_encoders()
    assert data.row_counts(Modality.TEXT)[:20].max() > 1
    cases = np.arange(20)
    store = EncodedStore(encode_once(model, data, cases, device=CPU, dtype=torch.float32))
    stored = to_tensors(data.batch(cases.tolist(), encoded=store))
    whole = to_tensors(data.batch(cases.tolist()))
    mask = whole.parts[Modality.TEXT].arrays["attention_mask"]
    assert len(set(mask.sum(1).tolist())) > 1
    assert torch.equal(stored.parts[Modality.TEXT].arrays["attention_mask"], mask)
    with torch.inference_mode():
        torch.testing.assert_close(model(stored).logits, model(whole).logits, rtol=1e-2, atol=1e-2)


def test_what_was_encoded_before_is_not_encoded_again(
    model: Lanistr, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = data.rows("validation")
    folder = encode_once(model, data, cases, device=CPU, dtype=torch.float32)
    about = json.loads((folder / "about.json").read_text())
    assert about["cases"] == len(cases)

    def refuse(*_: Any) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(module, "_encode", refuse)
    assert encode_once(model, data, cases, device=CPU, dtype=torch.float32) == folder
    with pytest.raises(AssertionError, match="encoded again"):
        encode_once(model, data, cases[1:], device=CPU, dtype=torch.float32)
    with torch.no_grad():
        next(model.encoders["text"].parameters()).add_(1e-3)
    with pytest.raises(AssertionError, match="encoded again"):
        encode_once(model, data, cases, device=CPU, dtype=torch.float32)
    assert [each.name for each in (data.folder / "encoded").iterdir()] == [folder.name]


@pytest.mark.parametrize("damage", ["cut short", "zeros", "missing", "no about", "old about"])
def test_what_is_damaged_is_encoded_again_with_a_warning(
    damage: str, model: Lanistr, data: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    cases = data.rows("validation")
    folder = encode_once(model, data, cases, device=CPU, dtype=torch.float32)
    written = {each.name: each.read_bytes() for each in folder.iterdir()}
    path, about = folder / "image.f16", folder / "about.json"
    if damage == "cut short":
        path.write_bytes(written["image.f16"][:-100])
    elif damage == "zeros":
        path.write_bytes(bytes(len(written["image.f16"])))
    elif damage == "missing":
        path.unlink()
    elif damage == "no about":
        about.write_text("[]")
    else:
        about.write_text(json.dumps({**json.loads(about.read_text()), "hashes": None}))
    assert encode_once(model, data, cases, device=CPU, dtype=torch.float32) == folder
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == written
    (said,) = caplog.messages
    assert "is damaged and will be encoded again:" in said
    assert ("image.f16" in said) == ("about" not in damage)


def test_what_a_killed_run_left_is_removed(model: Lanistr, data: Dataset) -> None:
    cases = data.rows("validation")
    folder = encode_once(model, data, cases, device=CPU, dtype=torch.float32)
    left = folder.rename(folder.with_name(f".{folder.name}-draft-a1b2c3d4"))
    os.utime(left, (1, 1))
    assert encode_once(model, data, cases, device=CPU, dtype=torch.float32) == folder
    assert list(folder.parent.iterdir()) == [folder]


def test_numbers_too_large_for_half_precision_are_refused_and_leave_nothing(
    model: Lanistr, data: Dataset
) -> None:
    with torch.no_grad():
        for parameter in model.encoders["image"].vit.layernorm.parameters():
            parameter.mul_(1e6)
    with pytest.raises(DataError, match=r"image encoder.*outputs are too large for float16"):
        encode_once(model, data, data.rows("validation"), device=CPU, dtype=torch.float32)
    assert not list((data.folder / "encoded").iterdir())


def test_a_store_travels_to_another_process_by_name(model: Lanistr, data: Dataset) -> None:
    cases = data.rows("validation")
    store = EncodedStore(encode_once(model, data, cases, device=CPU, dtype=torch.float32))
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    row = int(data.references(Modality.IMAGE, cases)[0])
    again = pickle.loads(sent).arrays(Modality.IMAGE, row)["encoded"]
    assert np.array_equal(again, store.arrays(Modality.IMAGE, row)["encoded"])


def test_fine_tuning_with_stored_features_loses_what_it_loses_without(
    stays: Path, stays_pretrained: Path, make_finetuned: Make
) -> None:
    losses = []
    for name, cached in (("read", "true"), ("run", "false")):
        out = make_finetuned(
            stays, f"features-{name}", stays_pretrained, "optim.epochs=2", "freeze_encoders=true",
            f"cache_features={cached}", "modality_dropout=0.3",
        )  # fmt: skip
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        losses.append([each["loss"] for each in lines if "loss" in each])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert (stays / "encoded").is_dir()
