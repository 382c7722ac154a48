"""Which cases are learned from: the same for every method, given how many and a seed."""

import logging
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from lanistr.errors import DataError
from lanistr.modalities import Modality, presence
from lanistr.tasks import TaskSpec
from training.data.store import Dataset

log = logging.getLogger(__name__)

_OF_SHARE = 1
"""Beside the seed: or else, where every case has a label, a share would begin with the labelled."""


def draw_labelled(
    dataset: Dataset, labels: int | None, seed: int, *, complete: bool = False
) -> NDArray[np.int64]:
    """Return the positions of the labelled training cases to learn from, ascending.

    Args:
        dataset: where they stand.
        labels: how many; all where there are no more. None: all.
        seed: of the draw.
        complete: of those that are drawn, only the ones that bring every modality of the task.

    Raises:
        DataError: there are none.
    """
    found = dataset.rows("train", labelled=True)
    if labels is not None:
        found = np.sort(np.random.default_rng(seed).permutation(found)[:labels])
    return complete_cases(dataset, found) if complete else found


def draw_unlabelled(
    dataset: Dataset, share: float, seed: int, *, complete: bool = False
) -> NDArray[np.int64]:
    """Return the positions of the training cases to pretrain on, ascending.

    Those that bring nothing of what is read are none: nobody learns from them. With one seed,
    those of a smaller share are among those of a larger one.

    Args:
        dataset: where they stand; whether they have a label does not matter.
        share: of them, above 0; at least one case.
        seed: of the draw.
        complete: only those that bring every modality of the task.

    Raises:
        DataError: there are none.
    """
    found = dataset.rows("train")
    found = complete_cases(dataset, found) if complete else found[dataset.patterns(found) != ""]
    if not len(found):
        raise DataError(
            "no training case has any of the modalities to use",
            field=str(dataset.folder),
            accepted=f"cases with {' or '.join(dataset.task.modalities)}",
        )
    if share == 1:
        return found
    count = max(1, round(share * len(found)))
    return np.sort(np.random.default_rng([seed, _OF_SHARE]).permutation(found)[:count])


def brings_all(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each of the cases brings every modality of the task."""
    found: NDArray[np.bool_] = dataset.patterns(rows) == presence(dataset.task.modalities)
    return found


def complete_cases(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the cases that bring every modality of the task.

    Raises:
        DataError: there are none.
    """
    found = rows[brings_all(dataset, rows)]
    if not len(found):
        raise DataError(
            "none of the cases to learn from has every modality: "
            + ", ".join(dataset.task.modalities),
            field=str(dataset.folder),
            seen=f"0 of {len(rows)}",
            accepted="data with such cases; or, for systems that also learn from incomplete "
            "cases, --set complete=false",
        )
    return found


def warn_of_absent(dataset: Dataset, rows: NDArray[np.int64]) -> None:
    """Warn of modalities that none of the cases to learn from brings: no weight of them moves."""
    absent = [each for each, amounts in dataset.amounts.items() if not amounts[rows].any()]
    if absent:
        log.warning(
            "none of the cases to learn from has %s: the weights that read it stay as they are%s",
            *(", ".join(absent), to_do_without(dataset.task, absent)),
        )


def to_do_without(task: TaskSpec, modalities: Collection[Modality]) -> str:
    """Return the end of a message: how a run does without modalities; "" where no other is left."""
    left = ", ".join(each for each in task.modalities if each not in modalities)
    alike = "for both pretraining and fine-tuning"
    return f'; to leave it out: --set "modalities=[{left}]", {alike}' if left else ""


def refuse_one_class(dataset: Dataset, rows: NDArray[np.int64]) -> None:
    """Refuse labelled cases from which nothing can be told apart, for methods that cannot do so.

    Raises:
        DataError: all are of one class.
    """
    if dataset.task.label.kind != "regression" and len(np.unique(dataset.labels[rows])) == 1:
        raise DataError(
            "the labelled training cases are all of one class",
            field=str(dataset.folder),
            seen=f"{len(rows)} cases",
            accepted="more labels, or another seed",
        )
