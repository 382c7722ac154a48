"""What fine-tuned runs say of cases, for another to learn where there are no labels."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lanistr.calibration import softmax
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.data.store import Dataset
from training.predict import predict
from training.run import Run, check_fits, check_predicts


def teach(
    teachers: Sequence[Run],
    dataset: Dataset,
    positions: NDArray[np.int64],
    labelled: NDArray[np.int64],
    *,
    device: torch.device,
    workers: int,
) -> NDArray[np.float32]:
    """Return what each case of a data set is to be learned as.

    Args:
        teachers: fine-tuned runs.
        dataset: where the cases stand.
        positions: of those to be learned.
        labelled: of those among them that are learned as their label says; the others as the
            teachers say on average.
        device: where the teachers run.
        workers: processes that read ahead.

    Returns:
        (N, C) probability of each class, or (N,) number, by position in the data set; NaN for a
        case that is not to be learned.

    Raises:
        DataError: a run is not fine-tuned, on other labels, or of other preprocessing.
    """
    label = dataset.task.label
    for each in teachers:
        check_fits(each, dataset)
        check_predicts(each, dataset)
    targets = np.full((len(dataset), label.outputs), np.nan)
    targets[positions] = 0
    for each in teachers:
        model = from_pretrained(each.model_folder, Lanistr).to(device)
        outputs = predict(model, dataset, positions, device, workers=workers)
        if label.kind != "regression":
            outputs = softmax(outputs / each.calibration().temperature)
        targets[positions] += outputs / len(teachers)
    known = dataset.labels[labelled]
    if label.kind == "regression":
        targets[labelled, 0] = known
        return targets[:, 0].astype(np.float32)
    targets[labelled] = np.eye(label.outputs)[known.astype(np.int64)]
    return targets.astype(np.float32)
