"""The optimiser and its schedule."""

import math

import torch
from torch import nn
from torch.optim import AdamW

from lanistr.errors import ConfigError, unknown_name
from lanistr.model.encoder import Encoder
from training.recipe import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """Return AdamW over what is trained; biases, norms and embeddings of one axis do not decay.

    Raises:
        ConfigError: a rate is given for a part that the model has not, or that is not trained.
    """
    check_rates(model, config)
    trained, layers = _trained(model), _layers_behind(model)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        rate = _rate(name, config) * config.layer_decay ** layers.get(parameter, 0)
        groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    optimizer = AdamW(
        [
            {
                "params": parameters,
                "full_lr": config.lr * rate,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (rate, decays), parameters in groups.items()
        ],
        lr=config.lr,
        betas=config.betas,
        fused=True,
    )
    # Now, not at a weight's first gradient: a checkpoint has the same entries at any time.
    for parameter in trained.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer


def check_rates(model: nn.Module, config: OptimConfig) -> None:
    """Check that rates are given for parts that there are.

    Raises:
        ConfigError: the model has no such part, or it is not trained.
    """
    parts = {
        ".".join(steps[:n])
        for name in _trained(model)
        for steps in (name.split("."),)
        for n in range(1, len(steps) + 1)
    }
    for part in config.rates:
        if part not in parts:
            raise ConfigError(
                "not a trained part of the model",
                field="optim.rates",
                seen=part,
                accepted=unknown_name(part, sorted(each for each in parts if each.count(".") < 2)),
            )


def rate_factor(config: OptimConfig, step: int, steps: int, halvings: int = 0) -> float:
    """Return the share of the full learning rate that a step of a run of `steps` is taken with.

    Warm-up and cosine: up to 1, then down to 0 after the last step. With `plateau`, 1 after the
    warm-up, halved as often as the run says.
    """
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return (step + 1) / warmup
    if config.plateau is not None:
        return 0.5**halvings
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_rates(optimizer: AdamW, factor: float) -> None:
    """Set every group's learning rate to a share of its full one."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["full_lr"]


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what is trained, named as in the model without its pretexts."""
    return {
        name.removeprefix("core."): each
        for name, each in model.named_parameters()
        if each.requires_grad
    }


def _layers_behind(model: nn.Module) -> dict[nn.Parameter, int]:
    """Return how many layers of its encoder a parameter is away from the encoder's end.

    The last Transformer layer is 1 away. Those that stand behind it are left out.
    """
    away: dict[nn.Parameter, int] = {}
    for encoder in model.modules():
        if not isinstance(encoder, Encoder) or not encoder.blocks:
            continue
        number = len(encoder.blocks)
        inside = {
            parameter: number - place
            for place, block in enumerate(encoder.blocks)
            for parameter in block.parameters()
        }
        for parameter in encoder.parameters():  # in the order in which the modules stand
            if parameter in inside:
                break
            away[parameter] = number + 1
        away |= inside
    return away


def _rate(name: str, config: OptimConfig) -> float:
    """Return the rate of the longest part that a parameter's name starts with; 1 if none does."""
    steps = name.split(".")
    found = [config.rates.get(".".join(steps[:n])) for n in range(1, len(steps) + 1)]
    return next((rate for rate in reversed(found) if rate is not None), 1.0)
