"""Objectives: which losses count, and which modalities are hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.heads import SummaryConfig, Units
from lanistr.model.lanistr import Lanistr, Output
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import TensorBatch, TensorPart, to_tensors
from training.data.sampler import MicroBatch
from training.data.store import Dataset
from training.objectives import Pretraining, Task, drop_modalities
from training.recipe import LossWeights


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.fixture(scope="module")
def batch(stays_dataset: Dataset) -> TensorBatch:
    """24 cases that bring what they bring."""
    return to_tensors(stays_dataset.batch(stays_dataset.rows("train")[:24].tolist()))


def part(batch: TensorBatch, weight: float = 1.0, **shares: float) -> MicroBatch:
    """A micro-batch with these shares of its step; of what is not named, all."""
    return MicroBatch(
        step=0,
        epoch=0,
        positions=np.arange(batch.size),
        seed=0,
        weight=weight,
        shares={each: shares.get(each, 1.0) for each in batch.parts},
        row_shares={each: shares.get(each, 1.0) for each in batch.parts},
        compared=shares.get("compared", 1.0),
    )


def crowd(cases: int) -> TensorBatch:
    """Cases that bring two modalities each, the second in two rows, which know their owner."""
    once, twice = torch.arange(cases), torch.arange(cases).repeat_interleave(2)
    return TensorBatch(
        cases,
        {
            Modality.TABULAR: TensorPart(once, {"numbers": once[:, None].float()}),
            Modality.IMAGE: TensorPart(twice, {"pixels": twice[:, None]}),
        },
        torch.zeros(cases),
    )


# ---- modality dropout ---------------------------------------------------------------------------


def test_modality_dropout_hides_whole_modalities_of_single_cases(
    generator: torch.Generator,
) -> None:
    hidden = drop_modalities(crowd(4000), 0.3, generator)
    tabular, image = hidden.parts[Modality.TABULAR], hidden.parts[Modality.IMAGE]
    # What is kept is kept whole: both rows of a case or none, each with its own values.
    owners, rows = np.unique(image.sample.numpy(), return_counts=True)
    assert set(rows) == {2}
    assert torch.equal(image.arrays["pixels"][:, 0], image.sample)
    assert torch.equal(tabular.arrays["numbers"][:, 0].long(), tabular.sample)
    assert bool((image.sample.diff() >= 0).all())
    # By chance, each modality by itself; all may go.
    kept = [set(owners), set(tabular.sample.tolist())]
    assert [len(each) / 4000 for each in kept] == pytest.approx([0.7, 0.7], abs=0.03)
    assert len(kept[0] & kept[1]) / 4000 == pytest.approx(0.49, abs=0.03)
    assert 1 - len(kept[0] | kept[1]) / 4000 == pytest.approx(0.09, abs=0.02)
    assert hidden.size == 4000


def test_without_modality_dropout_nothing_is_hidden_and_nothing_drawn(
    generator: torch.Generator,
) -> None:
    before = generator.get_state()
    whole = crowd(3)
    assert drop_modalities(whole, 0.0, generator) is whole
    assert torch.equal(generator.get_state(), before)


def test_a_batch_may_lose_everything_and_still_teaches(
    stays_finetuned, batch: TensorBatch, generator: torch.Generator
) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr).train()
    task = Task(model, modality_dropout=0.999)
    hidden = task.shown(batch, generator)
    assert hidden.parts == {}
    loss, report = task(hidden, part(batch), generator)
    loss.backward()
    assert np.isfinite(float(report["task"]))
    assert model.head is not None
    assert all(each.grad is not None for each in model.head.parameters())
    assert all(each.grad is None for each in model.encoders.parameters())


# ---- losses -------------------------------------------------------------------------------------


def test_a_task_is_learned_by_cross_entropy_or_squared_error(
    stays_finetuned, stars_finetuned, generator: torch.Generator
) -> None:
    logits, labels = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([1.0, 0.0])
    classes = Task(from_pretrained(stays_finetuned / "model", Lanistr), modality_dropout=0)
    expected = (np.log(1 + np.exp(-2.0)) + np.log(2)) / 2
    assert float(classes.loss(logits, labels)) == pytest.approx(expected)
    number = Task(from_pretrained(stars_finetuned / "model", Lanistr), modality_dropout=0)
    outputs = torch.tensor([[2.0], [5.0]])
    assert isinstance(number.link, Units)
    number.link.fit(torch.tensor([[1.0], [5.0]]))  # of variance 4
    assert float(number.loss(outputs, torch.tensor([1.0, 3.0]))) == pytest.approx((1 + 4) / 2 / 4)


@pytest.mark.parametrize("class_weights", [None, (0.5, 3.0)])
def test_what_goes_past_fusion_learns_the_task_by_itself(
    stays_finetuned, batch: TensorBatch, class_weights: tuple[float, float] | None
) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr).train()
    task = Task(model, modality_dropout=0, class_weights=class_weights)
    assert task.losses == ("task", "shortcut", *task.losses[2:])
    said: list[Output] = []
    model.register_forward_hook(lambda _m, _i, output: said.append(output))
    half = replace(part(batch), weight=0.5)
    loss, report = task(batch, half, torch.Generator().manual_seed(1))
    (output,) = said
    assert output.shortcut is not None
    assert batch.labels is not None
    for name, logits in (("task", output.logits), ("shortcut", output.shortcut)):
        torch.testing.assert_close(report[name], 0.5 * task.loss(logits, batch.labels).detach())
    others = sum(task.unimodal * each for each in list(report.values())[2:])
    torch.testing.assert_close(loss, report["task"] + report["shortcut"] + others)


def test_an_ordinal_head_is_trained_on_the_likelihood_of_its_distribution(
    reviews, reviews_finetuned, generator: torch.Generator
) -> None:
    model = from_pretrained(reviews_finetuned / "model", Lanistr)
    dataset = Dataset.open(reviews)
    cases = to_tensors(dataset.batch(dataset.rows("test").tolist()))
    assert cases.labels is not None
    output = model(cases).logits
    torch.testing.assert_close(output.exp().sum(1), torch.ones(cases.size))
    task = Task(model, modality_dropout=0)
    loss, _ = task(cases, part(cases), generator)
    torch.testing.assert_close(loss, functional.nll_loss(output, cases.labels.long()))


def test_pretraining_minimises_the_weighted_sum_of_what_the_batch_brings(
    stays_pretrained, batch: TensorBatch
) -> None:
    model = from_pretrained(stays_pretrained / "model", LanistrForPretraining)
    weights = LossWeights(mlm=0.5, mim=2, mfm=0, mtm=3, simmmm=0.25)

    def measure(cases: TensorBatch) -> tuple[float, dict[str, float]]:
        loss, report = Pretraining(model, weights)(
            cases, part(cases), torch.Generator().manual_seed(5)
        )
        return float(loss.detach()), {name: float(each) for name, each in report.items()}

    loss, report = measure(batch)
    assert set(report) == {"mlm", "mim", "mfm", "mtm", "simmmm"}
    assert loss == pytest.approx(
        sum(getattr(weights, name) * each for name, each in report.items()), rel=1e-5
    )
    pictures = TensorBatch(batch.size, {Modality.IMAGE: batch.parts[Modality.IMAGE]})
    assert set(measure(pictures)[1]) == {"mim", "simmmm"}


def test_a_micro_batch_adds_its_share_of_each_loss(stays_pretrained, batch: TensorBatch) -> None:
    model = from_pretrained(stays_pretrained / "model", LanistrForPretraining)
    objective = Pretraining(model, LossWeights(mlm=1, mim=1, mfm=1, mtm=1, simmmm=1))

    def measure(of: MicroBatch) -> dict[str, float]:
        _, report = objective(batch, of, torch.Generator().manual_seed(5))
        return {name: float(each) for name, each in report.items()}

    whole = measure(part(batch))
    shared = measure(part(batch, compared=0.25, text=0.5, image=0.125, tabular=0.0, timeseries=1.0))
    factors = {"mlm": 0.5, "mim": 0.125, "mtm": 1.0, "simmmm": 0.25}  # of no row, MFM says nothing
    expected = {name: factor * whole[name] for name, factor in factors.items()}
    assert shared == pytest.approx(expected, rel=1e-5)


def test_what_no_case_of_a_micro_batch_brings_has_no_loss(
    stays_pretrained, batch: TensorBatch
) -> None:
    """Others in its step may bring it, so that it is run over nothing."""
    config = from_pretrained(stays_pretrained / "model", LanistrForPretraining).config
    summing = config.model_copy(update={"summary": SummaryConfig(width=8)})
    objective = Pretraining(LanistrForPretraining(summing), LossWeights())
    pictures = TensorBatch(batch.size, {Modality.IMAGE: batch.parts[Modality.IMAGE]})
    of = replace(part(pictures, compared=0.0), company=frozenset(batch.parts))
    _, report = objective(pictures, of, torch.Generator().manual_seed(5))
    assert set(report) == {"mim"}


def test_summaries_count_by_the_series_that_a_micro_batch_holds(
    stays_pretrained, batch: TensorBatch
) -> None:
    config = from_pretrained(stays_pretrained / "model", LanistrForPretraining).config
    summing = config.model_copy(update={"simmmm": None, "summary": SummaryConfig(width=8)})
    model = LanistrForPretraining(summing).eval()
    objective = Pretraining(model, LossWeights(summary=4, mtm=0, mfm=0))
    assert objective.losses[-1] == "summary_timeseries"
    half = part(batch, text=0.0, image=0.0, tabular=0.0, timeseries=0.5)
    whole = part(batch, text=0.0, image=0.0, tabular=0.0, timeseries=1.0)
    (first, second), losses = zip(
        *(objective(batch, of, torch.Generator().manual_seed(5)) for of in (half, whole)),
        strict=True,
    )
    torch.testing.assert_close(second, 2 * first)
    torch.testing.assert_close(second, 4 * losses[1]["summary_timeseries"])


def test_classes_weigh_in_the_loss_what_they_are_given(stays_finetuned) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    logits, labels = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([1.0, 0.0])
    task = Task(model, modality_dropout=0, class_weights=(0.5, 3.0))
    expected = (3 * np.log(1 + np.exp(-2.0)) + 0.5 * np.log(2)) / 2
    assert float(task.loss(logits, labels)) == pytest.approx(expected)


def test_a_certain_target_teaches_what_the_label_does_and_an_unsure_one_something_between(
    stays_finetuned, batch: TensorBatch, generator: torch.Generator
) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr).eval()
    assert batch.labels is not None

    def learned(targets: np.ndarray | None, labels: torch.Tensor | None = batch.labels) -> float:
        task = Task(model, modality_dropout=0, class_weights=(0.5, 3.0), targets=targets)
        loss, _ = task(replace(batch, labels=labels), part(batch), generator)
        return float(loss.detach())

    certain = np.eye(2, dtype=np.float32)[batch.labels.long().numpy()]
    nothing = torch.full_like(batch.labels, torch.nan)
    assert learned(certain, nothing) == pytest.approx(learned(None))
    opposite = learned(None, 1 - batch.labels)
    unsure = learned(0.75 * certain + 0.25 * (1 - certain), nothing)
    assert unsure == pytest.approx(0.75 * learned(None) + 0.25 * opposite)


# ---- company ------------------------------------------------------------------------------------


def test_a_modality_that_others_bring_is_run_over_nothing_and_changes_no_number(
    stays_pretrained, batch: TensorBatch
) -> None:
    model = from_pretrained(stays_pretrained / "model", LanistrForPretraining)
    words = TensorBatch(batch.size, {Modality.TEXT: batch.parts[Modality.TEXT]})

    def gradients(company: frozenset[Modality]) -> dict[str, torch.Tensor | None]:
        model.zero_grad(set_to_none=True)
        of = replace(part(words), company=company)
        objective = Pretraining(model, LossWeights())
        loss, report = objective(words, of, torch.Generator().manual_seed(5))
        loss.backward()
        assert {name for name, each in report.items() if float(each)} == {"mlm", "simmmm"}
        return {"loss": loss.detach(), **{n: p.grad for n, p in model.named_parameters()}}

    alone, joined = gradients(frozenset()), gradients(frozenset(Modality))
    for name, each in alone.items():
        if each is None:
            found = joined[name]
            assert found is None or not bool(found.any()), name
        else:
            torch.testing.assert_close(joined[name], each)
    assert alone["core.encoders.image.vit.layers.0.mlp.fc1.weight"] is None
    everywhere = [n for n, each in joined.items() if each is None and "output_layer" not in n]
    assert everywhere == []


def test_a_modality_that_dropout_took_is_run_over_nothing_for_the_others_sake(
    stays_finetuned, batch: TensorBatch, generator: torch.Generator
) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr).train()
    task = Task(model, modality_dropout=0.999)
    of = replace(part(batch), company=frozenset(batch.parts))
    loss, _ = task(task.shown(batch, generator), of, generator)
    loss.backward()
    used = [n for n, p in model.named_parameters() if n.startswith("proj") and p.grad is not None]
    assert {name.split(".")[1] for name in used} == set(batch.parts)
