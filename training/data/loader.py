"""Batches read, decoded and collated ahead of the model, in worker processes."""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from threading import Thread
from typing import Generic, Self, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from lanistr.batch import stack
from lanistr.modalities import Modality
from lanistr.model.tensors import Arrays, TensorBatch, to_tensors
from training.data.sampler import MicroBatch, Positions
from training.data.store import Dataset, EncodedRows

IndexT = TypeVar("IndexT")
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A micro-batch with its arrays.

    Attributes:
        part: what was asked for.
        batch: its arrays, on the CPU.
        ids: the cases' names.
    """

    part: MicroBatch
    batch: TensorBatch
    ids: Sequence[str]

    def pin_memory(self) -> Self:
        """Copy into memory that a GPU reads by itself; torch's data loader asks for this."""
        return replace(self, batch=self.batch.pin_memory())


def load(
    dataset: Dataset,
    parts: Iterable[MicroBatch],
    *,
    workers: int = 0,
    encoded: EncodedRows | None = None,
    pin: bool = False,
) -> Iterator[Loaded]:
    """Read micro-batches in order, in so many processes beside the training one.

    Args:
        dataset: where the cases stand.
        parts: which cases, and with which seed their pictures vary; iterated as they are read.
        workers: 0 reads in the training process.
        encoded: outputs of frozen encoders, in place of the arrays.
        pin: copy into memory that a GPU reads by itself.
    """
    return _read(_Cases(dataset, encoded), parts, workers, pin)


def load_in_order(
    dataset: Dataset,
    batches: Iterable[Positions],
    *,
    workers: int = 0,
    encoded: EncodedRows | None = None,
) -> Iterator[TensorBatch]:
    """Read batches as they are, unvaried: for evaluation."""
    return _read(_Batches(dataset, encoded), batches, workers, pin=False)


def load_rows(
    dataset: Dataset, modality: Modality, chunks: Iterable[Positions], *, workers: int = 0
) -> Iterator[Arrays]:
    """Read rows of one modality's table, chunk by chunk."""
    return _read(_Rows(dataset, modality), chunks, workers, pin=False)


def _read(
    dataset: "TorchDataset[ItemT]", indices: Iterable[IndexT], workers: int, pin: bool
) -> Iterator[ItemT]:
    """Read the items of any indices, in order, by torch's loader and its workers."""
    # Any iterable serves as a sampler: only `len(loader)` would ask for its length.
    loader: DataLoader[ItemT] = DataLoader(
        dataset,
        sampler=indices,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        # A fork server would end on the SIGTERM that all processes of a run get, workers with it.
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_ignore_foreign_sigterm,
    )
    # Workers inherit the mask: SIGTERM is blocked from their first moment on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_foreign_sigterm(_worker: int) -> None:
    """Have a worker, in which SIGTERM is blocked, end only if the training process sends it one.

    torchrun, `timeout` and systemd send SIGTERM to all processes of a run. The training process
    answers it, and needs its workers to end its step.
    """
    Thread(target=_await_sigterm_of_parent, daemon=True).start()


def _await_sigterm_of_parent() -> None:
    """End this process on a SIGTERM of its parent, which ends and waits for it."""
    parent = parent_process()
    assert parent is not None
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(0)


class _Source(TorchDataset[ItemT], Generic[IndexT, ItemT]):
    def __init__(self, dataset: Dataset, encoded: EncodedRows | None = None) -> None:
        self.dataset = dataset
        self.encoded = encoded

    def __getitem__(self, index: IndexT) -> ItemT:
        raise NotImplementedError


class _Cases(_Source[MicroBatch, Loaded]):
    def __getitem__(self, part: MicroBatch) -> Loaded:
        batch = self.dataset.batch(part.positions.tolist(), seed=part.seed, encoded=self.encoded)
        tensors = to_tensors(batch)
        if part.weight:  # not a case that only keeps other processes company
            tensors = replace(tensors, cases=torch.from_numpy(part.positions))
        return Loaded(part, tensors, batch.ids)


class _Batches(_Source[Positions, TensorBatch]):
    def __getitem__(self, positions: Positions) -> TensorBatch:
        return to_tensors(self.dataset.batch(positions.tolist(), encoded=self.encoded))


class _Rows(_Source[Positions, Arrays]):
    def __init__(self, dataset: Dataset, modality: Modality) -> None:
        super().__init__(dataset)
        self.modality = modality

    def __getitem__(self, rows: Positions) -> Arrays:
        read = [self.dataset.arrays(self.modality, row) for row in rows.tolist()]
        return {name: torch.as_tensor(array) for name, array in stack(read).items()}
