"""Weights of classes in the loss of fine-tuning, and the shift by them taken back afterwards."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lanistr.errors import ConfigError
from lanistr.model.lanistr import Lanistr
from lanistr.tasks import LabelSpec
from training.distributed import whole_weights
from training.recipe import FinetuneRecipe


def weigh_classes(
    recipe: FinetuneRecipe, label: LabelSpec, targets: NDArray[np.float32]
) -> tuple[float, ...] | None:
    """Return the weight of each class, 1 on average over the cases; None if all are 1.

    Raises:
        ConfigError: the label has no classes or another number of them, or the head is ordinal:
            the shift by weights cannot be taken back from its single score.
    """
    wanted = recipe.class_weights
    if wanted == "equal":
        return None
    if label.kind == "regression" or (label.kind == "ordinal" and recipe.ordinal == "score"):
        raise ConfigError(
            "class weights do not apply to this label",
            field="class_weights",
            seen=wanted,
            accepted="equal; or, for an ordinal label, --set ordinal=classes",
        )
    if wanted != "balanced" and len(wanted) != label.outputs:
        raise ConfigError(
            "not one weight per class",
            field="class_weights",
            seen=wanted,
            accepted=f"{label.outputs} numbers, for {', '.join(label.classes)}",
        )
    counts = np.bincount(targets.astype(np.int64), minlength=label.outputs)
    weights = 1 / np.maximum(counts, 1) if wanted == "balanced" else np.asarray(wanted)
    return tuple(float(each) for each in weights * counts.sum() / (weights @ counts))


def unweighted(model: Lanistr, class_weights: tuple[float, ...] | None) -> dict[str, Tensor]:
    """Return the model's weights, the shift by class weights taken back from the head's last layer.

    A weighted cross-entropy is least where the odds are those of the data times the class weights:
    without the logarithm of these, logits give the data's own odds.
    """
    learned = whole_weights(model)
    if class_weights is not None:
        assert model.head is not None
        bias = f"head.mlp.{len(model.head.mlp) - 1}.bias"
        learned[bias] = learned[bias] - torch.tensor(class_weights).log()
    return learned
