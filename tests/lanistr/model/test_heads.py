import pytest
import torch

from lanistr.model.heads import CumulativeLink, Head, HeadConfig


def test_ordinal_outputs_are_the_log_probabilities_of_the_classes() -> None:
    head = Head(HeadConfig(kind="ordinal", outputs=5), width=16).eval()
    outputs = head(torch.randn(7, 16))
    assert outputs.shape == (7, 5)
    torch.testing.assert_close(outputs.softmax(dim=1), outputs.exp())


def test_ordinal_probabilities_are_those_of_ordered_cuts() -> None:
    link = CumulativeLink(4)
    torch.nn.init.normal_(link.raw_gaps)
    gaps = torch.nn.functional.softplus(link.raw_gaps) + 1e-3
    cuts = torch.cat([link.first_cut, link.first_cut + gaps.cumsum(0)])
    assert (cuts.diff() > 0).all()
    score = torch.linspace(-3, 3, 9)[:, None]
    below = torch.cat([torch.zeros(9, 1), (cuts - score).sigmoid(), torch.ones(9, 1)], dim=1)
    torch.testing.assert_close(link(score).exp(), below.diff(dim=1), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("score", [-1e4, -50.0, 50.0, 1e4])
def test_ordinal_outputs_stay_finite_at_extreme_scores(score: float) -> None:
    link = CumulativeLink(5)
    scores = torch.tensor([[score]], requires_grad=True)
    outputs = link(scores)
    outputs[0, 2].backward()
    assert outputs.isfinite().all()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert outputs.argmax().item() == (0 if score < 0 else 4)


def test_two_ordered_classes_are_one_cut() -> None:
    assert CumulativeLink(2)(torch.zeros(1, 1)).exp().tolist() == [[0.5, 0.5]]


def test_regression_gives_numbers() -> None:
    head = Head(HeadConfig(kind="regression", outputs=1, hidden=4), width=16)
    assert head(torch.randn(3, 16)).shape == (3, 1)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        HeadConfig(kind="classes", outputs=1)


# ---- past fusion --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classes", "ordinal", "regression"])
def test_what_went_past_fusion_is_added_to_what_fusion_says(kind: str) -> None:
    head = Head(HeadConfig.model_validate({"kind": kind, "outputs": 3}), width=6, shortcut=4)
    gathered = torch.randn(5, 10)
    assert head.shortcut is not None
    both, alone = head.both(gathered)
    torch.testing.assert_close(alone, head.link(head.shortcut(gathered[:, 6:])))
    head.eval()
    said = head.mlp(gathered[:, :6]) + head.shortcut(gathered[:, 6:])
    torch.testing.assert_close(head(gathered), head.link(said))
    assert both.shape == head(gathered).shape == (5, 3)


def test_fusion_learns_what_is_left_and_the_part_past_it_learns_by_itself() -> None:
    head = Head(HeadConfig(kind="classes", outputs=2, dropout=0.0), width=6, shortcut=4)
    assert head.shortcut is not None
    gathered = torch.randn(5, 10, requires_grad=True)
    both, alone = head.both(gathered)
    assert alone is not None
    both.square().sum().backward(retain_graph=True)
    assert gathered.grad is not None
    assert gathered.grad[:, :6].any()
    assert not gathered.grad[:, 6:].any()
    assert head.shortcut.weight.grad is None
    alone.square().sum().backward()
    assert gathered.grad[:, 6:].any()
    assert head.shortcut.weight.grad is not None


def test_without_a_part_past_fusion_nothing_is_said_of_it() -> None:
    gathered = torch.randn(5, 6)
    head = Head(HeadConfig(kind="classes", outputs=2), width=6).eval()
    both, alone = head.both(gathered)
    assert alone is None
    torch.testing.assert_close(both, head(gathered))
