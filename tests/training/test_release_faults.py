"""Every known fault of the research release has a test here that would fail on it.

`compat="release"` reproduces those faults of the computation that its weights depend on; these
tests are about everything else.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from lanistr.fields import NumberField
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained, read_weights
from lanistr.model.config import LanistrConfig
from lanistr.model.fusion import FusionConfig
from lanistr.model.heads import HeadConfig, SimMMMConfig
from lanistr.model.image import ImageConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tabular import TabularConfig
from lanistr.model.tensors import TensorBatch, TensorPart
from lanistr.model.text import TextConfig
from lanistr.model.timeseries import TimeseriesConfig
from lanistr.preprocess.tabular import TabularOptions, TabularPreprocessor
from lanistr.preprocess.timeseries import TimeseriesOptions, TimeseriesPreprocessor
from lanistr.sample import Measurements
from lanistr.tasks import find_task
from training.data.store import Dataset
from training.predict import predict
from training.recipe import LossWeights

WHOLE = LanistrConfig(
    text=TextConfig(vocab_size=120, width=16, layers=1, heads=2, feedforward=16, max_tokens=16),
    image=ImageConfig(size=16, patch=4, width=16, layers=1, heads=2, feedforward=16),
    tabular=TabularConfig(numbers=3, categories=(5, 7), width=8, steps=3),
    timeseries=TimeseriesConfig(
        features=4, steps=10, groups=((0,), (1,)), width=8, layers=1, heads=2, feedforward=16
    ),
    fusion=FusionConfig(width=24, layers=1, heads=2, feedforward=24),
    simmmm=SimMMMConfig(width=16, bottleneck=4),
)
PREDICTING = WHOLE.model_copy(update={"head": HeadConfig(kind="classes", outputs=2)})


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def batch(*, without: tuple[Modality, ...] = ()) -> TensorBatch:
    """Six cases that bring everything but what is named."""
    words = torch.randint(104, 120, (6, 9))
    words[:, 0], words[:, -1] = 101, 102
    arrays = {
        Modality.TEXT: {"token_ids": words, "attention_mask": torch.ones_like(words)},
        Modality.IMAGE: {"pixels": torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)},
        Modality.TABULAR: {
            "numbers": torch.randn(6, 3),
            "categories": torch.randint(0, 5, (6, 2)),
        },
        Modality.TIMESERIES: {"values": torch.randn(6, 10, 4)},
    }
    parts = {
        each: TensorPart(torch.arange(6), named)
        for each, named in arrays.items()
        if each not in without
    }
    return TensorBatch(6, parts)


def note_fused(model: Lanistr, entering: list[Tensor]) -> None:
    """Keep the tokens (B, N, D) that enter fusion's first layer behind the CLS token."""
    model.fusion.blocks[0].register_forward_pre_hook(
        lambda _m, given: entering.append(given[0][:, 1:])
    )


# ---- pretraining --------------------------------------------------------------------------------


def test_pretraining_does_not_stop_over_two_names_of_the_image_mask() -> None:
    """The drawn mask reaches ViT, and what it hides cannot be seen there."""
    model = LanistrForPretraining(WHOLE).eval()
    embeddings = model.core.encoders["image"].vit.embeddings
    asked: list[Tensor | None] = []
    embeddings.register_forward_pre_hook(
        lambda _m, _a, named: asked.append(named["bool_masked_pos"]), with_kwargs=True
    )
    losses = model(batch(), Generator().manual_seed(1))
    assert losses["mim"].item() > 0
    hidden, nothing = asked
    assert nothing is None
    assert hidden is not None
    assert hidden.sum(dim=1).tolist() == [8] * 6  # of 16 patches


def test_pretraining_of_table_rows_sums_the_tensors_of_the_steps_not_a_list() -> None:
    model = LanistrForPretraining(WHOLE)
    encoder, pretext = model.core.encoders["tabular"], model.pretexts["tabular"]
    steps: list[list[Tensor]] = []
    decide = encoder.decide
    encoder.decide = lambda *given: steps.append(decide(*given)) or steps[-1]
    loss, tokens = pretext(encoder, batch().parts[Modality.TABULAR].arrays, Generator())
    assert len(steps[0]) == 3
    torch.testing.assert_close(tokens[:, 0], steps[0][0] + steps[0][1] + steps[0][2])
    loss.backward()
    assert encoder.embedder.embeddings[0].weight.grad is not None


# ---- the model ----------------------------------------------------------------------------------


def test_text_features_in_fine_tuning_are_not_all_0_or_1_and_have_a_gradient() -> None:
    model = Lanistr(PREDICTING).eval()
    entering: list[Tensor] = []
    note_fused(model, entering)
    model(batch()).logits.square().sum().backward()
    text_BD = entering[0][:, 0]
    assert len(text_BD[text_BD > 0].unique()) > 20
    word_grad = model.encoders["text"].bert.embeddings.word_embeddings.weight.grad
    assert word_grad is not None
    assert word_grad.abs().max() > 1e-6


