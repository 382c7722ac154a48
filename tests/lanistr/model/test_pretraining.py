from collections.abc import Callable

import pytest
import torch
from torch import Generator

from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.heads import SimMMMConfig, SummaryConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.shortcut import ShortcutConfig
from lanistr.model.tensors import TensorBatch

MakeBatch = Callable[..., TensorBatch]

PRETEXT_LOSSES = {
    Modality.TEXT: "mlm",
    Modality.IMAGE: "mim",
    Modality.TABULAR: "mfm",
    Modality.TIMESERIES: "mtm",
}


def test_all_five_losses_fall_on_a_batch_that_stays_the_same(
    pretraining: LanistrConfig, full_batch: TensorBatch
) -> None:
    model = LanistrForPretraining(pretraining)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history: list[dict[str, float]] = []
    for step in range(60):
        named = model(full_batch, Generator().manual_seed(step % 6))
        assert all(loss.isfinite() for loss in named.values())
        history.append({name: loss.item() for name, loss in named.items()})
        optimiser.zero_grad()
        sum(named.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
    assert set(history[0]) == {"mlm", "mim", "mfm", "mtm", "simmmm"}
    for name in history[0]:
        first, last = (sum(each[name] for each in part) / 6 for part in (history[:6], history[-6:]))
        assert last < first - 0.1 * abs(first), name


@pytest.mark.parametrize("modality", Modality)
def test_only_what_the_batch_brings_has_a_loss(
    pretraining: LanistrConfig, make_batch: MakeBatch, generator: Generator, modality: Modality
) -> None:
    model = LanistrForPretraining(pretraining)
    named = model(make_batch([modality], [], [modality]), generator)
    assert set(named) == {PRETEXT_LOSSES[modality], "simmmm"}
    sum(named.values()).backward()  # type: ignore[union-attr]


def test_a_batch_in_which_nobody_brings_anything_costs_nothing(
    pretraining: LanistrConfig, make_batch: MakeBatch, generator: Generator
) -> None:
    named = LanistrForPretraining(pretraining)(make_batch([], []), generator)
    assert {name: loss.item() for name, loss in named.items()} == {"simmmm": 0.0}
    named["simmmm"].backward()


def test_a_case_without_any_modality_takes_no_part(
    pretraining: LanistrConfig, make_batch: MakeBatch
) -> None:
    model = LanistrForPretraining(pretraining).eval()
    with_one, without = (
        model(make_batch(tuple(Modality), *rest), Generator().manual_seed(3)) for rest in ([[]], [])
    )
    for name, loss in without.items():
        torch.testing.assert_close(with_one[name], loss)


def test_on_parallel_only_cases_with_every_modality_are_compared(
    pretraining: LanistrConfig, make_batch: MakeBatch, generator: Generator
) -> None:
    simmmm = SimMMMConfig(width=32, bottleneck=8, on="parallel")
    model = LanistrForPretraining(pretraining.model_copy(update={"simmmm": simmmm}))
    three = tuple(Modality)[:3]
    named = model(make_batch(three, three), generator)
    assert named["simmmm"].item() == 0
    assert named["mim"].item() > 0
    assert model(make_batch(three, tuple(Modality)), generator)["simmmm"].item() != 0


def test_without_simmmm_there_is_no_second_pass(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    model = LanistrForPretraining(pretraining.model_copy(update={"simmmm": None}))
    runs: list[int] = []
    model.core.encoders["image"].register_forward_hook(lambda *_: runs.append(1))
    model.core.fusion.register_forward_hook(lambda *_: runs.append(1))
    assert set(model(full_batch, generator)) == {"mlm", "mim", "mfm", "mtm"}
    assert runs == [1]


def test_simmmm_alone_trains_encoders_projections_and_fusion(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    model = LanistrForPretraining(pretraining)
    model(full_batch, generator)["simmmm"].backward()
    for part in (*model.core.encoders.values(), *model.core.projections.values()):
        assert any(each.grad is not None and each.grad.any() for each in part.parameters())
    assert model.core.fusion.flava.cls_token.grad.any()


def test_one_view_is_masked_and_the_other_is_not(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    model = LanistrForPretraining(pretraining).eval()
    seen: list[torch.Tensor] = []
    model.core.encoders["timeseries"].project_inp.register_forward_pre_hook(
        lambda _m, inputs: seen.append(inputs[0])
    )
    model(full_batch, generator)
    masked, plain = seen
    assert torch.equal(plain, full_batch.parts[Modality.TIMESERIES].arrays["values"])
    assert (masked == 0).any()


def test_the_same_generator_gives_the_same_losses(
    pretraining: LanistrConfig, full_batch: TensorBatch
) -> None:
    model = LanistrForPretraining(pretraining).eval()
    first, again, other = (model(full_batch, Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_one_case_alone_can_be_pretrained_on(
    pretraining: LanistrConfig, make_batch: MakeBatch, generator: Generator
) -> None:
    model = LanistrForPretraining(pretraining).train()
    named = model(make_batch(tuple(Modality)), generator)
    assert all(loss.isfinite() for loss in named.values())
    sum(named.values()).backward()  # type: ignore[union-attr]


def test_it_trains_in_bfloat16_autocast(
    pretraining: LanistrConfig, finetuning: LanistrConfig, full_batch: TensorBatch
) -> None:
    model = LanistrForPretraining(pretraining)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        named = model(full_batch, Generator().manual_seed(2))
        logits = Lanistr(finetuning)(full_batch).logits
    exact = model(full_batch, Generator().manual_seed(2))
    assert logits.isfinite().all()
    for name, loss in named.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact[name].item(), abs=0.25)
    sum(named.values()).backward()  # type: ignore[union-attr]


NORMED = SimMMMConfig(width=32, bottleneck=8, tokens="cls", batch_norm=True, hidden=0.5)


def test_batch_norm_keeps_cases_apart_in_the_compared_space(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    def spread(simmmm: SimMMMConfig) -> float:
        torch.manual_seed(2)
        model = LanistrForPretraining(pretraining.model_copy(update={"simmmm": simmmm}))
        assert model.projector is not None
        seen: list[torch.Tensor] = []
        model.projector.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
        model(full_batch, generator)
        return torch.nn.functional.normalize(seen[0], dim=1).std(dim=0).mean().item()

    plain = NORMED.model_copy(update={"batch_norm": False})
    assert spread(NORMED) > 3 * spread(plain)


def test_batch_norm_adds_no_parameter(pretraining: LanistrConfig) -> None:
    counts = [
        sum(each.numel() for each in LanistrForPretraining(config).parameters())
        for config in (pretraining, pretraining.model_copy(update={"simmmm": NORMED}))
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("cases", [0, 1, 2])
def test_a_batch_of_any_size_is_compared_with_batch_norm(
    pretraining: LanistrConfig, make_batch: MakeBatch, generator: Generator, cases: int
) -> None:
    model = LanistrForPretraining(pretraining.model_copy(update={"simmmm": NORMED}))
    batch = make_batch(*[tuple(Modality)] * cases, *[[]] * (2 - cases))
    loss = model(batch, generator)["simmmm"]
    assert loss.isfinite()
    loss.backward()


def test_a_hidden_modality_does_not_reach_the_masked_view(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    hiding = NORMED.model_copy(update={"hidden": 0.99})
    model = LanistrForPretraining(pretraining.model_copy(update={"simmmm": hiding}))
    masks: list[torch.Tensor] = []
    model.core.fusion.register_forward_pre_hook(lambda _m, inputs: masks.append(inputs[1]))
    model(full_batch, generator)
    whole, masked = masks
    assert whole.all()
    blocks = model.core.config.modalities
    assert 0 < masked.sum() < whole.sum() / len(blocks) * 2


# ---- summaries ----------------------------------------------------------------------------------


@pytest.fixture(params=[None, ShortcutConfig(hidden=9, dropout=0.0)], ids=["", "shortcut"])
def summing(pretraining: LanistrConfig, request: pytest.FixtureRequest) -> LanistrConfig:
    fusion = pretraining.fusion.model_copy(update={"shortcut": request.param})
    changes = {"simmmm": None, "summary": SummaryConfig(width=16), "fusion": fusion}
    return pretraining.model_copy(update=changes)


def test_the_masked_case_learns_to_tell_what_its_series_sums_up_to(
    summing: LanistrConfig, full_batch: TensorBatch
) -> None:
    model = LanistrForPretraining(summing)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history: list[float] = []
    for step in range(60):
        loss = model(full_batch, Generator().manual_seed(step % 6))["summary_timeseries"]
        history.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(history[-6:]) < 0.7 * sum(history[:6])


def test_summaries_train_fusion_and_whatever_can_say_something_of_the_series(
    summing: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    model = LanistrForPretraining(summing)
    named = model(full_batch, generator)
    assert set(named) == {*PRETEXT_LOSSES.values(), "summary_timeseries"}
    named["summary_timeseries"].backward()
    for part in (*model.core.encoders.values(), *model.core.projections.values()):
        assert any(each.grad is not None and each.grad.any() for each in part.parameters())
    assert model.core.fusion.flava.cls_token.grad.any()


def test_a_case_without_a_series_has_no_part_in_the_summaries(
    summing: LanistrConfig, make_batch: MakeBatch
) -> None:
    model = LanistrForPretraining(summing).eval()
    lone, beside = (
        model(make_batch(tuple(Modality), *rest), Generator().manual_seed(3)) for rest in ([], [[]])
    )
    torch.testing.assert_close(beside["summary_timeseries"], lone["summary_timeseries"])
    nobody = model(make_batch([Modality.TABULAR]), Generator().manual_seed(3))
    assert nobody["summary_timeseries"].item() == 0
    nobody["summary_timeseries"].backward()  # other processes may have a series


def test_summaries_without_anything_to_sum_up_are_refused(pretraining: LanistrConfig) -> None:
    changes = {"summary": SummaryConfig(), "timeseries": None}
    with pytest.raises(ConfigError, match="can be summarized") as refused:
        LanistrForPretraining(pretraining.model_copy(update=changes))
    assert refused.value.field == "model.summary"
