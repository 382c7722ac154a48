"""Batches read ahead of the model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from lanistr.batch import Batch
from training.data.store import Dataset


class _Batches(TorchDataset[Batch]):
    """The batches of an epoch, numbered."""

    def __init__(self, dataset: Dataset, batches: Sequence[NDArray[np.int64]]) -> None:
        self.dataset = dataset
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        return self.dataset.batch(self.batches[number].tolist())


def load(
    dataset: Dataset, batches: Sequence[NDArray[np.int64]], workers: int = 0
) -> "DataLoader[Batch]":
    """Read batches in order, in so many processes beside the training one."""
    return DataLoader(_Batches(dataset, batches), batch_size=None, num_workers=workers)
