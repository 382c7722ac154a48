import pytest
import torch

from lanistr.model import losses


def test_losses_over_nothing_are_zero_and_still_have_a_graph() -> None:
    some = torch.randn(4, 5, requires_grad=True)
    nothing = torch.zeros(4, 5, dtype=torch.bool)
    empty = some[:0]
    for loss in (
        losses.masked_language(empty, torch.zeros(0, dtype=torch.int64)),
        losses.masked_image(empty, torch.zeros(0, 5)),
        losses.masked_features(some, torch.randn(4, 5), nothing),
        losses.masked_series(some, torch.randn(4, 5), nothing),
        losses.simmmm(empty, empty, empty, empty),
    ):
        assert loss.item() == 0
        loss.backward(retain_graph=True)
    assert some.grad is not None
    assert not some.grad.any()


def test_feature_errors_are_measured_in_each_columns_spread() -> None:
    target = torch.randn(64, 2) * torch.tensor([1.0, 100.0])
    hidden = torch.ones(64, 2, dtype=torch.bool)
    predicted = target + target.std(dim=0, correction=0)
    assert torch.isclose(losses.masked_features(predicted, target, hidden), torch.tensor(1.0))


def test_a_column_that_does_not_vary_keeps_the_feature_loss_finite() -> None:
    target = torch.ones(8, 3)
    loss = losses.masked_features(torch.zeros(8, 3), target, torch.ones(8, 3, dtype=torch.bool))
    assert loss.item() == 1


def test_rows_that_happen_to_be_alike_do_not_blow_the_feature_loss_up() -> None:
    target = torch.zeros(8, 1)
    target[0] = 0.05  # a variance of 3e-4, by which an error of 1 would count 3,000
    loss = losses.masked_features(target + 1, target, torch.ones(8, 1, dtype=torch.bool))
    assert loss.item() == pytest.approx(1)


def test_the_feature_loss_sends_no_gradient_into_its_target() -> None:
    target = torch.randn(8, 3, requires_grad=True)
    predicted = torch.randn(8, 3, requires_grad=True)
    losses.masked_features(predicted, target, torch.ones(8, 3, dtype=torch.bool)).backward()
    assert target.grad is None
    assert predicted.grad is not None


def test_series_errors_count_only_where_hidden() -> None:
    values, hidden = torch.randn(2, 6, 3), torch.zeros(2, 6, 3, dtype=torch.bool)
    hidden[0, 2:4, 1] = True
    predicted = values + 7 * ~hidden + 2 * hidden
    assert torch.isclose(losses.masked_series(predicted, values, hidden), torch.tensor(4.0))


def test_simmmm_stops_the_gradient_of_the_projections() -> None:
    e1, e2, z1, z2 = (torch.randn(5, 8, requires_grad=True) for _ in range(4))
    losses.simmmm(e1, e2, z1, z2).backward()
    assert e1.grad is not None
    assert e2.grad is not None
    assert z1.grad is None
    assert z2.grad is None


def test_simmmm_is_minus_two_for_views_that_agree_and_crosses_them() -> None:
    a, b = torch.randn(5, 8), torch.randn(5, 8)
    assert torch.isclose(losses.simmmm(a, b, z1_nD=b, z2_nD=a), torch.tensor(-2.0))


def test_simmmm_compares_cls_and_present_tokens_of_cases_with_any_modality() -> None:
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    presence = mask.clone()
    every = losses.simmmm_tokens(mask, presence, on="any", tokens="all")
    assert every.tolist() == [[True, True, True], [True, True, False], [False, False, False]]
    cls = losses.simmmm_tokens(mask, presence, on="any", tokens="cls")
    assert cls.tolist() == [[True, False, False], [True, False, False], [False, False, False]]


def test_simmmm_on_parallel_leaves_out_cases_that_lack_a_modality() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    chosen = losses.simmmm_tokens(mask, mask, on="parallel", tokens="all")
    assert chosen.tolist() == [[True, True, True], [False, False, False]]
