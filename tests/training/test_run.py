"""Run folders: nothing is overwritten, and damage is named."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from lanistr.calibration import Calibration
from lanistr.errors import CheckpointError, ConfigError, DataError
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.preprocess import Preprocessor
from tests.forked import FORKED
from tests.published import write_vit
from training import finetune, pretrain
from training.compatibility import check_fits, check_predicts
from training.data.store import Dataset
from training.lock import lock_folder, unlock_folder
from training.recipe import FinetuneRecipe, load_recipe
from training.run import Run, data_hash


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


@pytest.fixture
def made_of(stars_dataset: Dataset, stars_finetuned: Path) -> dict[str, Any]:
    """What a run can be made of."""
    return {
        "stage": "finetune",
        "recipe": load_recipe("demo", "finetune", FinetuneRecipe, []),
        "dataset": stars_dataset,
        "init": None,
        "model": from_pretrained(Run.open(stars_finetuned).model_folder, Lanistr),
    }


def begun(folder: Path, **made_of: Any) -> Run:
    """Begin a run or go on with it, and be killed at once."""
    run = Run.begin(folder, **made_of)
    unlock_folder(folder)
    return run


def test_a_file_in_the_folders_place_is_refused_and_an_empty_folder_is_taken(
    made_of: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="the folder exists"):
        Run.begin(tmp_path / "file", **made_of)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    Run.begin(tmp_path / "empty", **made_of)
    with pytest.raises(CheckpointError, match="not a finished run"):
        Run.open(tmp_path / "empty")


@pytest.mark.parametrize("whose", ["published weights", "a finished run without its log"])
def test_a_folder_that_holds_no_begun_run_is_refused_and_loses_nothing(
    whose: str, made_of: dict[str, Any], stays_pretrained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    if whose == "published weights":
        write_vit(out)
    else:
        shutil.copytree(stays_pretrained, out)
        (out / "log.jsonl").unlink()
    before = listing(out)
    with pytest.raises(ConfigError, match="the folder exists"):
        Run.begin(out, **made_of)  # of another stage
    assert listing(out) == before


def test_what_else_stands_beside_a_run_that_took_no_step_is_not_lost(
    made_of: dict[str, Any], tmp_path: Path
) -> None:
    begun(tmp_path, **made_of)
    before = listing(tmp_path)
    (tmp_path / "notes.txt").write_text("what it is for")
    other = load_recipe("demo", "finetune", FinetuneRecipe, ["seed=1"])
    begun(tmp_path, **made_of | {"recipe": other})
    after = listing(tmp_path)
    assert after.pop("notes.txt") == b"what it is for"
    assert {name for name in before if after.pop(name) != before[name]} == {"config.json"}
    assert not after


def test_of_a_run_that_took_no_step_a_damaged_task_is_written_anew(
    made_of: dict[str, Any], tmp_path: Path
) -> None:
    begun(tmp_path, **made_of)
    before = listing(tmp_path)
    for name in ("task.json", "preprocessing.json"):
        (tmp_path / name).write_text("{")
    begun(tmp_path, **made_of)
    assert listing(tmp_path) == before


def test_a_link_stays_and_the_run_is_made_where_it_leads_to(
    made_of: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    run = begun(tmp_path / "link", **made_of)
    assert run.folder == tmp_path / "link"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "config.json").is_file()


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
    with pytest.raises(DataError, match="not preprocessed as for the run:"):
        check_fits(run, Dataset.open(other_stays))


def test_data_with_other_labels_fit_a_start_but_not_a_measurement(
    stars_finetuned: Path, verdicts: Path
) -> None:
    run, other = Run.open(stars_finetuned), Dataset.open(verdicts)
    check_fits(run, other)
    with pytest.raises(DataError, match="set's label differs from the one"):
        check_predicts(run, other)


# ---- what a run goes on with --------------------------------------------------------------------


def test_a_run_goes_on_from_the_same_weights_whatever_their_folders_are_called_by_now(
    made_of: dict[str, Any], stars_finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, moved = tmp_path / "run", Path(shutil.copytree(stars_finetuned, tmp_path / "moved"))
    monkeypatch.chdir(tmp_path)

    def of(folder: Path, teacher: str) -> dict[str, Any]:
        sources = {"init": folder, "encoders": [Run.open(folder)], "teachers": {teacher: "a1"}}
        return made_of | sources

    begun(out, **of(stars_finetuned, "one"))
    (out / "log.jsonl").write_text("{}\n")
    for folder in (moved, Path("moved")):
        begun(out, **of(folder, "the same"))
        said = json.loads((out / "config.json").read_text())
        assert (said["init"], *said["encoders"]) == (str(folder), str(folder))
        assert said["teachers"] == {"the same": "a1"}
    for changed, field in (
        ({"init": None}, "init"),
        ({"encoders": []}, "encoders"),
        ({"teachers": {"one": "b2"}}, "teachers.one"),
    ):
        with pytest.raises(ConfigError, match="started with other settings") as caught:
            begun(out, **of(stars_finetuned, "one") | changed)
        assert caught.value.field == field


def test_what_a_command_left_that_was_killed_as_it_came_to_its_end_is_cleared_away(
    made_of: dict[str, Any], stars_finetuned: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(stars_finetuned, tmp_path / "run"))
    before = listing(out)
    for left in ("checkpoints/step-00000001", "candidates/step-00000001"):
        (out / left).mkdir(parents=True)
    for left in (
        ".lock",
        ".config.json.4711",
        "model/.model.safetensors.4711",
        "model/.config.json.4711",
    ):
        (out / left).write_text("x")
    (out / "model" / ".gitattributes").write_text("mine")
    with pytest.raises(ConfigError, match="the folder exists"):
        begun(out, **made_of)
    assert listing(out) == before | {"model/.gitattributes": b"mine"}
    assert not [each for each in out.iterdir() if each.name in ("checkpoints", "candidates")]


def test_what_a_command_left_that_was_killed_as_it_began_is_cleared_away_by_the_next(
    made_of: dict[str, Any], tmp_path: Path
) -> None:
    left = tmp_path / ".run-draft-a1b2c3d4"
    left.mkdir()
    os.utime(left, (0, 0))
    begun(tmp_path / "run", **made_of)
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


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
    stars: Path, made_of: dict[str, Any], tmp_path: Path, command: Callable[..., str]
) -> None:
    out = tmp_path / "run"
    words = ("--recipe", "demo", "--data", stars, "--out", out, "--set", "optim.epochs=1")
    begun(out, **made_of)
    here, there = FORKED.Pipe()
    holder = FORKED.Process(target=hold, args=(out, there))
    holder.start()
    assert here.recv() == "held"
    before = listing(out)
    with pytest.raises(ConfigError, match="another command is using this folder"):
        command(finetune.main, *words)
    assert listing(out) == before
    here.send("enough")
    holder.join()
    command(finetune.main, *words)  # nothing was learned in it: it begins anew
    assert Run.open(out).finished
    assert not (out / ".lock").exists()
    assert not (out / "checkpoints").exists()


def test_of_two_commands_that_begin_a_run_at_once_one_is_refused_and_the_other_loses_nothing(
    made_of: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save = tmp_path / "run", Preprocessor.save

    def save_late(preprocessor: Preprocessor, folder: Path) -> None:
        """Write the last file when the other, who looked at the same time, has its folder."""
        monkeypatch.setattr(Preprocessor, "save", save)
        Run.begin(out, **made_of)
        (out / "log.jsonl").write_text("what it learned")
        save(preprocessor, folder)

    monkeypatch.setattr(Preprocessor, "save", save_late)
    with pytest.raises(ConfigError, match="something was put there in the meantime"):
        Run.begin(out, **made_of)
    assert (out / "log.jsonl").read_text() == "what it learned"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_a_file_system_knows_no_locks_a_run_says_so_and_begins(
    number: int,
    made_of: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", unknown)
    run = Run.begin(tmp_path / "run", **made_of)
    (said,) = caplog.messages
    assert said.startswith(
        f"{run.folder}: the file system does not support locks; do not run several commands"
    )
    run.close()
    assert not (run.folder / ".lock").exists()


def test_a_calibration_is_there_as_a_whole_or_not_at_all(
    stars_finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its presence says that the run is finished."""
    shutil.copytree(stars_finetuned, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    before = (run.folder / "calibration.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lanistr.draft.fsync", full)
    with pytest.raises(OSError, match="No space"):
        run.write_calibration(Calibration(temperature=2))
    assert (run.folder / "calibration.json").read_bytes() == before
    assert not [each for each in run.folder.iterdir() if "calibration.json." in each.name]
