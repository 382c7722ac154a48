"""Reading ahead."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lanistr.modalities import Modality
from lanistr.model.tensors import TensorBatch
from tests.forked import FORKED
from training.data.codecs import Augmentation
from training.data.loader import Loaded, load, load_in_order, load_rows
from training.data.sampler import Curriculum, in_order
from training.data.store import Dataset


def curriculum(data: Dataset) -> Curriculum:
    return Curriculum(
        positions=data.rows("train"),
        amounts=data.amounts,
        batch_size=16,
        seed=5,
        lengths=data.tokens,
    )


def same(one: TensorBatch, other: TensorBatch) -> bool:
    return one.parts.keys() == other.parts.keys() and all(
        torch.equal(array, other.parts[m].arrays[name])
        for m, part in one.parts.items()
        for name, array in part.arrays.items()
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_micro_batches_come_in_order_whoever_reads_them(
    workers: int, stays_dataset: Dataset
) -> None:
    plan = curriculum(stays_dataset)
    asked = list(plan.walk(2, 10))
    found: list[Loaded] = list(load(stays_dataset, iter(asked), workers=workers))
    assert [each.part.seed for each in found] == [each.seed for each in asked]
    for part, each in zip(asked, found, strict=True):
        assert list(each.ids) == stays_dataset.ids(part.positions.tolist())
        expected = stays_dataset.batch(part.positions.tolist(), seed=part.seed)
        assert np.array_equal(each.batch.labels, expected.labels, equal_nan=True)
        assert each.batch.parts.keys() == expected.parts.keys()


HELD: list[Iterator[Loaded]] = []


def leave_in_the_middle(folder: Path) -> None:
    """Read a part ahead of others and leave, as with an error whose traceback keeps the reader."""
    data = Dataset.open(folder)
    HELD.append(load(data, curriculum(data).walk(0, 10), workers=1))
    next(HELD[0])


def test_workers_that_are_still_needed_do_not_keep_a_process_from_leaving(stays: Path) -> None:
    process = FORKED.Process(target=leave_in_the_middle, args=(stays,))
    process.start()
    process.join(120)
    left, _ = process.exitcode, process.kill()
    assert left == 0


def read_with_a_worker_asked_at_its_start(folder: Path) -> None:
    """Read while whoever is forked from here is asked to end before it can do anything."""
    data = Dataset.open(folder)
    forked: list[bool] = []
    os.register_at_fork(
        after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM),
        after_in_parent=lambda: forked.append(True),
    )
    assert len(list(load(data, curriculum(data).walk(0, 2), workers=1))) == 2
    assert forked, "another process made the worker, which may be asked itself"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())  # who reads can be asked as before


def test_workers_that_are_asked_to_end_as_they_start_read_all_the_same(stays: Path) -> None:
    process = FORKED.Process(target=read_with_a_worker_asked_at_its_start, args=(stays,))
    process.start()
    process.join(120)
    left, _ = process.exitcode, process.kill()
    assert left == 0


def test_pictures_vary_from_epoch_to_epoch_and_are_the_same_for_the_same_seed(
    stays: Path,
) -> None:
    data = Dataset.open(stays, Augmentation(crop=0.6, flip=0.5))
    plan = curriculum(data)
    first, again = (list(load(data, plan.walk(0, 3))) for _ in range(2))
    assert all(same(a.batch, b.batch) for a, b in zip(first, again, strict=True))
    plain = Dataset.open(stays)
    still = [plain.batch(each.part.positions.tolist()) for each in first]
    changed = [
        not np.array_equal(
            a.batch.parts[Modality.IMAGE].arrays["pixels"], b.parts[Modality.IMAGE].arrays["pixels"]
        )
        for a, b in zip(first, still, strict=True)
    ]
    assert all(changed)
    cases = first[0].part.positions.tolist()
    one, other = (data.batch(cases, seed=seed).parts[Modality.IMAGE] for seed in (1, 2))
    assert not np.array_equal(one.arrays["pixels"], other.arrays["pixels"])
    unvaried = data.batch(cases).parts[Modality.IMAGE].arrays["pixels"]
    assert np.array_equal(unvaried, still[0].parts[Modality.IMAGE].arrays["pixels"])


def test_without_augmentation_a_seed_changes_nothing(stays_dataset: Dataset) -> None:
    cases = stays_dataset.rows("train")[:8].tolist()
    one, other = (stays_dataset.batch(cases, seed=seed) for seed in (1, None))
    for modality, part in one.parts.items():
        for name, array in part.arrays.items():
            assert np.array_equal(array, other.parts[modality].arrays[name])


def test_for_evaluation_every_case_comes_once_and_in_order(stays_dataset: Dataset) -> None:
    rows = stays_dataset.rows("test")
    found = list(load_in_order(stays_dataset, in_order(rows, 5)))
    labels = np.concatenate([each.labels for each in found])
    assert np.array_equal(labels, stays_dataset.labels[rows])


def test_rows_of_one_modality_are_read_in_chunks(stays_dataset: Dataset) -> None:
    rows = stays_dataset.references(Modality.TEXT, stays_dataset.rows("train")[:9])
    chunks = list(load_rows(stays_dataset, Modality.TEXT, in_order(rows, 4)))
    assert sum(len(each["token_ids"]) for each in chunks) == len(rows)
    first = stays_dataset.arrays(Modality.TEXT, int(rows[0]))["token_ids"]
    assert chunks[0]["token_ids"][0, : len(first)].tolist() == first.tolist()
    assert int(chunks[0]["attention_mask"][0].sum()) == len(first)
