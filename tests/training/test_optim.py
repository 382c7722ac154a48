"""AdamW and its schedule: no step is lost at rate 0, and only matrices decay."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from lanistr.errors import ConfigError
from lanistr.model.config import LanistrConfig
from lanistr.model.fusion import FusionConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.tabular import TabularConfig
from lanistr.model.text import TextConfig
from training.optim import make_optimizer, rate_factor, set_rates
from training.recipe import OptimConfig


def config(**changes: Any) -> OptimConfig:
    return OptimConfig(**{"lr": 0.5, "weight_decay": 0.1, "epochs": 1, "batch_size": 1} | changes)


def rates(steps: int, warmup: float) -> list[float]:
    """The rate that each step is taken with, and the one after the last."""
    optimizer = make_optimizer(nn.Linear(1, 1), config())
    seen = []
    for step in range(steps + 1):
        set_rates(optimizer, rate_factor(config(warmup=warmup), step, steps))
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def test_the_rate_rises_from_above_0_to_the_full_one_and_falls_to_0_after_the_last_step() -> None:
    seen = rates(steps=50, warmup=0.1)
    assert seen[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    assert all(later < earlier for earlier, later in pairwise(seen[5:]))
    assert seen[5 + 22] == pytest.approx(0.5 * 0.5 * (1 + 0.0348995), rel=1e-4)  # cosine, 22 of 45
    assert seen[49] > 0
    assert seen[50] == pytest.approx(0)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("warmup", [0, 0.1, 1])
def test_no_step_of_a_short_run_is_taken_at_rate_0(steps: int, warmup: float) -> None:
    seen = rates(steps, warmup)
    assert min(seen[:steps]) > 0
    assert max(seen[:steps]) == 0.5
    if warmup < 1 and steps > 1:
        assert seen[steps] == pytest.approx(0)


def test_biases_and_norms_do_not_decay_and_frozen_weights_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    optimizer = make_optimizer(model, config())
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decay == {
        id(model[0].weight): 0.1,
        id(model[0].bias): 0,
        id(model[1].weight): 0,
        id(model[1].bias): 0,
    }


def test_a_step_without_a_gradient_shrinks_matrices_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    optimizer = make_optimizer(model, config(betas=(0.8, 0.9)))
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    for each in model.parameters():
        each.grad = torch.zeros_like(each)
    optimizer.step()
    for name, each in model.named_parameters():
        shrunk = 1 - 0.5 * 0.1 if name == "0.weight" else 1
        torch.testing.assert_close(each.detach(), shrunk * before[name])


def test_each_part_of_the_model_may_have_a_rate_of_its_own_and_the_longest_name_counts() -> None:
    model = nn.ModuleDict(
        {"encoders": nn.ModuleDict({n: nn.Linear(2, 2) for n in "ab"}), "head": nn.Linear(2, 2)}
    )
    chosen = config(rates={"encoders": 0.1, "encoders.b": 0.02, "head": 0, "encoders.a.bias": 3})
    optimizer = make_optimizer(model, chosen)
    set_rates(optimizer, 0.5)
    found = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert {name: found[id(each)] for name, each in model.named_parameters()} == pytest.approx(
        {
            "encoders.a.weight": 0.5 * 0.5 * 0.1,
            "encoders.a.bias": 0.5 * 0.5 * 3,
            "encoders.b.weight": 0.5 * 0.5 * 0.02,
            "encoders.b.bias": 0.5 * 0.5 * 0.02,
            "head.weight": 0,
            "head.bias": 0,
        }
    )


def test_a_rate_may_be_that_of_one_weight_however_deep_it_stands() -> None:
    model = nn.Module()
    inner = model
    for step in ("encoders", "text", "bert", "encoder", "layer"):
        inner.add_module(step, nn.Module())
        inner = inner.get_submodule(step)
    inner.add_module("0", nn.Linear(2, 2))
    name = "encoders.text.bert.encoder.layer.0"
    optimizer = make_optimizer(model, config(rates={name: 0.1, f"{name}.weight": 0.02}))
    set_rates(optimizer, 1.0)
    found = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    rates = [found[id(each)] / 0.5 for each in model.parameters()]
    assert rates == pytest.approx([0.02, 0.1])


def test_a_rate_for_a_part_that_is_not_there_or_frozen_is_refused() -> None:
    model = nn.ModuleDict({"encoders": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(ConfigError, match=r"optim\.rates.*'haed'.*did you mean 'head'"):
        make_optimizer(model, config(rates={"haed": 0.1}))
    model["encoders"].requires_grad_(False)
    with pytest.raises(ConfigError, match="not a trained part of the model"):
        make_optimizer(model, config(rates={"encoders": 0.1}))


def test_the_state_of_every_weight_is_there_before_its_first_gradient() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    optimizer = make_optimizer(model, config())
    assert {id(each) for each in optimizer.state} == {id(each) for each in model.parameters()}
    model[0].weight.grad = torch.ones(4, 3)
    before = model[1].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[1].weight, before)  # no gradient, no step
    assert float(optimizer.state[model[0].weight]["step"]) == 1
    assert float(optimizer.state[model[1].weight]["step"]) == 0


def test_layers_of_an_encoder_move_the_less_the_further_they_are_from_its_end() -> None:
    text = TextConfig(vocab_size=110, width=8, layers=3, heads=2, feedforward=8, pooler=True)
    fusion = FusionConfig(width=8, layers=1, heads=2, feedforward=8)
    table = TabularConfig(numbers=2, width=8, steps=1)
    model = Lanistr(LanistrConfig(text=text, tabular=table, fusion=fusion))
    optimizer = make_optimizer(model, config(layer_decay=0.5, rates={"encoders.text": 0.1}))
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        names[parameter]: group["full_lr"] / 0.5
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    bert = "encoders.text.bert"
    assert found[f"{bert}.embeddings.word_embeddings.weight"] == pytest.approx(0.1 * 0.5**4)
    for layer, away in ((0, 3), (1, 2), (2, 1)):
        name = f"{bert}.encoder.layer.{layer}.output.dense.weight"
        assert found[name] == pytest.approx(0.1 * 0.5**away)
    assert found[f"{bert}.pooler.dense.weight"] == pytest.approx(0.1)  # behind the last layer
    assert {rate for name, rate in found.items() if not name.startswith(bert)} == {1.0}
