from typing import Any

import pytest
import torch
from pytorch_tabnet.sparsemax import sparsemax as library_sparsemax
from pytorch_tabnet.tab_network import TabNetEncoder
from torch import Generator, Tensor

from lanistr.modalities import Modality
from lanistr.model import masking
from lanistr.model.config import LanistrConfig
from lanistr.model.tabular import (
    GhostBatchNorm,
    Sparsemax,
    TabularConfig,
    TabularEncoder,
    TabularPretext,
)
from lanistr.model.tensors import TensorBatch


def config_of(pretraining: LanistrConfig, **changes: object) -> TabularConfig:
    assert pretraining.tabular is not None
    return pretraining.tabular.model_copy(update=changes)


def arrays(rows: int) -> dict[str, Tensor]:
    return {"numbers": torch.randn(rows, 3), "categories": torch.randint(0, 5, (rows, 2))}


def test_it_computes_what_pytorch_tabnet_computes(pretraining: LanistrConfig) -> None:
    config = config_of(pretraining, virtual_batch=32)
    ours = TabularEncoder(config)
    library = TabNetEncoder(9, 8, 8, 8, 2, 1.8, virtual_batch_size=32)
    names = library.load_state_dict(ours.encoder.state_dict())
    assert not names.missing_keys
    assert not names.unexpected_keys
    entries = torch.randn(100, 9)
    for _ in range(3):
        steps, _ = library(entries.clone())
        for want, got in zip(steps, ours.decide(entries, torch.ones(100, 9)), strict=True):
            torch.testing.assert_close(got, want)
    ours.eval()
    steps, _ = library.eval()(entries[:20].clone())
    torch.testing.assert_close(ours.decide(entries[:20], torch.ones(20, 9))[1], steps[1])


def test_sparsemax_has_the_librarys_values_and_gradient_and_leaves_its_input_alone() -> None:
    scores = torch.randn(50, 7, dtype=torch.float32, requires_grad=True)
    before, pull = scores.detach().clone(), torch.randn(50, 7)
    ours = Sparsemax()(scores)
    (ours * pull).sum().backward()
    other = before.clone().requires_grad_()
    theirs = library_sparsemax(other + 0, -1)
    (theirs * pull).sum().backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(scores.grad, other.grad)
    assert torch.equal(scores.detach(), before)


def test_sparsemax_of_what_is_not_a_number_is_none_and_leaves_the_other_rows_alone() -> None:
    scores = torch.randn(3, 7)
    wrong = scores.clone()
    wrong[1, 4] = torch.nan
    found = Sparsemax()(wrong)
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], Sparsemax()(scores)[[0, 2]])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 17])
def test_any_number_of_rows_can_be_trained_on(
    pretraining: LanistrConfig, rows: int, generator: Generator
) -> None:
    config = config_of(pretraining, virtual_batch=2)
    encoder, pretext = TabularEncoder(config), TabularPretext(config)
    loss, tokens = pretext(encoder, arrays(rows), generator)
    (loss + tokens.sum()).backward()
    assert loss.isfinite()
    assert tokens.shape == (rows, 1, 8)


def test_a_single_row_is_normalised_by_running_statistics_and_leaves_them(
    pretraining: LanistrConfig,
) -> None:
    encoder, row = TabularEncoder(config_of(pretraining)), arrays(1)
    encoder(**arrays(64))
    before = {name: each.clone() for name, each in encoder.named_buffers()}
    in_training = encoder(**row)
    assert all(torch.equal(each, before[name]) for name, each in encoder.named_buffers())
    torch.testing.assert_close(in_training, encoder.eval()(**row))


@pytest.mark.parametrize("rows", [2, 3, 40])
def test_rows_that_are_all_alike_are_read_as_one_is(pretraining: LanistrConfig, rows: int) -> None:
    encoder = TabularEncoder(config_of(pretraining, steps=6, virtual_batch=16))
    encoder(**arrays(64))
    before = {name: each.clone() for name, each in encoder.named_buffers()}
    one = arrays(1)
    alike = {name: each.expand(rows, -1) for name, each in one.items()}
    found = encoder(**alike)
    assert all(torch.equal(each, before[name]) for name, each in encoder.named_buffers())
    torch.testing.assert_close(found, encoder(**one).expand(rows, -1, -1))
    weights, upstream = tuple(encoder.parameters()), torch.randn_like(found)

    def gradients() -> list[torch.Tensor]:
        by_weight = torch.autograd.grad(
            found, weights, upstream, retain_graph=True, allow_unused=True
        )
        return [each for each in by_weight if each is not None]

    at_once = gradients()
    assert torch.stack([each.norm() for each in at_once]).norm() < 1e5
    encoder(**arrays(64))  # moves what the rows were normalised by
    assert all(map(torch.equal, at_once, gradients()))


