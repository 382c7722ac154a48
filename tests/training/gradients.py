"""Losses and gradients of one step of pretraining, and whether two ways to take it agree."""

import torch
from torch import Tensor, nn

from lanistr.model.tensors import TensorBatch

Found = dict[str, Tensor]


def one_step(model: nn.Module, running: nn.Module, batch: TensorBatch) -> Found:
    """Take a step's losses and gradients, by name.

    Args:
        model: whose gradients.
        running: the same as it runs.
        batch: to learn from, always with the same masks.
    """
    losses = running(batch, torch.Generator().manual_seed(1))
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {name: each.detach() for name, each in losses.items()} | gradients


def assert_same(one: Found, other: Found) -> None:
    assert one.keys() == other.keys()
    for name, each in one.items():
        torch.testing.assert_close(other[name], each, rtol=1e-3, atol=1e-4, msg=name)
