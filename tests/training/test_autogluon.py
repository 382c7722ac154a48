"""The real AutoGluon: what it is given and how it is read; trained where it is installed."""

import io
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from training.autogluon import (
    LABEL,
    METRICS,
    as_frame,
    hyperparameters,
    main,
    most_pictures,
    problem_type,
)
from training.baselines import Cases
from training.cases import draw_labelled
from training.data.store import Dataset
from training.linear import as_outputs

Command = Callable[..., str]


def cases_of(folder: Path, labels: int) -> Cases:
    dataset = Dataset.open(folder)
    held_out = (dataset.rows(each, labelled=True) for each in ("validation", "test"))
    return Cases(dataset, draw_labelled(dataset, labels, 0), *held_out, seed=0)


# ---- what it is given ---------------------------------------------------------------------------


def test_a_case_is_a_row_with_text_picture_numbers_and_categories(stays: Path) -> None:
    cases = cases_of(stays, 60)
    dataset = cases.dataset
    frame, kinds = as_frame(cases)
    assert len(frame) == len(cases.everyone)
    assert set(frame.columns) == {*kinds, LABEL}
    assert (kinds["text"], kinds["image"]) == ("text", "image_bytearray")
    assert kinds["tabular.age"] == kinds["timeseries.mean heart_rate"] == "numerical"
    assert kinds["tabular.gender"] == "categorical"
    assert frame[LABEL].tolist() == dataset.labels[cases.everyone].tolist()
    for position, (_, row) in zip(cases.everyone, frame.iterrows(), strict=True):
        brings = {each: dataset.brings(int(position), each) for each in Modality}
        assert (row["text"] != "") == brings[Modality.TEXT]
        assert (row["image"] is not None) == brings[Modality.IMAGE]
        assert np.isnan(row["timeseries.count heart_rate"]) != brings[Modality.TIMESERIES]


def test_pictures_are_those_that_our_models_see(stays: Path) -> None:
    cases = cases_of(stays, 60)
    frame, _ = as_frame(cases)
    checked = 0
    for position, files in zip(cases.everyone, frame["image"], strict=True):
        rows = cases.dataset.features(int(position)).rows.get(Modality.IMAGE, ())
        assert len(files or ()) == len(rows)
        for file, arrays in zip(files or (), rows, strict=True):
            with Image.open(io.BytesIO(file)) as picture:
                np.testing.assert_array_equal(
                    np.asarray(picture).transpose(2, 0, 1), arrays["pixels"]
                )
            checked += 1
    assert checked
    most = max(int(n) for n in cases.dataset.row_counts(Modality.IMAGE)[cases.everyone])
    assert most_pictures(frame) == most


def test_columns_that_say_nothing_in_training_are_left_out(stays: Path) -> None:
    cases = cases_of(stays, 60)
    frame, kinds = as_frame(cases)
    train, validation, test, _ = cases.dealt(frame)
    assert (len(train), len(validation)) == (60, len(cases.validation))
    assert len(test) == len(cases.test)
    for name, kind in kinds.items():
        if kind in ("numerical", "categorical"):
            assert train[name].nunique(dropna=False) > 1, name


def test_rows_without_words_and_pictures_have_neither_column(verdicts: Path) -> None:
    _, kinds = as_frame(cases_of(verdicts, 40))
    assert set(kinds.values()) == {"numerical", "categorical"}
    assert most_pictures(as_frame(cases_of(verdicts, 40))[0]) == 1


# ---- how it is called and read ------------------------------------------------------------------


def test_tasks_are_told_in_its_words(
    stays_dataset: Dataset, stars_dataset: Dataset, ranks: Path
) -> None:
    told = [problem_type(each.task) for each in (stays_dataset, stars_dataset, Dataset.open(ranks))]
    assert told == ["binary", "regression", "multiclass"]
    assert METRICS[stays_dataset.task.metric] == "roc_auc"


def test_settings_are_its_own_and_read_as_yaml() -> None:
    found = hyperparameters(["optim.lr=0.1", "model.names=[hf_text, fusion_mlp]", "a.b=x=y"])
    assert found == {"optim.lr": 0.1, "model.names": ["hf_text", "fusion_mlp"], "a.b": "x=y"}
    for wrong in ("optim.lr", "=3", "a=[1"):
        with pytest.raises(ConfigError, match="not an override"):
            hyperparameters([wrong])


def test_classes_that_it_never_saw_are_taken_to_be_rare(ranks: Path) -> None:
    label = Dataset.open(ranks).task.label
    outputs = as_outputs(np.array([[0.7, 0.3]]), np.array([4, 2]), label, 9)
    shares = np.exp(outputs[0])
    assert shares.sum() == pytest.approx(1)
    assert shares.argmax() == 4
    assert shares[[0, 1, 3]] == pytest.approx(0.1 / 1.3)


@pytest.mark.skipif(find_spec("autogluon") is not None, reason="it is installed")
def test_without_it_one_line_names_the_extra(
    verdicts: Path, tmp_path: Path, command: Command
) -> None:
    with pytest.raises(ConfigError, match=r"lanistr\[autogluon\]"):
        command(main, "--data", verdicts, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(find_spec("autogluon") is None, reason="it is not installed")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("data", ["verdicts", "ranks", "stars"])
def test_with_it_a_table_is_learned_and_reported_on(
    data: str, request: pytest.FixtureRequest, tmp_path: Path, command: Command
) -> None:
    command(
        main, "--data", request.getfixturevalue(data), "--out", tmp_path / "out", "--labels", 60,
        overrides=("optim.max_epochs=2", "env.num_workers=0", "env.num_workers_inference=0"),
    )  # fmt: skip
    found = json.loads((tmp_path / "out" / "report-test.json").read_text(encoding="utf-8"))
    assert found["about"]["labels"] == 60
    assert None not in [found["all"]["metrics"][found["about"]["metric"]]]
    assert (tmp_path / "out" / "predictor").is_dir()