def test_a_last_virtual_batch_of_one_row_joins_the_one_before(pretraining: LanistrConfig) -> None:
    norm = next(
        each
        for each in TabularEncoder(config_of(pretraining, virtual_batch=2)).modules()
        if isinstance(each, GhostBatchNorm)
    )
    sizes: list[int] = []
    norm.bn.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    norm(torch.randn(5, norm.bn.num_features))
    assert sizes == [2, 3]


def test_in_evaluation_a_row_does_not_depend_on_the_others(pretraining: LanistrConfig) -> None:
    encoder = TabularEncoder(config_of(pretraining, virtual_batch=4))
    encoder(**arrays(64))
    encoder.eval()
    many = arrays(33)
    together = encoder(**many)
    alone = encoder(**{name: each[20:21] for name, each in many.items()})
    torch.testing.assert_close(alone[0], together[20])


def test_a_category_column_is_hidden_as_one_and_takes_no_part_in_the_encoding(
    pretraining: LanistrConfig, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(pretraining)
    encoder, pretext = TabularEncoder(config), TabularPretext(config)
    second = torch.tensor([False, True, False, False, False])
    monkeypatch.setattr(masking, "draw_columns", lambda rows, *_, **__: second.repeat(rows, 1))
    seen: list[tuple[Tensor, Tensor]] = []
    decide = encoder.decide

    def spy(entries: Tensor, prior: Tensor) -> Any:
        seen.append((entries, prior))
        return decide(entries, prior)

    monkeypatch.setattr(encoder, "decide", spy)
    rows = arrays(16)
    pretext(encoder, rows, generator)
    entries, prior = seen[0]
    assert (entries != 0).all(dim=0).tolist() == [True] * 3 + [False] * 3 + [True] * 3
    assert prior[0].tolist() == [1.0] * 3 + [0.0] * 3 + [1.0] * 3
    other = rows | {"categories": rows["categories"].clone()}
    other["categories"][:, 1] = (other["categories"][:, 1] + 1) % 7
    encoder.eval()
    same, different = (pretext(encoder, each, generator)[1] for each in (rows, other))
    torch.testing.assert_close(same, different)


def test_a_batch_without_hidden_columns_costs_nothing(
    pretraining: LanistrConfig, full_batch: TensorBatch, generator: Generator
) -> None:
    config = config_of(pretraining, mask_ratio=0.0)
    encoder, pretext = TabularEncoder(config), TabularPretext(config)
    loss, _ = pretext(encoder, full_batch.parts[Modality.TABULAR].arrays, generator)
    assert loss.item() == 0
    loss.backward()


def test_a_table_of_numbers_alone_or_of_categories_alone_can_be_encoded() -> None:
    numbers = TabularEncoder(TabularConfig(numbers=4, width=8, steps=2))
    assert numbers(torch.randn(5, 4), torch.zeros(5, 0, dtype=torch.int64)).shape == (5, 1, 8)
    words = TabularEncoder(TabularConfig(numbers=0, categories=(3, 4), width=8, steps=2))
    assert words(torch.zeros(5, 0), torch.zeros(5, 2, dtype=torch.int64)).shape == (5, 1, 8)


def test_a_table_without_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one column"):
        TabularConfig(numbers=0)


def test_everything_that_the_encoder_computes_with_moves_with_it(
    pretraining: LanistrConfig,
) -> None:
    """The library keeps a matrix as a plain attribute, which stays behind on the CPU."""
    encoder = TabularEncoder(config_of(pretraining)).to("meta")
    inputs = {name: each.to("meta") for name, each in arrays(4).items()}
    # The library's own constants are made on the CPU and moved at each call.
    assert encoder.eval()(**inputs).device.type == "meta"