def test_every_token_of_every_modality_is_normalised_over_its_features() -> None:
    model = Lanistr(PREDICTING).eval()
    entering: list[Tensor] = []
    note_fused(model, entering)
    model(batch())
    lengths = entering[0].norm(dim=-1)
    assert lengths.shape == (6, 1 + 17 + 1 + 10)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_a_missing_modality_is_not_fed_as_zeros_that_fusion_takes_for_data() -> None:
    model = Lanistr(PREDICTING).eval()
    whole = batch()
    zeros = TensorPart(torch.arange(6), {"values": torch.zeros(6, 10, 4)})
    measured_zeros = TensorBatch(6, {**whole.parts, Modality.TIMESERIES: zeros})
    missing = TensorBatch(6, {m: p for m, p in whole.parts.items() if m != Modality.TIMESERIES})
    sequences: list[Tensor] = []
    model.fusion.register_forward_pre_hook(lambda _m, given: sequences.append(given[0]))
    runs: list[int] = []
    model.encoders["timeseries"].register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        as_zeros, as_missing = model(measured_zeros).logits, model(missing).logits
    assert runs == [1]  # for the zeros that were measured, not for the missing ones
    assert sequences[0].shape[1] == sequences[1].shape[1] + 10
    assert (as_zeros - as_missing).abs().max() > 1e-4


# ---- from pretraining to fine-tuning ------------------------------------------------------------


def test_pretrained_table_weights_are_loaded_and_not_frozen_at_random(
    reviews_pretrained: Path, reviews_finetuned: Path
) -> None:
    """The recipe freezes the encoders, so what was pretrained must come out of fine-tuning."""
    before = read_weights(reviews_pretrained / "model")
    after = read_weights(reviews_finetuned / "model")
    names = [name for name in after if name.startswith("encoders.tabular.")]
    assert any(".att_transformers." in name for name in names)
    for name in names:
        assert torch.equal(after[name], before[f"core.{name}"]), name


def test_frozen_encoders_are_not_left_in_train_mode(
    reviews_pretrained: Path, reviews_finetuned: Path
) -> None:
    """Dropout would still drop and batch norms drift, although no weight changes."""
    model = Lanistr(PREDICTING).freeze_encoders().train()
    assert model.fusion.training
    assert not any(each.training for each in model.encoders.modules())
    before = read_weights(reviews_pretrained / "model")
    after = read_weights(reviews_finetuned / "model")
    statistics = [n for n in after if n.startswith("encoders.") and "running_" in n]
    assert statistics
    assert all(torch.equal(after[name], before[f"core.{name}"]) for name in statistics)


# ---- training and evaluation --------------------------------------------------------------------


@pytest.mark.parametrize("run", ["stays_pretrained", "stays_finetuned"])
def test_no_step_of_the_first_epoch_is_taken_at_learning_rate_0(
    run: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(run)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if line.get("epoch") == 0 and "lr" in line]
    assert len(rates) > 1
    assert min(rates) > 0


def test_the_validation_split_is_not_the_test_split(stays_dataset: Dataset) -> None:
    splits = [set(stays_dataset.rows(each).tolist()) for each in ("train", "validation", "test")]
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits)) == len(stays_dataset)


