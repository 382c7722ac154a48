"""Tokens that go past fusion: what they say, who sees them, and how they are pretrained."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Generator

from lanistr.batch import Arrays, Features, collate
from lanistr.errors import CheckpointError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import load_core, load_encoders, save_pretrained
from lanistr.model.config import LanistrConfig
from lanistr.model.fusion import Fusion
from lanistr.model.heads import HeadConfig, SimMMMConfig, SummaryConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.shortcut import ShortcutConfig
from lanistr.model.tensors import TensorBatch, to_tensors
from lanistr.model.timeseries import TimeseriesConfig, TimeseriesEncoder

MakeBatch = Callable[..., TensorBatch]
MakeRows = Callable[..., tuple[Arrays, ...]]
PATTERNS = [
    pattern for size in range(5) for pattern in combinations(tuple(Modality), size)
]  # sixteen
SHORTCUT = ShortcutConfig(hidden=9, dropout=0.0)


def with_shortcuts(config: LanistrConfig, **changes: object) -> LanistrConfig:
    fusion = config.fusion.model_copy(update={"shortcut": SHORTCUT})
    return config.model_copy(update={"fusion": fusion, **changes})


@pytest.fixture
def pretrained(pretraining: LanistrConfig) -> LanistrConfig:
    return with_shortcuts(pretraining)


@pytest.fixture
def model(finetuning: LanistrConfig) -> Lanistr:
    return Lanistr(with_shortcuts(finetuning)).eval()


@pytest.fixture
def encoder(model: Lanistr) -> TimeseriesEncoder:
    found = model.encoder("timeseries")
    assert isinstance(found, TimeseriesEncoder)
    return found


# ---- in the model -------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS, ids="+".join)
def test_a_case_is_judged_alike_alone_and_beside_others(
    model: Lanistr, make_batch: MakeBatch, pattern: tuple[Modality, ...]
) -> None:
    alone = model(make_batch(pattern))
    beside = model(make_batch(pattern, tuple(Modality), [], *[[each] for each in Modality]))
    torch.testing.assert_close(beside.logits[:1], alone.logits)
    torch.testing.assert_close(beside.embedding[:1], alone.embedding)


def test_the_head_sees_the_cls_token_and_the_sum_of_what_goes_past_fusion(
    model: Lanistr, make_batch: MakeBatch
) -> None:
    batch = make_batch(
        tuple(Modality), [Modality.TABULAR], [Modality.TEXT, Modality.TIMESERIES], [Modality.TEXT]
    )
    projected = model.encode(batch.parts)
    row, series = (projected[Modality(each)] for each in ("tabular", "timeseries"))
    gathered = model.fusion.gather(*model.assemble(batch, projected))
    assert gathered.shape == (4, model.fusion.gathered) == (4, 24 + 24)
    past = torch.stack([row[0, -1] + series[0, -1], row[1, -1], series[1, -1], torch.zeros(25)])
    torch.testing.assert_close(gathered[:, 24:], past[:, :24])
    assert past[:3, :24].any(dim=1).all()


def test_fusion_does_not_see_what_goes_past_it(model: Lanistr, make_batch: MakeBatch) -> None:
    batch = make_batch(tuple(Modality))
    projected = model.encode(batch.parts)
    tokens, mask = model.assemble(batch, projected)
    marks = tokens[0, :, -1]
    assert marks.tolist() == [0.0] * 18 + [0.0, 1.0] + [0.0] * 10 + [1.0]  # text, picture, ...
    without = tokens[:, marks == 0]
    every = torch.ones(1, without.shape[1], dtype=torch.bool)
    seen, wanted = (model.fusion.gather(*each) for each in ((tokens, mask), (without, every)))
    torch.testing.assert_close(seen[:, :24], wanted[:, :24])
    assert not wanted[:, 24:].any()


def test_several_rows_of_a_case_are_averaged(model: Lanistr, make_rows: MakeRows) -> None:
    one, two = (
        Features({Modality.TABULAR: make_rows(Modality.TABULAR, 0, count=count)})
        for count in (1, 2)
    )
    batch = to_tensors(collate([one, two]))
    projected = model.encode(batch.parts)
    gathered = model.fusion.gather(*model.assemble(batch, projected))
    own = projected[Modality.TABULAR][:, -1, :24]
    torch.testing.assert_close(gathered[0, 24:], own[0])
    torch.testing.assert_close(gathered[1, 24:], own[1:].mean(dim=0))


def test_both_parts_count_alike_in_the_embedding(model: Lanistr, make_batch: MakeBatch) -> None:
    output = model(make_batch(tuple(Modality), [Modality.TEXT]))
    squares = output.embedding.square().unflatten(1, (2, 24)).sum(dim=2)
    torch.testing.assert_close(squares, torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    assert output.shortcut is None  # what it learns by is nothing to say


@pytest.mark.parametrize("frozen", [False, True])
def test_processes_stay_in_step_where_one_lacks_rows_and_series(
    finetuning: LanistrConfig, make_batch: MakeBatch, frozen: bool
) -> None:
    model = Lanistr(with_shortcuts(finetuning))
    if frozen:
        model.freeze_encoders()
    batch = make_batch([Modality.TEXT], [Modality.TEXT, Modality.IMAGE])
    output = model(batch, company=tuple(Modality))
    assert output.shortcut is not None
    (output.logits.sum() + output.shortcut.sum()).backward()
    for name, each in model.named_parameters():
        asked = name.startswith(("projections.", "head.")) or ".shortcut." in name
        if asked and each.requires_grad:
            assert each.grad is not None, name
    model.eval()
    torch.testing.assert_close(model(batch, company=tuple(Modality)).logits, model(batch).logits)


@pytest.mark.parametrize("rubbish", [0.0, 1e6, float("nan"), float("inf")])
def test_what_stands_at_masked_places_changes_nothing(
    model: Lanistr, make_batch: MakeBatch, rubbish: float
) -> None:
    batch = make_batch(tuple(Modality), [Modality.TEXT], [Modality.TABULAR])
    tokens, mask = model.assemble(batch, model.encode(batch.parts))
    wanted = model.fusion.gather(tokens, mask)
    spoilt = tokens.masked_fill(~mask[..., None], rubbish)
    assert torch.equal(model.fusion.gather(spoilt, mask), wanted)


def test_rows_encoded_before_give_the_same_answer(model: Lanistr, full_batch: TensorBatch) -> None:
    parts = {
        each: type(part)(part.sample, {"encoded": model.encoder(each)(**part.arrays)})
        for each, part in full_batch.parts.items()
    }
    before = model(TensorBatch(full_batch.size, parts))
    torch.testing.assert_close(before.logits, model(full_batch).logits)


@pytest.mark.parametrize("kind", ["classes", "ordinal", "regression"])
def test_every_weight_is_trained(
    finetuning: LanistrConfig, full_batch: TensorBatch, kind: str
) -> None:
    head = HeadConfig.model_validate({"kind": kind, "outputs": 3})
    model = Lanistr(with_shortcuts(finetuning, head=head))
    output = model(full_batch)
    assert output.shortcut is not None
    (output.logits.square().sum() + output.shortcut.square().sum()).backward()
    modules = {"encoders.tabular.shortcut", "encoders.timeseries.shortcut"}
    modules |= {"projections.tabular.shortcut", "projections.timeseries.shortcut"}
    for name in modules:
        for each in model.get_submodule(name).parameters():
            assert each.grad is not None
            assert each.grad.any(), name


# ---- what a series' figures say -----------------------------------------------------------------


def test_a_series_has_its_steps_as_without_a_shortcut(
    encoder: TimeseriesEncoder, pretraining: LanistrConfig
) -> None:
    assert isinstance(pretraining.timeseries, TimeseriesConfig)
    plain = TimeseriesEncoder(pretraining.timeseries).eval()
    plain.load_state_dict(encoder.state_dict(), strict=False)
    arrays = encoder.drawn(4, Generator().manual_seed(1))
    tokens = encoder(**arrays)
    assert tokens.shape == (4, encoder.handed_on, 12) == (4, 11, 12)
    torch.testing.assert_close(tokens[:, :10], plain(**arrays))
    torch.testing.assert_close(encoder.pool(tokens), plain.pool(plain(**arrays)))
    cost = 2 * 4 * (2 * 30 * 9 + 9 * 12)  # 5 columns of 6 figures, and which are known
    assert encoder.flops(arrays) - plain.flops(arrays) == cost


def test_figures_are_of_what_was_measured_alone(encoder: TimeseriesEncoder) -> None:
    """The first variable stands in column 0 and its flag in 5."""
    values = torch.zeros(3, 10, 8)
    values[:, 4, 5] = 1.0
    values[:, 4, 0] = torch.tensor([2.0, 2.0, 3.0])
    values[1, 7, 0] = 50.0  # not measured, and not the last
    usual, unmeasured, other = encoder(values)[:, -1]
    torch.testing.assert_close(usual, unmeasured)
    assert not torch.allclose(usual, other)


def test_extremes_stay_in_bounds(model: Lanistr, encoder: TimeseriesEncoder) -> None:
    series = encoder(torch.stack([torch.zeros(10, 8), torch.full((10, 8), 1e30)]))[:, -1]
    codes = torch.zeros(2, 2, dtype=torch.int64)
    rows = model.encoder("tabular")(torch.tensor([[0.0] * 3, [-1e30] * 3]), codes)[:, -1]
    for token in (series, rows):
        assert token.isfinite().all()
        assert token.abs().max() < 100


def test_of_a_hidden_variable_nothing_is_known(encoder: TimeseriesEncoder) -> None:
    """The third variable stands in columns 2 to 4 and its flag in 6."""
    assert encoder.shortcut is not None
    one = torch.randn(1, 10, 8, generator=Generator().manual_seed(2))
    one[..., 5:] = 1.0
    other = one.clone()
    other[..., 2:5] += 3.0
    other[0, 3:, 6] = 0.0
    hidden = torch.tensor([[False, False, True]])
    assert torch.equal(encoder.shortcut(one, hidden), encoder.shortcut(other, hidden))
    for shown in (hidden & False, hidden.roll(1)):
        assert not torch.allclose(encoder.shortcut(one, shown), encoder.shortcut(other, shown))


# ---- pretraining --------------------------------------------------------------------------------


def test_both_ways_are_asked_what_a_series_sums_up_to(
    pretrained: LanistrConfig, full_batch: TensorBatch
) -> None:
    config = pretrained.model_copy(update={"simmmm": None, "summary": SummaryConfig(width=16)})
    model = LanistrForPretraining(config)
    named = model(full_batch, Generator().manual_seed(0))
    named["summary_timeseries"].backward()
    core = model.core
    for part in (core.encoders, core.projections, model.summaries, model.shortcuts):
        for name, each in part.named_parameters():
            if "output_layer" not in name:  # MTM's own
                assert each.grad is not None, name
    assert core.fusion.flava.cls_token.grad.any()
    assert core.projections["timeseries"].shortcut[0].weight.grad.any()


@pytest.mark.parametrize("tokens", ["cls", "all"])
def test_every_weight_has_a_gradient_without_summaries_too(
    pretrained: LanistrConfig, full_batch: TensorBatch, tokens: str
) -> None:
    """Or processes that share a model would wait for one another."""
    simmmm = SimMMMConfig.model_validate({"width": 32, "bottleneck": 8, "tokens": tokens})
    for change in ({"simmmm": simmmm}, {"simmmm": None}):
        model = LanistrForPretraining(pretrained.model_copy(update=change))
        sum(model(full_batch, Generator().manual_seed(0)).values()).backward()
        for name, each in model.core.encoders.named_parameters():
            assert each.grad is not None, name


def test_simmmm_compares_no_token_that_goes_past_fusion(
    pretrained: LanistrConfig, full_batch: TensorBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanistrForPretraining(pretrained)
    assert isinstance(model.core.fusion, Fusion)
    compared: list[int] = []
    assert model.projector is not None
    model.projector.register_forward_pre_hook(lambda _m, given: compared.append(len(given[0])))
    model(full_batch, Generator().manual_seed(0))
    one = sum(encoder.handed_on for encoder in model.core.encoders.values())
    assert compared == [full_batch.size * (1 + one - 2)] * 2


# ---- where there is none ------------------------------------------------------------------------


def test_in_the_release_nothing_goes_past_fusion(finetuning: LanistrConfig) -> None:
    wanted = with_shortcuts(finetuning).model_dump() | {"compat": "release"}
    with pytest.raises(ValidationError, match=r"no fusion\.shortcut"):
        LanistrConfig.model_validate(wanted)


def test_without_flags_a_series_has_no_figures(finetuning: LanistrConfig) -> None:
    assert isinstance(finetuning.timeseries, TimeseriesConfig)
    series = finetuning.timeseries.model_copy(update={"measured": ()})
    model = Lanistr(with_shortcuts(finetuning, timeseries=series, tabular=None, image=None))
    assert model.encoder("timeseries").handed_on == 10
    assert model.fusion.width == model.fusion.gathered == 24


# ---- from one model to another ------------------------------------------------------------------


def test_a_model_without_shortcuts_takes_the_rest_of_the_encoders(
    pretrained: LanistrConfig, finetuning: LanistrConfig, tmp_path: Path
) -> None:
    before = LanistrForPretraining(pretrained)
    save_pretrained(before, tmp_path)
    plain = Lanistr(finetuning)
    load_encoders(plain, tmp_path, tuple(Modality))
    theirs = before.core.encoders.state_dict()
    own = plain.encoders.state_dict()
    assert set(theirs.keys() - own.keys()) == {name for name in theirs if ".shortcut." in name}
    assert all(torch.equal(each, theirs[name]) for name, each in own.items())
    with pytest.raises(CheckpointError, match="have a shortcut past fusion") as refused:
        load_core(plain, tmp_path)
    assert refused.value.field == "model.fusion.shortcut"


def test_a_model_with_shortcuts_is_told_how_to_take_encoders_without(
    pretraining: LanistrConfig, finetuning: LanistrConfig, tmp_path: Path
) -> None:
    save_pretrained(LanistrForPretraining(pretraining), tmp_path)
    model = Lanistr(with_shortcuts(finetuning))
    load_encoders(model, tmp_path, [Modality.TEXT, Modality.IMAGE])  # they have none
    for load in (
        lambda: load_core(model, tmp_path),
        lambda: load_encoders(model, tmp_path, [Modality.TIMESERIES]),
    ):
        with pytest.raises(CheckpointError, match="have no shortcut past fusion") as refused:
            load()
        assert refused.value.field == "model.fusion.shortcut"
        assert refused.value.accepted == "null"
