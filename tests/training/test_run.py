"""Run folders: nothing is overwritten, and damage is named."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from lanistr.calibration import Calibration
from lanistr.errors import CheckpointError, ConfigError, DataError
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from tests.training.processes import FORKED
from training import finetune, pretrain
from training.data.store import Dataset
from training.recipe import FinetuneRecipe, load_recipe
from training.run import Run, check_fits, check_predicts, data_hash, lock_folder


def listing(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*.*")}


def test_a_run_says_what_it_was_made_of(stars_finetuned: Path, stars: Path) -> None:
    run = Run.open(stars_finetuned)
    assert run.config.stage == "finetune"
    assert run.config.init is None
    assert run.config.data == str(stars)
    assert run.config.data_hash == data_hash(Dataset.open(stars))
    assert run.config.recipe["optim"]["epochs"] == 3
    assert run.config.recipe["model"]["tabular"]["steps"] == 2
    assert run.config.synthetic
    assert set(run.config.versions) == {"lanistr", "python", "torch", "transformers"}
    assert run.task == Dataset.open(stars).task
    assert run.preprocessor().dimensions() == Dataset.open(stars).preprocessor.dimensions()


@pytest.mark.parametrize("main", [pretrain.main, finetune.main])
def test_an_existing_folder_is_refused_and_loses_nothing(
    main: Callable[[], None], stars: Path, stars_finetuned: Path, command: Callable[..., str]
) -> None:
    before = listing(stars_finetuned)
    with pytest.raises(ConfigError, match="the folder exists"):
        command(main, "--recipe", "demo", "--data", stars, "--out", stars_finetuned)
    assert listing(stars_finetuned) == before


def test_a_file_in_the_folders_place_is_refused_and_an_empty_folder_is_taken(
    stars_dataset: Dataset, stars_finetuned: Path, tmp_path: Path
) -> None:
    made_of = {
        "stage": "finetune",
        "recipe": load_recipe("demo", "finetune", FinetuneRecipe, []),
        "dataset": stars_dataset,
        "init": None,
        "model": from_pretrained(Run.open(stars_finetuned).model_folder, Lanistr),
    }
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="the folder exists"):
        Run.begin(tmp_path / "file", **made_of)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    Run.begin(tmp_path / "empty", **made_of)
    with pytest.raises(CheckpointError, match="not a finished run"):
        Run.open(tmp_path / "empty")


def test_what_is_no_run_or_is_damaged_is_named(stars_finetuned: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a finished run"):
        Run.open(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(stars_finetuned, broken)
    (broken / "calibration.json").write_text('{"temperature": 0}')
    with pytest.raises(CheckpointError, match=r"calibration\.json"):
        Run.open(broken).calibration()
    (broken / "calibration.json").unlink()
    with pytest.raises(CheckpointError, match="not a finished run"):
        Run.open(broken)
    shutil.copy(stars_finetuned / "calibration.json", broken)
    (broken / "task.json").unlink()
    with pytest.raises(CheckpointError, match=r"task\.json: cannot be read"):
        Run.open(broken)
    (broken / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        Run.open(broken)
    (broken / "config.json").write_text(json.dumps({"stag": 1}))
    with pytest.raises(CheckpointError, match=r"Field required|unknown key"):
        Run.open(broken)


def test_data_that_were_preprocessed_otherwise_do_not_fit(
    stays_pretrained: Path, stays: Path, other_stays: Path
) -> None:
    run = Run.open(stays_pretrained)
    check_fits(run, Dataset.open(stays))
    with pytest.raises(DataError, match="not the one that the run was trained with"):
        check_fits(run, Dataset.open(other_stays))


def test_data_with_other_labels_fit_a_start_but_not_a_measurement(
    stars_finetuned: Path, verdicts: Path
) -> None:
    run, other = Run.open(stars_finetuned), Dataset.open(verdicts)
    check_fits(run, other)
    with pytest.raises(DataError, match="other labels"):
        check_predicts(run, other)


@pytest.mark.parametrize(
    ("made_by", "change", "match"),
    [
        ("stars", {"unit": "points"}, "seen 'regression stars in stars'; .* in points"),
        ("ranks", {"values": (0.0, 1.0, 2.0, 3.0, 9.0)}, r"worth 1\.0, 2\.0, .* worth 0\.0, 1\.0"),
    ],
)
def test_labels_in_another_unit_or_worth_other_numbers_are_other_labels(
    made_by: str, change: dict[str, object], match: str, request: pytest.FixtureRequest
) -> None:
    run = Run.open(request.getfixturevalue(f"{made_by}_finetuned"))
    dataset = Dataset.open(request.getfixturevalue(made_by))
    check_predicts(run, dataset)
    label = run.task.label.model_copy(update=change)
    other = replace(run, task=run.task.model_copy(update={"label": label}))
    with pytest.raises(DataError, match=match):
        check_predicts(other, dataset)


# ---- one command at a time ----------------------------------------------------------------------


def hold(folder: Path, line: Connection) -> None:
    """Be at work on a run until told that it is enough."""
    lock_folder(folder)
    line.send("held")
    line.recv()


def test_a_run_that_another_process_is_at_work_on_is_left_alone(
    stars: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    out = tmp_path / "run"
    words = ("--recipe", "demo", "--data", stars, "--out", out, "--set", "optim.epochs=1")
    out.mkdir()
    here, there = FORKED.Pipe()
    holder = FORKED.Process(target=hold, args=(out, there))
    holder.start()
    assert here.recv() == "held"
    (out / "config.json").write_text("{}")  # as one that has begun
    with pytest.raises(ConfigError, match="another command is at work on this folder"):
        command(finetune.main, *words)
    assert sorted(each.name for each in out.iterdir()) == [".lock", "config.json"]
    here.send("enough")
    holder.join()
    command(finetune.main, *words)  # nothing was learned in it: it begins anew
    assert Run.open(out).finished
    assert not (out / ".lock").exists()
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize("said", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on_and_warned_of_once(
    said: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(said, os.strerror(said))

    monkeypatch.setattr("fcntl.lockf", lockf)
    draft, folder = tmp_path / "draft", tmp_path / "run"
    draft.mkdir()
    lock_folder(draft, folder)
    lock_folder(draft, folder)
    assert [each.getMessage() for each in caplog.records] == [
        f"{folder} cannot be locked here: start no second command on it"
    ]


def test_a_calibration_is_there_as_a_whole_or_not_at_all(
    stars_finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its presence says that the run is finished."""
    shutil.copytree(stars_finetuned, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    before = (run.folder / "calibration.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lanistr.draft.settle", full)
    with pytest.raises(OSError, match="No space"):
        run.write_calibration(Calibration(temperature=2))
    assert (run.folder / "calibration.json").read_bytes() == before
    assert not [each for each in run.folder.iterdir() if "calibration.json." in each.name]