def test_the_best_epoch_is_not_chosen_on_the_test_split(
    ranks: Path, shop: Path, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuning goes through although no test case can be had."""
    from training.finetune import main

    rows = Dataset.rows
    asked: set[str] = set()

    def watched(self: Dataset, split: str, labelled: bool = False) -> Any:
        asked.add(split)
        assert split != "test", "the test split is looked at"
        return rows(self, split, labelled)

    monkeypatch.setattr(Dataset, "rows", watched)
    small = ("model.tabular.steps=1", "model.fusion.layers=1", "optim.epochs=2")
    given = ("--recipe", "demo", "--data", ranks, "--out", shop / "never-tested")
    command(main, *given, overrides=small)
    assert asked == {"train", "validation"}


@pytest.mark.parametrize("batch_size", [2, 7, 64])
def test_no_case_is_dropped_from_evaluation_to_fit_the_batch(
    stays_finetuned: Path, stays_dataset: Dataset, batch_size: int
) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    rows = stays_dataset.rows("test")[:11]  # which no batch size above divides
    assert len(rows) % batch_size
    outputs = predict(model, stays_dataset, rows, torch.device("cpu"), batch_size=batch_size)
    assert len(outputs) == len(rows)


# ---- preprocessing ------------------------------------------------------------------------------

MORTALITY, RATING = find_task("mortality"), find_task("rating")


def series_numbers() -> dict[str, NumberField]:
    assert MORTALITY.timeseries is not None
    fields = MORTALITY.timeseries.variables.items()
    return {name: field for name, field in fields if isinstance(field, NumberField)}


def plausible(field: NumberField, share: float) -> float:
    assert field.range is not None
    low, high = field.range
    return low + share * (high - low)


def fitted_series(*shares: float, **absurd: float) -> TimeseriesPreprocessor:
    """Fit on series of one row, each variable at these shares of its range."""
    rows = [{n: plausible(f, share) for n, f in series_numbers().items()} for share in shares]
    parts = [(Measurements(1.0, row),) for row in [*rows, absurd]]
    return TimeseriesPreprocessor.fit(parts, MORTALITY, TimeseriesOptions())


def test_each_column_is_standardised_by_its_own_statistics_not_its_neighbours() -> None:
    """Every variable has another range: statistics of the next column would give another z."""
    fitted = fitted_series(0.2, 0.4)  # mean at 0.3 of the range, deviation 0.1 of it
    row = {name: plausible(field, 0.4) for name, field in series_numbers().items()}
    (arrays,) = fitted.apply((Measurements(0.0, row),), IssueLog())
    numbers = arrays["values"][0, : len(row)]
    np.testing.assert_allclose(numbers, np.ones(len(row)), atol=1e-3)


def test_table_columns_too_are_standardised_by_their_own_statistics() -> None:
    assert RATING.tabular is not None
    names = [n for n, f in RATING.tabular.fields.items() if isinstance(f, NumberField)]
    rows = [{n: 10.0 ** (i + 1) * (1 + step) for i, n in enumerate(names)} for step in (0.0, 1.0)]
    fitted = TabularPreprocessor.fit(rows, RATING, TabularOptions())
    seen = [fitted.apply(row, IssueLog())[0]["numbers"][: len(names)] for row in rows]
    for column, name in enumerate(names):
        values = np.array([each[column] for each in seen])
        assert values.tolist() == pytest.approx([-1, 1], abs=1e-3), name


def test_statistics_do_not_come_from_uncleaned_values() -> None:
    """A heart rate of 10,000 is dropped before anything is learned from it."""
    clean = fitted_series(0.2, 0.4).scales["heart_rate"]
    assert fitted_series(0.2, 0.4, heart_rate=10_000.0).scales["heart_rate"] == clean


def test_a_missing_height_is_not_standardised_after_zero_imputation() -> None:
    """In the release it read -96: (0 - mean) / deviation."""
    fitted = fitted_series(0.69, 0.71)
    (arrays,) = fitted.apply((Measurements(0.0, {"heart_rate": 80.0}),), IssueLog())
    column = list(series_numbers()).index("height")
    assert np.abs(arrays["values"][:, column]).max() < 2


# ---- what the losses look at --------------------------------------------------------------------


def test_the_word_loss_looks_at_masked_words_alone() -> None:
    """A head that is sure of one word is wrong of every other, and asked of the hidden ones only.

    The release asks for every place, which makes the loss small where nothing was hidden.
    """
    model = LanistrForPretraining(WHOLE).eval()
    pretext = model.pretexts["text"]
    torch.nn.init.zeros_(pretext.decoder.weight)
    torch.nn.init.zeros_(pretext.decoder.bias)
    words = torch.full((4, 12), 110)
    words[:, 0], words[:, -1] = 101, 102
    with torch.no_grad():
        pretext.decoder.bias[110] = 50.0
    arrays = {"token_ids": words, "attention_mask": torch.ones_like(words)}
    loss, _ = pretext(model.core.encoders["text"], arrays, Generator().manual_seed(3))
    assert loss.item() == pytest.approx(0, abs=1e-6)  # [CLS] and [SEP] would cost 50 each


def test_the_similarity_loss_moves_neither_target() -> None:
    """Its gradient is that of predicting fixed targets: the projector is reached once a view."""
    model = LanistrForPretraining(WHOLE).eval()
    assert model.predictor is not None
    with torch.no_grad():
        for each in model.predictor.parameters():
            each.zero_()  # predictions that no longer depend on the projector
        model.predictor[-1].bias.normal_()
    model(batch(), Generator().manual_seed(1))["simmmm"].backward()
    assert model.projector is not None
    for each in (*model.projector.parameters(), *model.core.fusion.parameters()):
        assert each.grad is None or not each.grad.any()
    assert model.predictor[-1].bias.grad.any()


def test_a_hidden_share_of_nothing_costs_nothing_in_any_loss() -> None:
    assert WHOLE.text is not None
    assert WHOLE.image is not None
    assert WHOLE.tabular is not None
    assert WHOLE.timeseries is not None
    none = {each: getattr(WHOLE, each).model_copy(update={"mask_ratio": 0.0}) for each in Modality}
    losses = LanistrForPretraining(WHOLE.model_copy(update=none))(batch(), Generator())
    assert {n: v.item() for n, v in losses.items() if n != "simmmm"} == dict.fromkeys(
        ("mlm", "mim", "mfm", "mtm"), 0.0
    )
    assert set(losses) == set(LossWeights.model_fields) - {"summary", "itc", "itm"}
