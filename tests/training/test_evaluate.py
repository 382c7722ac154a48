"""Evaluation through its command: every case counts, by presence and subgroup too."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lanistr.calibration import softmax
from lanistr.decision import LIKELIEST, Decision
from lanistr.errors import DataError
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.bootstrap import bootstrap
from training.data.store import Dataset
from training.evaluate import evaluate, main
from training.metrics import measure
from training.outputs import outputs_file, read_outputs
from training.predict import predict
from training.run import Run


@pytest.fixture(scope="module")
def report(
    stays: Path, stays_finetuned: Path, command: Callable[..., str]
) -> tuple[dict[str, Any], str]:
    said = command(main, "--run", stays_finetuned, "--data", stays, "--split", "validation")
    return json.loads((stays_finetuned / "report-validation.json").read_text()), said


def test_every_labelled_case_of_the_split_counts(
    report: tuple[dict[str, Any], str], stays_dataset: Dataset
) -> None:
    found, said = report
    labelled = stays_dataset.card.labelled["validation"]
    assert found["all"]["cases"] == labelled
    assert f"{labelled} cases" in said
    assert sum(each["cases"] for each in found["by_presence"].values()) == labelled
    assert set(found["by_subgroup"]) == {"gender"}
    assert sum(each["cases"] for each in found["by_subgroup"]["gender"].values()) == labelled


def test_presence_and_subgroups_are_those_of_the_cases(
    report: tuple[dict[str, Any], str], stays_dataset: Dataset
) -> None:
    found, _ = report
    rows = stays_dataset.rows("validation", labelled=True)
    patterns = stays_dataset.patterns(rows).tolist()
    assert {name: each["cases"] for name, each in found["by_presence"].items()} == {
        name: patterns.count(name) for name in patterns
    }
    genders = [str(stays_dataset.subgroups()["gender"][int(row)]) for row in rows]
    assert {name: each["cases"] for name, each in found["by_subgroup"]["gender"].items()} == {
        name: genders.count(name) for name in genders
    }


def test_the_figures_are_those_of_the_calibrated_model(
    report: tuple[dict[str, Any], str], stays_dataset: Dataset, stays_finetuned: Path
) -> None:
    found, said = report
    rows = stays_dataset.rows("validation", labelled=True)
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    outputs = predict(model, stays_dataset, rows, torch.device("cpu"))
    outputs = outputs / Run.open(stays_finetuned).calibration().temperature
    expected = measure(outputs, stays_dataset.labels[rows], stays_dataset.task.label)
    assert found["all"]["metrics"] == pytest.approx(expected, abs=1e-5)
    for name, (low, high) in found["all"]["intervals"].items():
        assert low <= high, name
        assert f"{name:16}" in said


def test_what_the_model_said_of_each_case_is_stored_beside_the_report(
    report: tuple[dict[str, Any], str], stays_dataset: Dataset, stays_finetuned: Path
) -> None:
    found, _ = report
    positions, outputs = read_outputs(stays_finetuned / outputs_file("validation"))
    assert positions.tolist() == stays_dataset.rows("validation", labelled=True).tolist()
    again = measure(outputs, stays_dataset.labels[positions], stays_dataset.task.label)
    assert found["all"]["metrics"] == pytest.approx(again, abs=1e-6)


def test_a_group_of_one_class_has_no_auroc_and_does_not_stop_the_report(
    report: tuple[dict[str, Any], str],
) -> None:
    found, _ = report
    alone = [each for each in found["by_presence"].values() if each["cases"] == 1]
    assert alone
    for group in alone:
        assert group["metrics"]["auroc"] is None
        assert group["intervals"]["auroc"] == [None, None]
        assert group["metrics"]["brier"] is not None


def test_a_number_is_measured_by_its_error(
    stars: Path, stars_finetuned: Path, command: Callable[..., str]
) -> None:
    said = command(main, "--run", stars_finetuned, "--data", stars)
    found = json.loads((stars_finetuned / "report-test.json").read_text())
    assert set(found["all"]["metrics"]) == {"mae", "rmse"}
    assert found["all"]["metrics"]["mae"] <= found["all"]["metrics"]["rmse"]
    assert set(found["by_presence"]) == {"tabular"}
    assert "mae" in said


@pytest.mark.parametrize("decision", [Decision(cuts=(2, 2.5, 3, 3.5)), LIKELIEST])
def test_classes_are_counted_as_the_model_predicts_them(
    ranks: Path,
    ranks_finetuned: Path,
    command: Callable[..., str],
    tmp_path: Path,
    decision: Decision,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(ranks_finetuned, folder)
    run, dataset = Run.open(folder), Dataset.open(ranks)
    run.write_calibration(run.calibration().model_copy(update={"decision": decision}))
    command(main, "--run", folder, "--data", ranks)

    found = json.loads((folder / "report-test.json").read_text())
    positions, outputs = read_outputs(folder / outputs_file("test"))
    label, truth = dataset.task.label, dataset.labels[positions]
    guess = decision.predicted(softmax(outputs), label)
    assert Decision.model_validate(found["decision"]) == decision
    assert found["all"]["metrics"]["accuracy"] == pytest.approx((guess == truth).mean(), abs=1e-6)
    again = bootstrap(outputs, truth, label, dataset.groups_of(positions), decision)
    assert found["all"]["intervals"]["accuracy"] == pytest.approx(again["accuracy"], abs=1e-6)
    columns = np.sum(found["confusion"]["matrix"], axis=0)
    assert columns.tolist() == np.bincount(guess, minlength=5).tolist()
    page = (folder / "report-test.html").read_text()
    assert ("a class by the expected value: 2 from 2, 3 from 2.5" in page) != decision.likeliest
    if not decision.likeliest:
        likeliest = measure(outputs, truth, label)
        names = {"accuracy", "macro_f1", "quadratic_kappa"}
        assert found["most_likely"] == pytest.approx({n: likeliest[n] for n in names}, abs=1e-5)


def test_cases_without_a_label_are_left_out(stars_dataset: Dataset) -> None:
    rows = stars_dataset.rows("test")[:5]
    outputs = np.linspace(1, 5, len(rows), dtype=np.float32)[:, None]
    found = evaluate(outputs, stars_dataset, rows)
    assert found["all"]["cases"] == len(rows)
    expected = np.abs(outputs[:, 0] - stars_dataset.labels[rows]).mean()
    assert found["all"]["metrics"]["mae"] == pytest.approx(expected, abs=1e-5)


def test_what_cannot_be_measured_is_refused(
    stays: Path,
    other_stays: Path,
    stays_pretrained: Path,
    stays_finetuned: Path,
    stars_finetuned: Path,
    verdicts: Path,
    command: Callable[..., str],
) -> None:
    with pytest.raises(DataError, match="the run has no head"):
        command(main, "--run", stays_pretrained, "--data", stays)
    with pytest.raises(DataError, match="not preprocessed as for the run:"):
        command(main, "--run", stays_finetuned, "--data", other_stays)
    with pytest.raises(DataError, match="set's label differs from the one the run was trained on"):
        command(main, "--run", stars_finetuned, "--data", verdicts)


def test_cases_of_few_patients_are_few(stays_dataset: Dataset, monkeypatch: Any) -> None:
    rows = np.tile(stays_dataset.rows("train"), 3)[:100]
    outputs = np.random.default_rng(0).normal(size=(len(rows), 2)).astype(np.float32)
    patients = [f"patient {row % 4}" for row in range(len(stays_dataset))]
    monkeypatch.setattr(Dataset, "groups", patients)
    found = evaluate(outputs, stays_dataset, rows)["all"]
    assert (found["cases"], found["groups"]) == (100, 4)
    assert found["small"] == "fewer than 30 cases, counting those of one patient or product once"
