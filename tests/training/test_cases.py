"""Which cases are learned from: draws that know nothing of one another."""

from pathlib import Path

import numpy as np

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
