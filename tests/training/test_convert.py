"""Checkpoints of the research release give its numbers here: losses, embeddings and logits."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from lanistr.errors import BundleError, CheckpointError, ConfigError
from lanistr.modalities import Modality
from lanistr.model import masking
from lanistr.model.checkpoint import from_pretrained, weights
from lanistr.model.config import LanistrConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import TensorBatch, TensorPart
from tests.training.release_reference import (
    EMBEDDED,
    PAPER,
    PARTS,
    SMALL,
    ReleasedModel,
    old_names,
    shake,
)
from training import released
from training.convert import main
from training.recipe import model_config
from training.run import Run

CASES, LENGTH = 6, 9
ENTRIES = EMBEDDED * len(SMALL["categories"]) + SMALL["numbers"]
EQUAL = {"rtol": 0.0, "atol": 1e-4}
Layout = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def with_module(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def tensorflow_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in state.items()
    }


LAYOUTS: dict[str, Layout] = {
    "transformers 5": dict,
    "transformers before 5": old_names,
    "wrapped": with_module,
    "BERT from TensorFlow": tensorflow_norms,
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def convert(tmp_path: Path, command: Callable[..., str]) -> Callable[..., Path]:
    """Return a function that saves a checkpoint, converts it and returns the folder made."""

    def run(tensors: Any, dataset: str, *overrides: str) -> Path:
        file, out = tmp_path / "released.pth.tar", tmp_path / "run"
        torch.save(tensors, file)
        given = ("--released", file, "--dataset", dataset, "--out", out)
        command(main, *given, overrides=overrides)
        return out

    return run


def make(dataset: str, outputs: int | None = None) -> ReleasedModel:
    model = ReleasedModel(dataset, outputs).eval()
    shake(model)
    return model


# ---- the same cases, for the release and for us -------------------------------------------------


class Cases:
    """Random cases, some of which lack some modalities, in both forms.

    Args:
        dataset: whose modalities they bring.
        several: the first case brings two notes and two pictures, and so has nothing missing.
    """

    def __init__(self, dataset: str, *, several: bool = False) -> None:
        lacking: dict[str, list[int]] = {"text": [1, 4], "image": [2, 4], "timeseries": [3, 4]}
        self.rows = {
            part: [case for case in range(CASES) if case not in lacking.get(part, [])]
            for part in PARTS[dataset]
        }
        self.dense: dict[str, Tensor] = {
            "input_ids": torch.zeros(CASES, 1, LENGTH, dtype=torch.int64),
            "attention_mask": torch.zeros(CASES, 1, LENGTH, dtype=torch.int64),
            "pixel_values": torch.zeros(CASES, 1, 3, SMALL["size"], SMALL["size"]),
            "numbers": torch.randn(CASES, SMALL["numbers"]),
            "codes": torch.stack(
                [torch.randint(0, n, (CASES,)) for n in SMALL["categories"]], dim=1
            ),
            "series": torch.zeros(CASES, SMALL["steps"], SMALL["features"]),
        }
        if several:
            for name in ("input_ids", "attention_mask", "pixel_values"):
                self.dense[name] = self.dense[name].repeat_interleave(2, dim=1)
            self.rows |= {"text": list(range(CASES)), "image": list(range(CASES))}
        for case in range(CASES):
            for note in range(self.dense["input_ids"].shape[1]):
                words = int(torch.randint(1, LENGTH - 1, ())) if case in self.rows["text"] else 0
                ids = torch.cat(
                    [torch.tensor([101]), torch.randint(104, 120, (words,)), torch.tensor([102])]
                )
                self.dense["input_ids"][case, note, : words + 2] = ids
                self.dense["attention_mask"][case, note, : words + 2] = 1
        self.pixels = torch.randint(0, 256, self.dense["pixel_values"].shape, dtype=torch.uint8)
        for case in self.rows["image"]:
            self.dense["pixel_values"][case] = scaled(self.pixels[case], dataset)
        for case in self.rows.get("timeseries", ()):
            self.dense["series"][case] = torch.randn(SMALL["steps"], SMALL["features"])

    def batch(self) -> TensorBatch:
        """The batch for our model: only what is present."""
        dense, parts = self.dense, {}
        pixels = {"pixels": self.pixels}
        arrays = {
            Modality.TEXT: {
                "token_ids": dense["input_ids"],
                "attention_mask": dense["attention_mask"],
            },
            Modality.IMAGE: pixels,
            Modality.TABULAR: {"numbers": dense["numbers"], "categories": dense["codes"]},
            Modality.TIMESERIES: {"values": dense["series"]},
        }
        for modality in Modality:
            if modality not in self.rows:
                continue
            rows, named = torch.tensor(self.rows[modality]), arrays[modality]
            several = modality in (Modality.TEXT, Modality.IMAGE)
            count = next(iter(named.values())).shape[1] if several else 1
            parts[modality] = TensorPart(
                rows.repeat_interleave(count),
                {
                    name: array[rows].flatten(0, 1) if several else array[rows]
                    for name, array in named.items()
                },
            )
        return TensorBatch(CASES, parts)


def scaled(pixels: Tensor, dataset: str) -> Tensor:
    if dataset == "mimic":
        return (pixels / 255 - 0.5) / 0.5
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    return (pixels / 255 - mean[:, None, None]) / deviation[:, None, None]


@pytest.fixture
def given_masks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Masks that our model takes instead of drawing its own."""
    shape = (CASES, LENGTH)
    patches = (SMALL["size"] // SMALL["patch"]) ** 2
    masks = {
        "text": torch.rand(shape) < 0.4,
        "image": torch.rand(CASES, patches) < 0.5,
        "tabular": torch.rand(CASES, ENTRIES) < 0.3,
        "timeseries": torch.rand(CASES, SMALL["steps"], SMALL["features"]) < 0.3,
    }
    masks["tabular"][2] = False  # a row in which nothing is hidden counts as an error of 0

    def tokens(ids: Tensor, allowed: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        masks["text"] &= allowed
        return torch.zeros_like(ids), masks["text"]

    monkeypatch.setattr(masking, "draw_tokens", tokens)
    monkeypatch.setattr(masking, "draw_patches", lambda *_, **__: masks["image"])
    monkeypatch.setattr(masking, "draw_columns", lambda *_, **__: masks["tabular"])
    monkeypatch.setattr(masking, "draw_runs", lambda *_, **__: masks["timeseries"])
    return masks


# ---- the same numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dataset", PARTS)
@torch.no_grad()
def test_a_pretrained_checkpoint_gives_the_releases_losses_and_embeddings(
    dataset: str, layout: Layout, convert: Callable[..., Path], given_masks: dict[str, Tensor]
) -> None:
    reference, cases = make(dataset), Cases(dataset)
    run = convert(layout(reference.state_dict()), dataset)
    model = from_pretrained(run / "model", LanistrForPretraining)
    fused: list[Tensor] = []
    model.core.fusion.register_forward_hook(lambda _m, _i, out: fused.append(out))
    got = model(cases.batch(), Generator())
    want, whole, masked = reference.pretrain(cases.dense, given_masks)
    assert got.keys() == want.keys()
    for name, loss in want.items():
        torch.testing.assert_close(got[name], loss, **EQUAL, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(fused[0], whole, **EQUAL)
    torch.testing.assert_close(fused[1], masked, **EQUAL)


@torch.no_grad()
def test_table_rows_are_normalised_by_their_batch_in_training_as_in_the_release(
    convert: Callable[..., Path], given_masks: dict[str, Tensor]
) -> None:
    reference, cases = make("amazon"), Cases("amazon")
    model = from_pretrained(
        convert(reference.state_dict(), "amazon") / "model", LanistrForPretraining
    )
    reference.tabular_encoder.train()
    model.core.encoders["tabular"].train()
    model.pretexts["tabular"].train()
    got = model(cases.batch(), Generator())
    want, _, _ = reference.pretrain(cases.dense, given_masks)
    for name, loss in want.items():
        torch.testing.assert_close(got[name], loss, **EQUAL)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("dataset", "classes"), [("mimic", 2), ("amazon", 5)])
@torch.no_grad()
def test_a_fine_tuned_checkpoint_gives_the_releases_logits_and_embeddings(
    dataset: str, classes: int, several: bool, layout: Layout, convert: Callable[..., Path]
) -> None:
    reference, cases = make(dataset, classes), Cases(dataset, several=several)
    model = from_pretrained(convert(layout(reference.state_dict()), dataset) / "model", Lanistr)
    batch = model.complete(cases.batch())
    tokens, mask = model.assemble(batch, model.encode(batch.parts))
    wanted = reference.tokens(cases.dense)
    torch.testing.assert_close(tokens, wanted, **EQUAL)
    text = wanted[:, 0]
    assert set(text.unique().tolist()) == {0.0, 1.0}  # the fault that compat reproduces
    fused = reference.mm_fusion(wanted).last_hidden_state
    torch.testing.assert_close(model.fusion(tokens, mask), fused, **EQUAL)
    output = model(cases.batch())
    torch.testing.assert_close(output.logits, reference.logits(cases.dense), **EQUAL)
    embedding = torch.nn.functional.normalize(fused[:, 0], dim=-1)
    torch.testing.assert_close(output.embedding, embedding, **EQUAL)


@torch.no_grad()
def test_pictures_normalised_before_may_be_given_as_floats(convert: Callable[..., Path]) -> None:
    reference, cases = make("amazon", 5), Cases("amazon")
    model = from_pretrained(convert(reference.state_dict(), "amazon") / "model", Lanistr)
    batch = cases.batch()
    rows = torch.tensor(cases.rows["image"])
    floats = TensorPart(rows, {"pixels": cases.dense["pixel_values"][rows, 0]})
    given = TensorBatch(CASES, {**batch.parts, Modality.IMAGE: floats})
    torch.testing.assert_close(model(given).logits, reference.logits(cases.dense), **EQUAL)


@torch.no_grad()
def test_a_case_that_brings_nothing_is_judged_as_the_release_judges_it(
    convert: Callable[..., Path],
) -> None:
    """A batch without any note has empty ones of full length; only their [CLS] matters."""
    reference, cases = make("mimic", 2), Cases("mimic")
    model = from_pretrained(convert(reference.state_dict(), "mimic") / "model", Lanistr)
    nothing = {name: each[4:5] for name, each in cases.dense.items()}  # case 4 lacks everything
    got = model(TensorBatch(1, {}))
    torch.testing.assert_close(got.logits, reference.logits(nothing), **EQUAL)


def test_one_class_is_a_number(convert: Callable[..., Path]) -> None:
    run = convert(make("amazon", 1).state_dict(), "amazon")
    config = from_pretrained(run / "model", Lanistr).config
    assert config.head is not None
    assert (config.head.kind, config.head.outputs) == ("regression", 1)


# ---- sizes and the folder -----------------------------------------------------------------------


@pytest.mark.parametrize("layout", [dict, old_names])
@pytest.mark.parametrize(
    ("dataset", "outputs"), [("mimic", None), ("mimic", 2), ("amazon", None), ("amazon", 5)]
)
def test_a_checkpoint_of_the_papers_size_fits_the_papers_model(
    dataset: str, outputs: int | None, layout: Layout
) -> None:
    """Names and shapes alone, without memory."""
    with torch.device("meta"):
        state = layout(ReleasedModel(dataset, outputs, PAPER).state_dict(keep_vars=True))
        tensors = released.translate(state)
        config = LanistrConfig.parse(released.sizes(tensors, dataset), ConfigError, "")
        model = Lanistr(config) if outputs else LanistrForPretraining(config)
    own = {name.removeprefix("core."): tuple(t.shape) for name, t in weights(model).items()}
    assert own.items() <= {name: tuple(t.shape) for name, t in tensors.items()}.items()
    embedded = EMBEDDED * sum(PAPER["categories"])
    papers = {
        ("mimic", None): 277_158_390,
        ("mimic", 2): 241_619_646,
        ("amazon", None): 277_521_278 + embedded,
        ("amazon", 5): 241_972_709 + embedded,
    }
    assert sum(each.numel() for each in model.parameters()) == papers[dataset, outputs]


def test_sizes_are_those_of_the_tensors(convert: Callable[..., Path]) -> None:
    config = from_pretrained(
        convert(make("amazon", 5).state_dict(), "amazon") / "model", Lanistr
    ).config
    assert config.compat == "release"
    assert config.tabular is not None
    assert config.tabular.categories == SMALL["categories"]
    assert (config.tabular.numbers, config.tabular.width, config.tabular.steps) == (3, 6, 2)
    assert config.tabular.output_mapping == 24
    assert config.text is not None
    assert (config.text.layers, config.text.max_tokens, config.text.pooler) == (2, 12, True)
    assert config.image is not None
    assert (config.image.size, config.image.patch) == (16, 4)


def test_the_folder_says_where_the_model_came_from(
    tmp_path: Path, convert: Callable[..., Path]
) -> None:
    run = convert(make("mimic").state_dict(), "mimic")
    said = json.loads((run / "config.json").read_text())
    file = tmp_path / "released.pth.tar"
    assert said["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (said["stage"], said["dataset"], said["converted"]) == ("pretrain", "mimic", True)
    assert {each.name for each in run.iterdir()} == {"config.json", "model"}


def test_what_is_converted_is_no_run_to_evaluate_and_no_model_to_export(
    convert: Callable[..., Path],
) -> None:
    from export.graphs import graph_sources
    from lanistr.batch import Batch

    run = convert(make("mimic", 2).state_dict(), "mimic")
    with pytest.raises(CheckpointError, match="not a finished run"):
        Run.open(run)
    with pytest.raises(BundleError, match="cannot be exported"):
        graph_sources(from_pretrained(run / "model", Lanistr), Batch(0, {}))


def test_heads_are_the_releases_or_must_be_given(convert: Callable[..., Path]) -> None:
    state = make("mimic", 2).state_dict()
    with pytest.raises(ConfigError, match=r"9 does not divide.*--set text\.heads=N"):
        convert(state, "mimic", "text.heads=9")
    with pytest.raises(ConfigError, match="did you mean 'heads'"):
        convert(state, "mimic", "text.head=4")
    config = from_pretrained(convert(state, "mimic", "text.heads=4") / "model", Lanistr).config
    assert config.text is not None
    assert (config.text.heads, config.fusion.heads) == (4, 12)


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state_dict": {"a": torch.zeros(1)}},
            "state_dict: contains something other than tensors.*seen 'dict'",
        ),
        ({"epoch": 3}, "epoch: contains something other than tensors"),
        ([torch.zeros(1)], "contains no state dict.*seen 'list'"),
        ({}, "contains no state dict"),
        ({"a": Path("x")}, "contains more than tensors, or is damaged"),
        ({"a": torch.tensor([1.0, torch.nan])}, "a: a tensor contains numbers that are not finite"),
    ],
)
def test_only_a_flat_mapping_of_finite_tensors_is_read(
    convert: Callable[..., Path], content: Any, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert(content, "mimic")


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth.tar"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"or is damaged.*accepted: a \.pth\.tar file"):
        released.read(path)


def test_missing_strange_and_misshapen_tensors_are_named(
    tmp_path: Path, convert: Callable[..., Path]
) -> None:
    whole = make("mimic", 2).state_dict()

    def refused(message: str, **changes: Tensor | None) -> None:
        named = {name.replace("__", "."): each for name, each in changes.items()}
        state = {n: t for n, t in (dict(whole) | named).items() if t is not None}
        with pytest.raises(CheckpointError, match=message):
            convert(state, "mimic")
        assert not (tmp_path / "run").exists()

    refused(r"\(1\): critic\.weight", critic__weight=torch.zeros(1))
    refused(r"does not have \(1\): encoders\.text\.bert\.more", text_encoder__more=torch.zeros(1))
    refused(r"missing in .* \(1\): projections\.text\.0\.bias", text_proj__layer1__0__bias=None)
    refused(
        "missing.*project_inp.weight|project_inp.weight: a tensor is missing",
        timeseries_encoder__project_inp__weight=None,
    )
    refused("does not match the model;", text_proj__layer1__0__bias=torch.zeros(7))
    refused(
        "tensor's shape differs from the release's", classifier__model__6__weight=torch.zeros(2)
    )
    refused("both a pretrained and a fine-tuned", mm_proj__layer1__0__bias=torch.zeros(20))


def test_layers_that_are_one_in_the_release_must_agree(convert: Callable[..., Path]) -> None:
    state = dict(make("amazon", 5).state_dict())
    name = "tabular_encoder.tabnet.encoder.feat_transformers.1.shared.glu_layers.0.fc.weight"
    state[name] = state[name] + 1
    with pytest.raises(CheckpointError, match="two tensors differ that the release shares"):
        convert(state, "amazon")
    state = dict(make("mimic").state_dict())
    state["mlm_head.predictions.bias"] = state["mlm_head.predictions.bias"] + 1
    with pytest.raises(CheckpointError, match=r"pretexts\.text\.decoder\.bias: two tensors"):
        convert(state, "mimic")


def test_the_data_set_must_be_the_checkpoints(convert: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="seen 'text, image, timeseries'; accepted: text"):
        convert(make("mimic", 2).state_dict(), "amazon")


def test_a_folder_that_holds_something_is_left_alone(
    tmp_path: Path, convert: Callable[..., Path]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note").write_text("mine")
    with pytest.raises(ConfigError, match="the folder exists"):
        convert(make("mimic", 2).state_dict(), "mimic")


def test_a_link_stays_and_the_model_is_made_where_it_leads_to(
    tmp_path: Path, convert: Callable[..., Path]
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk")
    convert(make("mimic", 2).state_dict(), "mimic")
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "disk" / "config.json").is_file()


def test_a_users_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lanistr.command import run_command

    given = [
        "--released",
        str(tmp_path / "none"),
        "--dataset",
        "mimic",
        "--out",
        str(tmp_path / "x"),
    ]
    monkeypatch.setattr(sys, "argv", ["convert", *given])
    with pytest.raises(SystemExit) as left:
        run_command(main)
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_compat_cannot_be_mixed_with_what_the_release_had_not() -> None:
    sizes = released.sizes(released.translate(make("mimic").state_dict()), "mimic")
    with pytest.raises(ConfigError, match="only a note's"):
        model_config(sizes | {"text": sizes["text"] | {"tokens": "all"}}, None)
    with pytest.raises(ConfigError, match="compares every token"):
        model_config(sizes | {"simmmm": sizes["simmmm"] | {"tokens": "cls"}}, None)
