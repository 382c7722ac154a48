"""A model's outputs for cases of a prepared data set."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lanistr.model.lanistr import Lanistr, Output
from lanistr.model.tensors import TensorBatch
from training.data.loader import load_in_order
from training.data.sampler import in_order
from training.data.store import Dataset, EncodedRows


def predict(
    model: Lanistr | Callable[[TensorBatch], Output],
    dataset: Dataset,
    positions: Sequence[int] | NDArray[np.int64],
    device: torch.device,
    batch_size: int = 64,
    *,
    encoded: EncodedRows | None = None,
    workers: int = 0,
) -> NDArray[np.float32]:
    """Return the head's outputs (N, C), in the order of the positions; no case is left out."""
    if isinstance(model, Lanistr):
        model.eval()
    outputs: list[NDArray[Any]] = []
    batches = in_order(positions, batch_size)
    with torch.no_grad():
        for batch in load_in_order(dataset, batches, encoded=encoded, workers=workers):
            outputs.append(model(batch.to(device)).logits.float().cpu().numpy())
    if not outputs:
        return np.empty((0, 0), dtype=np.float32)
    return np.concatenate(outputs)
