"""Batches read, decoded and put together ahead of the model, in processes of their own."""

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

Wish = TypeVar("Wish")
Given = TypeVar("Given")


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
        parts: which cases, and with which seed their pictures vary; asked for as they are read.
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
    dataset: "TorchDataset[Given]", wishes: Iterable[Wish], workers: int, pin: bool
) -> Iterator[Given]:
    """Have torch's loader take the wishes for indices: workers fulfil them in order."""
    # Any iterable serves as a sampler: only `len(loader)` would ask for its length.
    loader: DataLoader[Given] = DataLoader(
        dataset,
        sampler=wishes,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        # From a fork server, workers would end with it: it gets what every process of a run gets.
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_leave_with_the_reader,
    )
    # Workers begin with what is blocked here: from their first moment on, see there.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_with_the_reader(_worker: int) -> None:
    """Have a worker, which began with SIGTERM blocked, overlook one that all of a run's get.

    torchrun, `timeout` and systemd ask all of them. It is for the training process to answer, which
    cannot end its step without its workers.
    """
    Thread(target=_await_word_of_the_reader, daemon=True).start()


def _await_word_of_the_reader() -> None:
    """Leave when the training process asks this one alone: it ends, and waits for it."""
    reader = parent_process()
    assert reader is not None
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != reader.pid:
        pass
    os._exit(0)


class _Source(TorchDataset[Given], Generic[Wish, Given]):
    def __init__(self, dataset: Dataset, encoded: EncodedRows | None = None) -> None:
        self.dataset = dataset
        self.encoded = encoded

    def __getitem__(self, wish: Wish) -> Given:
        raise NotImplementedError


class _Cases(_Source[MicroBatch, Loaded]):
    def __getitem__(self, part: MicroBatch) -> Loaded:
        batch = self.dataset.batch(part.positions.tolist(), seed=part.seed, encoded=self.encoded)
        tensors = to_tensors(batch)
        if part.weight:  # who is there for company alone is not to be remembered
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
