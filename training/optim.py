"""The optimiser and its schedule."""

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from training.recipe import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """Return AdamW over what is trained; biases, norms and embeddings of one axis do not decay."""
    trained = [each for each in model.parameters() if each.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    on_gpu = bool(trained) and trained[0].is_cuda
    return AdamW(groups, lr=config.lr, betas=config.betas, fused=on_gpu or None)


def make_schedule(optimizer: AdamW, config: OptimConfig, steps: int) -> LambdaLR:
    """Return warm-up and cosine by step: up to the full rate, then down to 0 after the last."""
    warmup = max(1, round(config.warmup * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)
