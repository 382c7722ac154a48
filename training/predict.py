"""The eager model's outputs for cases of a prepared data set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from training.data.loader import load
from training.data.sampler import in_order
from training.data.store import Dataset


def predict(
    model: Lanistr,
    dataset: Dataset,
    positions: Sequence[int] | NDArray[np.int64],
    device: torch.device,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """Return the head's outputs (N, C), in the order of the positions; no case is left out."""
    model.eval()
    outputs: list[NDArray[Any]] = []
    with torch.inference_mode():
        for batch in load(dataset, in_order(list(positions), batch_size)):
            outputs.append(model(to_tensors(batch, device)).logits.float().cpu().numpy())
    return np.concatenate(outputs)
