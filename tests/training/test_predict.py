"""Predictions for prepared cases: every case, in order, whatever the batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.data.store import Dataset
from training.predict import predict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(stays_finetuned: Path) -> Lanistr:
    return from_pretrained(stays_finetuned / "model", Lanistr)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_every_case_is_predicted_in_order_whatever_the_batch_size(
    model: Lanistr, stays_dataset: Dataset, batch_size: int
) -> None:
    rows = stays_dataset.rows("train")[::-3]  # 33 or so, not ascending
    together = predict(model, stays_dataset, rows, CPU, batch_size=batch_size)
    assert together.shape == (len(rows), 2)
    for position in (0, len(rows) // 2, len(rows) - 1):
        alone = predict(model, stays_dataset, rows[position : position + 1], CPU)
        np.testing.assert_allclose(together[position], alone[0], atol=1e-5)


def test_predicting_switches_training_behaviour_off(model: Lanistr, stays_dataset: Dataset) -> None:
    rows = stays_dataset.rows("test")
    model.train()
    first, second = (predict(model, stays_dataset, rows, CPU) for _ in range(2))
    np.testing.assert_array_equal(first, second)
