"""What comes out of a table's runs: the chosen run, means, intervals, the paper's figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from lanistr.decision import LIKELIEST, Decision
from lanistr.document import read_yaml
from lanistr.errors import TaskError
from tests.training.experiments.rows import lines
from training.baselines import REPORT
from training.experiments import results
from training.experiments.jobs import Job
from training.experiments.page import cells
from training.experiments.results import (
    NOBODY,
    _decision,
    _metrics,
    best_validation,
    chosen,
    figures,
    published_beside,
    published_figures,
    said_of,
)
from training.experiments.setup import Setup
from training.experiments.tables import TABLES, WHOLE

PUBLISHED = Path(results.__file__).with_name("published.yaml")


def test_the_papers_figures_belong_to_rows_that_there_are(stays: Path, reviews: Path) -> None:
    for table in TABLES:
        data = reviews if table == "table2" else stays
        known = lines(table, Setup(data, scale="demo")).keys()
        for name in read_yaml(PUBLISHED.read_text(encoding="utf-8"))[table]:
            found = published_figures(table, name)
            assert found
            assert found["rows"].keys() <= known
            assert found["rows"][WHOLE] == max(found["rows"].values())
            assert all(0 < each[0] < 100 for each in found["rows"].values())


def test_the_papers_figures_stand_beside_what_has_their_metric(stays: Path, reviews: Path) -> None:
    for table, data, beside in (
        ("table1", stays, "mimic-iv"),
        ("table4", stays, "mimic-iv"),
        ("table2", reviews, "fashion"),
        ("table4", reviews, None),  # AUROC of five classes there is none
    ):
        assert published_beside(table, None, Setup(data, category="fashion")) == beside
    assert published_beside("table1", NOBODY, Setup(stays)) is None
    with pytest.raises(TaskError, match=r"not a metric of ordinal labels.*'auroc'"):
        published_beside("table1", "mimic-iv", Setup(reviews))


@pytest.mark.parametrize(
    ("metric", "curves", "best"),
    [("auroc", ([0.6, 0.7], [0.8, 0.5]), 1), ("mae", ([3.0, 2.0], [2.5, 9.0]), 0)],
)
def test_of_several_runs_of_a_seed_the_validation_split_takes_the_best(
    metric: str, curves: tuple[list[float], list[float]], best: int, tmp_path: Path
) -> None:
    candidates = tuple(Job(f"run-{number}", (number,)) for number in range(2))
    for number, (job, values) in enumerate(zip(candidates, curves, strict=True)):
        folder = tmp_path / job.folder
        folder.mkdir()
        entries = [{"epoch": at, "validation": {metric: each}} for at, each in enumerate(values)]
        (folder / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))
        (folder / REPORT).write_text(json.dumps({"all": {"metrics": {metric: 10.0 + number}}}))
    assert chosen(candidates, tmp_path, metric) == candidates[best]


@pytest.mark.parametrize(
    ("noted", "figure", "warned"),
    [({}, 0.6, True), ({"mean_validation": {"auroc": 0.7}}, 0.7, False)],
)
def test_of_a_mean_that_an_old_run_did_not_measure_the_best_epoch_counts_and_is_warned_of(
    noted: dict[str, Any],
    figure: float,
    warned: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    entries = [{"epoch": 0, "validation": {"auroc": 0.6}}, {"mean_of": 2, **noted}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))
    assert best_validation(tmp_path, "auroc") == figure
    assert ["using its best epoch's" in each for each in caplog.messages] == [True] * warned


def test_a_run_is_judged_by_its_decision_and_one_of_old_by_the_most_likely_class(
    tmp_path: Path,
) -> None:
    report = {"all": {"metrics": {"accuracy": 0.5, "mae": 1.0}}}
    (tmp_path / REPORT).write_text(json.dumps(report))
    assert _decision(tmp_path / REPORT) == LIKELIEST
    of_old = {"run": "a"} | _metrics(tmp_path)
    decision = Decision(cuts=(1.5, 2))
    report |= {"decision": decision.model_dump(), "most_likely": {"accuracy": 0.75}}
    (tmp_path / REPORT).write_text(json.dumps(report))
    assert _decision(tmp_path / REPORT) == decision
    row = {"runs": [of_old, {"run": "b"} | _metrics(tmp_path)]}
    assert figures(row, "accuracy") == [0.5, 0.5]
    assert figures(row, "accuracy", most_likely=True) == [0.5, 0.75]
    assert figures(row, "mae", most_likely=True) == [1.0, 1.0]


def test_means_of_what_is_not_determined_are_not_told() -> None:
    assert said_of([0.5, float("nan")]) == {"mean": None, "std": None, "interval": None}
    assert said_of([0.5]) == {"mean": 0.5, "std": None, "interval": None}
    found = said_of([0.1, 0.2, 0.3])
    assert found["mean"] == pytest.approx(0.2)
    assert found["interval"] == pytest.approx(
        [0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5]
    )


def test_a_difference_that_no_seed_or_no_case_changes_has_no_such_interval() -> None:
    runs = [{"cases": 8, "steps": None}] * 2
    for differences, over_cases, said in (
        ([0.2, 0.2], None, "+0.200, the same for every seed"),  # of old, without those over cases
        ([0.2, 0.1], [0.1, 0.25], "+0.150 [-0.485, +0.785] (+0.100, +0.250)"),
        ([0.2, 0.1], [None, None], "+0.150 [-0.485, +0.785]"),
        ([0.0, 0.0], [0.0, 0.0], "+0.000, the same for every seed, the same for every case"),
    ):
        difference = said_of(differences) | {"test_interval": over_cases}
        row = {"name": "a", "runs": runs, **said_of([0.7, 0.7]), "difference": difference}
        _, ((*_, difference, _, _),) = cells({"metric": "auroc", "published": None, "rows": [row]})
        assert difference == said
