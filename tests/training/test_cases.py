"""Which cases are learned from: draws that know nothing of one another."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lanistr.errors import DataError
from lanistr.modalities import Modality
from tests.fixtures_runs import SMALL
from training import finetune, pretrain
from training.cases import draw_labelled, draw_unlabelled, warn_of_absent
from training.data.store import Dataset
from training.prepare.__main__ import main as prepare


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
    with pytest.raises(DataError, match=r"no training case has any.*cases with image"):
        draw_unlabelled(pictures, 1, 0)


def test_a_modality_that_no_case_to_learn_from_brings_is_named_with_the_way_out(
    stays: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = Dataset.open(stays)
    rows = dataset.rows("train")
    lacking = rows[[not dataset.brings(row, Modality.IMAGE) for row in rows.tolist()]]
    warn_of_absent(dataset, rows)
    assert not caplog.messages
    warn_of_absent(dataset, lacking)
    warn_of_absent(dataset.only((Modality.IMAGE,)), lacking)  # nothing else is left
    begins = "none of the cases to learn from has image: the weights that read it stay as they are"
    way_out = '; to leave it out: --set "modalities=[text, tabular, timeseries]", '
    assert caplog.messages == [begins + way_out + "for both pretraining and fine-tuning", begins]


def test_both_stages_warn_of_a_column_that_is_empty_throughout(
    tmp_path: Path, command: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    command(
        prepare, "synthetic", "--task", "rating", "--samples", 60, "--missing", "image=1",
        "--image-size", 16, "--vocabulary-size", 400, "--out", tmp_path / "data",
    )  # fmt: skip
    for stage in (pretrain, finetune):
        caplog.clear()
        given = ("--recipe", "demo", "--data", tmp_path / "data", "--out", tmp_path / "run")
        settings = (*SMALL, "optim.epochs=1", "optim.batch_size=60")
        command(stage.main, *given, overrides=settings)
        assert [
            each for each in caplog.messages if "none of the cases to learn from has image" in each
        ], stage
        shutil.rmtree(tmp_path / "run")
