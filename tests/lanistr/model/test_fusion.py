import pytest
import torch
from transformers import FlavaMultimodalConfig, FlavaMultimodalModel

from lanistr.model.fusion import Fusion, FusionConfig

SMALL = FusionConfig(width=24, layers=2, heads=2, feedforward=48)


def test_it_computes_what_flavas_multimodal_encoder_computes() -> None:
    fusion = Fusion(SMALL).eval()
    library = FlavaMultimodalModel(
        FlavaMultimodalConfig(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
        ),
        add_pooling_layer=False,
    ).eval()
    library.load_state_dict(fusion.flava.state_dict())
    tokens = torch.nn.functional.normalize(torch.randn(3, 5, 24), dim=-1)
    want = library(tokens).last_hidden_state
    torch.testing.assert_close(fusion(tokens, torch.ones(3, 5, dtype=torch.bool)), want)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_cls_token_alone_is_the_one_of_all(layers: int) -> None:
    fusion = Fusion(SMALL.model_copy(update={"layers": layers})).double().eval()
    for count in (0, 1, 7):
        tokens = torch.randn(3, count, 24, dtype=torch.float64)
        mask = torch.rand(3, count) < 0.7
        alone = fusion(tokens, mask, cls_only=True)
        torch.testing.assert_close(alone, fusion(tokens, mask)[:, :1])
    fusion(tokens, mask)[:, 0, :5].sum().backward()
    wanted = {name: each.grad.clone() for name, each in fusion.named_parameters()}
    fusion.zero_grad()
    fusion(tokens, mask, cls_only=True)[:, 0, :5].sum().backward()
    for name, each in fusion.named_parameters():
        torch.testing.assert_close(each.grad, wanted[name])


@pytest.mark.parametrize("rubbish", [0.0, 1e6, float("nan"), float("inf")])
def test_what_stands_at_masked_places_changes_nothing(rubbish: float) -> None:
    fusion = Fusion(SMALL).eval()
    tokens, mask = torch.randn(3, 5, 24), torch.ones(3, 5, dtype=torch.bool)
    mask[0, 1] = mask[1, 3:] = False
    want = fusion(tokens, mask)
    got = fusion(tokens.masked_fill(~mask[..., None], rubbish), mask)
    assert torch.equal(got[:, 0], want[:, 0])
    assert torch.equal(got[:, 1:][mask], want[:, 1:][mask])


def test_a_masked_token_counts_as_much_as_one_that_was_never_there() -> None:
    fusion = Fusion(SMALL).eval()
    tokens, mask = torch.randn(1, 5, 24), torch.tensor([[True, False, True, False, True]])
    shorter = fusion(tokens[:, mask[0]], torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(fusion(tokens, mask)[:, 0], shorter[:, 0])


def test_tokens_are_normalised_over_their_features() -> None:
    """The released code normalised over tokens, and made text features 0 or 1."""
    fusion = Fusion(SMALL).eval()
    tokens, mask = torch.randn(2, 4, 24), torch.ones(2, 4, dtype=torch.bool)
    longer = tokens * torch.rand(2, 4, 1).add(0.5)
    torch.testing.assert_close(fusion(longer, mask), fusion(tokens, mask))
    text = tokens[:, :1].clone().requires_grad_()
    fusion(text, mask[:, :1])[:, 0, 0].sum().backward()
    assert text.grad is not None
    assert (text.grad != 0).all()


@pytest.mark.parametrize("count", [0, 3])
def test_a_case_without_tokens_gives_its_cls_alone(count: int) -> None:
    fusion = Fusion(SMALL).eval()
    nothing = fusion(torch.zeros(2, count, 24), torch.zeros(2, count, dtype=torch.bool))
    assert nothing.shape == (2, 1 + count, 24)
    assert nothing.isfinite().all()
    torch.testing.assert_close(nothing[0, 0], fusion.flava.layernorm(nothing)[0, 0])


def test_a_token_of_zeros_has_a_finite_gradient() -> None:
    """A projection may end in zeros for every feature (ReLU)."""
    tokens = torch.zeros(1, 2, 24, requires_grad=True)
    Fusion(SMALL)(tokens, torch.ones(1, 2, dtype=torch.bool)).square().sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()


def test_at_the_start_the_cls_token_does_not_drown_every_other_gradient() -> None:
    fusion = Fusion(SMALL)
    mask = torch.ones(8, 5, dtype=torch.bool)
    fusion(torch.randn(8, 5, 24), mask)[:, 0, :3].square().mean().backward()
    assert fusion.flava.cls_token.grad.norm() < 100


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        FusionConfig(width=10, heads=3)
