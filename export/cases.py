"""Real cases to export with and to compare on: of the labelled ones of the test split."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.parity import BATCHES, CASES
from lanistr.errors import DataError
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.cases import to_do_without
from training.compatibility import check_fits, check_predicts
from training.data.store import Dataset
from training.run import Run


def open_run(folder: Path, data: Path | None = None) -> tuple[Run, Dataset, Lanistr]:
    """Open a fine-tuned run with prepared data that fit it, and its model on the CPU.

    Args:
        folder: of the run.
        data: None: what it was trained on.

    Raises:
        CheckpointError: the run cannot be read.
        DataError: the data cannot be, or do not fit, or the run has no head.
    """
    run = Run.open(folder)
    dataset = Dataset.open(data or Path(run.config.data)).only(run.task.modalities)
    check_predicts(run, dataset)
    check_fits(run, dataset)
    return run, dataset, from_pretrained(run.model_folder, Lanistr)


def labelled_cases(dataset: Dataset) -> NDArray[np.int64]:
    """Return the positions (N,) of all cases that are meant here, ascending."""
    return dataset.rows("test", labelled=True)


def evenly(cases: int, wanted: int | None) -> NDArray[np.int64]:
    """Return as many of `cases` positions as are wanted, (N,) ascending; None: all."""
    few = min(wanted or cases, cases)
    return np.linspace(0, cases - 1, few).round().astype(np.int64)


def example_cases(dataset: Dataset) -> list[int]:
    """Return cases that together bring every modality at least twice.

    Raises:
        DataError: a modality occurs in fewer than two cases of the split.
    """
    rows = labelled_cases(dataset)
    chosen: set[int] = set()
    for modality in dataset.task.modalities:
        bringing = [int(row) for row in rows if dataset.brings(int(row), modality)][:2]
        if len(bringing) < 2:
            raise DataError(
                "too few cases have this modality to check its graph",
                field=modality,
                seen=len(bringing),
                accepted="at least two labelled cases of the test split"
                + to_do_without(dataset.task, [modality]),
            )
        chosen.update(bringing)
    return sorted(chosen)


def chosen_cases(dataset: Dataset) -> list[int]:
    """Return `CASES` cases and more, those that bring the most modalities first.

    The last batch, the largest, starts with the examples, so that it brings every modality.
    """
    rows = labelled_cases(dataset)
    brought = [sum(dataset.brings(int(row), m) for m in dataset.task.modalities) for row in rows]
    complete = [int(rows[i]) for i in np.argsort(brought, kind="stable")[::-1]]
    return [*complete[: CASES - BATCHES[-1][0]], *example_cases(dataset), *complete]
