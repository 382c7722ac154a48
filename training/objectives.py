"""Objectives: from a batch to the loss that is trained on, and a report of its parts.

A step's loss is the mean over all its cases, wherever they run: each micro-batch's mean counts by
the share that it holds of what the mean is over: words, pictures, rows, series, compared tokens. Of
words that is their number, not that of the masked ones, which only the masks know: the same in the
mean, and no process has to wait for the others' masks.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from lanistr.modalities import Modality
from lanistr.model.heads import Units
from lanistr.model.lanistr import ForPretraining, Lanistr, Mean, nothing
from lanistr.model.tensors import TensorBatch, TensorPart, places
from training.data.sampler import MicroBatch
from training.distributed import World
from training.recipe import LossWeights


class Objective(Protocol):
    """What the loop minimises."""

    @property
    def model(self) -> Lanistr | ForPretraining:
        """What is trained."""
        ...

    @property
    def run(self) -> nn.Module:
        """The model as it runs, which several processes wrap."""
        ...

    @property
    def losses(self) -> Sequence[str]:
        """Names of the parts of the loss, in the order in which they are reported."""
        ...

    def begin(self, epochs: float) -> None:
        """Make ready for a step after so many epochs."""
        ...

    def end(self, world: World) -> None:
        """Note what a step has brought in all processes."""
        ...

    def shown(self, batch: TensorBatch, generator: Generator) -> TensorBatch:
        """Return what the model is to see of a micro-batch, which stands on the CPU."""
        ...

    def __call__(
        self, batch: TensorBatch, part: MicroBatch, generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what a micro-batch adds to the step's loss, and to the loss's parts by name.

        Parts that it has no share of are not named.
        """
        ...


class Pretraining:
    """The weighted sum of the losses of the modalities that the batch brings.

    Args:
        model: what is trained.
        weights: of the losses.
        run: the model as it runs, where it is wrapped for several processes.
    """

    def __init__(
        self, model: ForPretraining, weights: LossWeights, run: nn.Module | None = None
    ) -> None:
        self.model = model
        self.run = run or model
        # The summaries of all modalities, `summary_timeseries` or another, have one weight.
        self._weights = {loss: float(getattr(weights, loss.split("_")[0])) for loss in model.means}
        self.losses = list(self._weights)

    def begin(self, epochs: float) -> None:
        """See `ForPretraining.begin`."""
        self.model.begin(epochs)

    def end(self, world: World) -> None:
        """See `ForPretraining.end`."""
        self.model.end(world.gather)

    def shown(self, batch: TensorBatch, generator: Generator) -> TensorBatch:
        """Return the batch as it is: the model itself hides parts of it and fills them in."""
        return batch

    def __call__(
        self, batch: TensorBatch, part: MicroBatch, generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what a micro-batch adds to the step's loss."""
        named = self.run(batch, generator, part.company)
        shares = {name: _share(part, self.model.means[name]) for name in named}
        named = {name: shares[name] * each for name, each in named.items()}
        total = torch.stack([self._weights[name] * each for name, each in named.items()])
        return total.sum(), {name: each.detach() for name, each in named.items() if shares[name]}


def _share(part: MicroBatch, mean: Mean) -> float:
    """Return a micro-batch's share of what a loss is a mean over."""
    if isinstance(mean, Modality):
        return part.shares.get(mean, 0.0)
    return {"cases": part.weight, "compared": part.compared}[mean]


SHORTCUT = "shortcut"
"""The task's loss of what the part past fusion says by itself."""


class Task:
    """The task's loss: cross-entropy, or squared error for regression.

    Squared errors are in units of the training labels' variance, so that the same learning rates
    suit labels of any size.

    Args:
        model: what is trained.
        modality_dropout: chance that a present modality of a case is hidden.
        unimodal: weight of the same loss of each modality's own head.
        class_weights: (C,) weight of each class, 1 on average over the cases; None for all 1.
        targets: what every case of the data set is to be learned as, where that is not its label:
            (N, C) probabilities of classes or (N,) numbers.
        run: the model as it runs, where it is wrapped for several processes.
    """

    def __init__(
        self,
        model: Lanistr,
        *,
        modality_dropout: float,
        unimodal: float = 0.0,
        class_weights: Sequence[float] | None = None,
        targets: NDArray[np.float32] | None = None,
        run: nn.Module | None = None,
    ) -> None:
        self.model = model
        assert model.head is not None, "a task is learned with a head"
        self.link = model.head.link
        self.modality_dropout = modality_dropout
        self.unimodal = unimodal
        self._alone = {name: Modality(m) for m in model.unimodal for name in model.heads(m)}
        self.losses = ("task", *([SHORTCUT] if model.fusion.shortcut else []), *self._alone)
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)
        self.targets = None if targets is None else torch.from_numpy(targets)
        self.run = run or model

    def begin(self, epochs: float) -> None:
        """Nothing is to be made ready."""

    def end(self, world: World) -> None:
        """Nothing is to be noted."""

    def shown(self, batch: TensorBatch, generator: Generator) -> TensorBatch:
        """Return the batch without the modalities that are hidden."""
        return drop_modalities(batch, self.modality_dropout, generator)

    def __call__(
        self, batch: TensorBatch, part: MicroBatch, generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what a micro-batch, of cases that have a label or target, adds to the loss."""
        labels = batch.labels
        assert labels is not None
        if self.targets is not None:
            labels = self.targets[part.positions].to(labels.device)
        said = self.run(batch, part.company)
        total = part.weight * self.loss(said.logits, labels)
        named = {"task": total.detach()}
        if said.shortcut is not None:
            own = part.weight * self.loss(said.shortcut, labels)
            total, named[SHORTCUT] = total + own, own.detach()
        for name, logits_RC in said.unimodal.items():
            modality = self._alone[name]
            if modality in batch.parts:
                own = self.loss(logits_RC, labels[batch.parts[modality].sample])
                own = part.row_shares.get(modality, 0.0) * own
                named[name] = own.detach()
            else:
                own = nothing([logits_RC])
            total = total + self.unimodal * own
        return total, named

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs (B, C) against labels (B,), or probabilities (B, C)."""
        if isinstance(self.link, Units):
            unit = self.link.deviation
            return functional.mse_loss(logits.float() / unit, labels[:, None] / unit)
        logits = logits.float()
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        target = labels if labels.ndim == 2 else labels.long()
        # Not its own mean, which would be over the weights.
        return functional.cross_entropy(logits, target, weights, reduction="none").mean()


def drop_modalities(batch: TensorBatch, share: float, generator: Generator) -> TensorBatch:
    """Hide each present modality of each case with chance `share`; a case may lose all."""
    if share == 0:
        return batch
    parts = {}
    for modality, part in batch.parts.items():
        draws = torch.rand(batch.size, generator=generator, device=generator.device)
        kept = (draws >= share).to(part.sample.device)[part.sample]
        rows = places(kept)
        if len(rows):
            arrays = {name: array.index_select(0, rows) for name, array in part.arrays.items()}
            parts[modality] = TensorPart(part.sample.index_select(0, rows), arrays)
    return TensorBatch(batch.size, parts, batch.labels)
