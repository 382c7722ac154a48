"""What the comparisons share: nothing is made twice, and nothing is taken for something else."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import benchmarks.commands
from benchmarks import amazon_reviews, covid_survival, few_labels, physionet2012
from benchmarks.commands import (
    call,
    evaluated,
    judged,
    made,
    said,
    said_of_seeds,
)
from lanistr.command import run_command
from lanistr.errors import ConfigError, DataError
from lanistr.tasks import find_task
from tests.fixtures_runs import Command
from tests.training.prepare.tables import SOURCE, TASK, as_csv, place, rows, write_task
from training.baselines import REPORT
from training.data.store import Dataset
from training.experiments.results import best_validation
from training.recipe import RECIPES
from training.run import Run

SMALL = ("--vocabulary-size", 300, "--image-size", 16)


@pytest.fixture
def called_here(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process, and are told as ever."""

    def call(module: str, *words: object, threads: int = 1) -> None:
        print("-m", module, *words, file=sys.stderr)
        main = f"{module}.__main__" if module == "training.prepare" else module
        command(importlib.import_module(main).main, *words)

    monkeypatch.setattr(benchmarks.commands, "call", call)


@pytest.mark.usefixtures("called_here")
def test_what_was_made_with_the_same_settings_is_kept_and_with_others_is_another(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    def data(samples: int) -> Path:
        words = ("synthetic", "--task", "rating", "--samples", samples, *SMALL)
        return made(tmp_path, "data", "training.prepare", *words)

    def run(epochs: int) -> Path:
        words = ("--recipe", "demo", "--data", data(60), "--set", f"optim.epochs={epochs}")
        return made(tmp_path, "run", "training.finetune", *words)

    short = run(1)
    assert capfd.readouterr().err.count("-m training.") == 2
    assert run(1) == short
    assert capfd.readouterr().err == ""
    longer = run(2)
    assert longer != short
    assert Run.open(longer).config.recipe["optim"]["epochs"] == 2
    assert len(Dataset.open(data(70))) == 70

    # ---- and its figures are those of the report -------------------------------------------------
    names = ("accuracy", "quadratic_kappa")
    found = evaluated(longer, data(60), names)
    assert set(found["metrics"]) == set(found["intervals"]) == set(names)
    capfd.readouterr()
    assert evaluated(longer, data(60), names) == found
    assert capfd.readouterr().err == ""
    assert -1 <= best_validation(longer, "quadratic_kappa") <= 1

    # ---- on these data ---------------------------------------------------------------------------
    report = json.loads((longer / REPORT).read_text())
    report["about"]["data_hash"], report["all"]["metrics"]["accuracy"] = "another", 0.123
    (longer / REPORT).write_text(json.dumps(report))
    assert evaluated(longer, data(60), names) == found


def test_what_another_recipe_made_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_by: list[tuple[object, ...]] = []
    monkeypatch.setattr(benchmarks.commands, "call", lambda *words, **_: made_by.append(words))
    recipe = tmp_path / "own.yaml"

    def folder(text: str) -> Path:
        recipe.write_text(text)
        return made(tmp_path, "run", "training.finetune", "--recipe", str(recipe), "--data", "x")

    demo = (RECIPES / "finetune" / "demo.yaml").read_text()
    before = folder(demo)
    assert folder(demo + "# a word\n") == before
    assert folder(demo.replace("patience: 6", "patience: 7")) != before
    assert len(made_by) == 3


@pytest.mark.usefixtures("called_here")
def test_a_yardstick_is_made_once_and_its_figures_are_those_of_its_report(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words = ("synthetic", "--task", "rating", "--samples", 60, *SMALL)
    data = made(tmp_path, "data", "training.prepare", *words)
    words = ("--data", data, "--method", "logistic", "--modalities", "tabular")
    yardstick = made(tmp_path, "logistic", "training.yardsticks", *words)
    capfd.readouterr()
    assert made(tmp_path, "logistic", "training.yardsticks", *words) == yardstick
    found = evaluated(yardstick, data, ["accuracy"])
    assert capfd.readouterr().err == ""
    assert 0 <= found["metrics"]["accuracy"] <= 1


@pytest.mark.usefixtures("called_here")
def test_a_file_counts_by_its_content_and_the_work_folder_may_move(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    raw, work = tmp_path / "raw", tmp_path / "work"
    place(raw, {})
    task = write_task(raw, TASK, SOURCE)

    def data(count: int, work: Path) -> Path:
        work.mkdir(exist_ok=True)
        (work / "cases.csv").write_bytes(as_csv(rows(count)))
        words = ("--source", work / "cases.csv", "--files", raw, "--task", task, *SMALL)
        return made(work, "data", "training.prepare", "table", *words)

    few = data(20, work)
    more = data(22, work)
    assert (len(Dataset.open(few)), len(Dataset.open(more))) == (20, 22)
    capfd.readouterr()
    shutil.move(work, tmp_path / "moved")
    assert data(20, tmp_path / "moved") == tmp_path / "moved" / few.name
    assert capfd.readouterr().err == ""


def test_a_command_that_fails_is_named_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words = ("training.prepare", "synthetic", "--task", "mortalty", "--out", tmp_path / "data")
    with pytest.raises(SystemExit) as left:
        run_command(lambda: call(*words))
    assert left.value.code == 2
    *_, reason, line = capfd.readouterr().err.splitlines()
    assert "did you mean 'mortality'?" in reason
    assert line.startswith("error: python -m training.prepare synthetic --task mortalty --out")
    assert line.endswith("the command failed; its own lines above say why; seen 'exit code 2'")


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        (few_labels, ["--seeds", "1"], "--seeds: too few; seen 1; accepted: 2 or more"),
        (few_labels, ["--jobs", "0"], "--jobs: too few"),
        (few_labels, ["--labels", "32", "0"], "--labels: too few"),
        (few_labels, ["--steps", "0"], "--steps: too few"),
        (amazon_reviews, ["--source", "there", "--jobs", "0"], "--jobs: too few"),
        (amazon_reviews, ["--source", "there", "--steps", "0"], "--steps: too few"),
        (physionet2012, ["--source", "there", "--jobs", "0"], "--jobs: too few"),
        (physionet2012, ["--source", "there", "--labels", "0"], "--labels: too few"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_made(
    module, words, said, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "made", None)
    monkeypatch.setattr(sys, "argv", [module.__name__, "--work", str(tmp_path), *words])
    with pytest.raises(ConfigError, match=said):
        module.main()


@pytest.mark.parametrize(
    ("module", "out", "lacking"),
    [
        (physionet2012, "--work", ""),
        (amazon_reviews, "--work", "AMAZON_FASHION_5.json.gz"),
        (covid_survival, "--out", "metadata.csv"),
    ],
)
def test_raw_data_that_are_not_there_are_told_before_anything_is_made(
    module, out, lacking, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "made", None)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "All_Beauty_5.json.gz").touch()

    def told(source: str) -> str:
        words = ["--source", str(tmp_path / source), out, str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", [module.__name__, *words])
        with pytest.raises(DataError, match="--source: ") as caught:
            module.main()
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert "no such folder; seen " in told("nowhere")
    if lacking:
        assert f"{lacking} is not there; seen " in told("half")


def test_a_mean_is_told_with_its_intervals_over_seeds_and_cases():
    assert said([0.5], ".3f") == "0.500"
    assert said([0.1, 0.2, 0.3], "+.2f") == "+0.20 [-0.05 to +0.45]"  # t of 2: 4.303
    seeds = [
        {"metrics": {"auroc": value}, "intervals": {"auroc": [value - 0.1, value + 0.2]}}
        for value in (0.6, 0.7)
    ]
    assert said_of_seeds(seeds[:1], ["auroc"], ".1f") == "auroc 0.6 (0.5 to 0.8)"
    assert said_of_seeds(seeds, ["auroc"], ".2f") == "auroc 0.65 [0.01 to 1.29] (0.55 to 0.85)"


def test_another_method_is_judged_by_the_figures_asked_for():
    label = find_task("mortality").label
    truth = np.array([0, 0, 1, 1] * 10, dtype=np.float32)
    outputs = np.log(np.stack([1 - (0.2 + 0.5 * truth), 0.2 + 0.5 * truth], axis=1))
    found = judged(outputs, truth, np.arange(40).astype(str), label, ["auroc", "brier"])
    assert found["metrics"] == {"auroc": 1, "brier": pytest.approx((0.2**2 + 0.3**2) / 2)}
    assert found["intervals"]["auroc"] == [1, 1]
    low, high = found["intervals"]["brier"]
    assert low < found["metrics"]["brier"] < high
