"""The script of the X-ray example: folds by patient, figures with intervals by patient."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.covid_survival import FOLDS, TASK, deal, mean_over_seeds, measure
from lanistr.tasks import read_task


def rows() -> list[dict[str, str]]:
    """Return three pictures of each of forty patients: eight died, twelve are not known."""
    outcomes = ["N"] * 8 + ["Y"] * 20 + [""] * 12
    return [
        {"patientid": f"p{i}", "survival": outcome if picture else ""}
        for i, outcome in enumerate(outcomes)
        for picture in range(3)
    ]


def test_patients_are_dealt_to_one_fold_and_deaths_evenly():
    fold_of = deal(rows(), np.random.default_rng(0))
    assert set(fold_of) == {f"p{i}" for i in range(40)}
    assert Counter(fold_of.values()) == dict.fromkeys(range(FOLDS), 10)
    assert Counter(fold_of[f"p{i}"] for i in range(8)) == dict.fromkeys(range(FOLDS), 2)


def test_figures_are_those_of_the_pictures_and_intervals_those_of_patients():
    cases = [
        {
            "id": str(i),
            "patient": f"p{i // 2}",
            "died": int(i < 8),
            "probability": p,
            "fold": i % FOLDS,
        }
        for i, p in enumerate([0.9, 0.8, 0.7, 0.2, 0.6, 0.5, 0.7, 0.8] + [0.1, 0.3] * 12)
    ]
    found = measure(cases, read_task(TASK).label)
    assert (found["pictures"], found["patients"], found["died"]) == (32, 16, 8)
    pairs = [
        (a["probability"] > b["probability"]) + (a["probability"] == b["probability"]) / 2
        for a in cases[:8]
        for b in cases[8:]
    ]
    assert found["auroc"]["value"] == pytest.approx(np.mean(pairs), abs=5e-4)
    assert len(found["auroc in each fold"]) == FOLDS
    low, high = found["auroc"]["interval"]
    assert low < found["auroc"]["value"] <= high
    assert mean_over_seeds([cases, cases]) == cases
