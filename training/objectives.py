"""Objectives: from a batch to the loss that is trained on, and a report of its parts."""

from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from lanistr.model.lanistr import Lanistr, LanistrForPretraining
from lanistr.model.tensors import TensorBatch, TensorPart
from training.recipe import LossWeights


class Objective(Protocol):
    """What the loop minimises."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    def __call__(self, batch: TensorBatch, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its parts by name, the parts as plain numbers."""
        ...


class Pretraining:
    """The weighted sum of the losses of the modalities that the batch brings."""

    def __init__(self, model: LanistrForPretraining, weights: LossWeights) -> None:
        self.model = model
        self.weights = weights

    def __call__(self, batch: TensorBatch, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of one step."""
        named = self.model(batch, generator)
        total = torch.stack([getattr(self.weights, name) * each for name, each in named.items()])
        return total.sum(), {name: float(each.detach()) for name, each in named.items()}


class Task:
    """The task's loss over labelled cases: cross-entropy, or squared error for regression."""

    def __init__(self, model: Lanistr, *, regression: bool, modality_dropout: float) -> None:
        self.model = model
        self.regression = regression
        self.modality_dropout = modality_dropout

    def __call__(self, batch: TensorBatch, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of one step; every case of the batch must be labelled."""
        assert batch.labels is not None
        hidden = drop_modalities(batch, self.modality_dropout, generator)
        loss = self.loss(self.model(hidden).logits, batch.labels)
        return loss, {"task": float(loss.detach())}

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, C) against labels (B,)."""
        if self.regression:
            return functional.mse_loss(logits[:, 0].float(), labels)
        return functional.cross_entropy(logits.float(), labels.long())


def drop_modalities(batch: TensorBatch, share: float, generator: Generator) -> TensorBatch:
    """Hide each present modality of each case with chance `share`; a case may lose all."""
    if share == 0:
        return batch
    parts = {}
    for modality, part in batch.parts.items():
        draws = torch.rand(batch.size, generator=generator, device=generator.device)
        kept = (draws >= share).to(part.sample.device)[part.sample]
        if kept.any():
            arrays = {name: array[kept] for name, array in part.arrays.items()}
            parts[modality] = TensorPart(part.sample[kept], arrays)
    return TensorBatch(batch.size, parts, batch.labels)
