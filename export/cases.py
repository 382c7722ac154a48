"""Real cases to export with and to compare on: of the labelled ones of the test split."""

import numpy as np

from export.parity import BATCHES, CASES
from lanistr.errors import DataError
from training.data.store import Dataset


def example_cases(dataset: Dataset) -> list[int]:
    """Return cases that together bring every modality at least twice.

    Raises:
        DataError: a modality occurs in fewer than two cases of the split.
    """
    rows = dataset.rows("test", labelled=True)
    chosen: set[int] = set()
    for modality in dataset.task.modalities:
        bringing = [int(row) for row in rows if dataset.brings(int(row), modality)][:2]
        if len(bringing) < 2:
            raise DataError(
                "too few cases bring a modality to prove its graph on",
                field=modality,
                seen=len(bringing),
                accepted="at least two labelled cases of the test split",
            )
        chosen.update(bringing)
    return sorted(chosen)


def chosen_cases(dataset: Dataset) -> list[int]:
    """Return `CASES` cases and more, those that bring the most modalities first.

    The last batch, the largest, starts with the examples, so that it brings every modality.
    """
    rows = dataset.rows("test", labelled=True)
    brought = [sum(dataset.brings(int(row), m) for m in dataset.task.modalities) for row in rows]
    complete = [int(rows[i]) for i in np.argsort(brought, kind="stable")[::-1]]
    return [*complete[: CASES - BATCHES[-1][0]], *example_cases(dataset), *complete]
