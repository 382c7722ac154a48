"""Which cases are learned from: draws that know nothing of one another."""

from pathlib import Path

import numpy as np
import pytest

from lanistr.errors import DataError
from lanistr.modalities import Modality
from training.cases import draw_labelled, draw_unlabelled
from training.data.store import Dataset


def test_a_share_of_all_cases_is_drawn_whatever_cases_are_labelled(stays: Path) -> None:
    dataset = Dataset.open(stays)
    cases = len(dataset.rows("train"))
    both = []
    for seed in range(20):
        share = draw_unlabelled(dataset, 0.25, seed)
        assert share.tolist() == sorted(set(share.tolist()))
        assert set(share.tolist()) <= set(draw_unlabelled(dataset, 0.5, seed).tolist())
        assert len(share) == round(cases / 4)
        labelled = draw_labelled(dataset, len(share), seed)
        both.append(len(np.intersect1d(share, labelled)) / len(labelled))
    assert 0.15 < np.mean(both) < 0.35


def test_who_brings_nothing_of_what_is_read_is_not_pretrained_on(
    stays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = Dataset.open(stays).only((Modality.IMAGE,))
    drawn = draw_unlabelled(pictures, 1, 0)
    train = pictures.rows("train")
    assert 0 < len(drawn) < len(train)
    assert drawn.tolist() == [row for row in train.tolist() if pictures.brings(row, Modality.IMAGE)]
    assert set(draw_unlabelled(pictures, 0.5, 0).tolist()) <= set(drawn.tolist())
    monkeypatch.setattr(Dataset, "patterns", lambda self, rows: np.full(len(rows), ""))
    with pytest.raises(DataError, match=r"no training case brings any.*cases with image"):
        draw_unlabelled(pictures, 1, 0)
