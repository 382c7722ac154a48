"""Jobs: what a folder is called by, and what counts as done."""

import json
import shutil
from pathlib import Path

import pytest

from lanistr.errors import CheckpointError
from tests.fixtures_runs import Command
from training.baselines import REPORT
from training.data.store import Dataset
from training.evaluate import main as evaluate
from training.experiments.jobs import Job, Workshop, finished, folder_name, recipe_of
from training.outputs import outputs_file, read_outputs
from training.run import Run


def test_a_folder_is_called_by_all_that_made_it(tmp_path: Path, stays: Path) -> None:
    first = Job("run", ("training.finetune", "--data", stays, "--set", "seed=1"))
    other = Job("run", ("training.finetune", "--data", stays, "--set", "seed=2"))
    assert first.folder == Job("run", first.command).folder != other.folder
    after = [Job("next", ("training.finetune", "--init", each)) for each in (first, other)]
    assert after[0].folder != after[1].folder
    assert after[0].needs == [first]
    moved = tmp_path / "elsewhere"
    moved.symlink_to(stays)
    assert Job("run", ("training.finetune", "--data", moved, "--set", "seed=1")) != first
    assert folder_name("a", [moved]) == folder_name("a", [stays])  # the content counts


def test_a_folder_is_called_by_the_published_weights_that_it_started_from(
    tmp_path: Path, stays: Path
) -> None:
    there = tmp_path / "bert"
    there.mkdir()
    (there / "config.json").write_text("{}")
    (there / "model.safetensors").write_bytes(b"one")
    command = ("training.finetune", "--recipe", "demo", "--data", stays)

    def folder(name: object) -> str:
        words = (*command, "--set", f"init.text={name}")
        return Job("run", words, recipe=recipe_of(words)).folder

    before = folder(there)
    assert folder(there) == before
    for name in ("README.md", "tokenizer_config.json", "pytorch_model.bin"):
        (there / name).write_text("not read")
    assert folder(there) == before
    (there / "preprocessor_config.json").write_text("{}")
    assert folder(there) != before
    (there / "preprocessor_config.json").unlink()
    (there / "model.safetensors").write_bytes(b"another")
    assert folder(there) != before
    (there / "model.safetensors").unlink()
    for name in ("model.safetensors.index.json", "model-00001-of-00001.safetensors"):
        named = folder(there)
        (there / name).write_text("{}")
        assert folder(there) != named
    shutil.rmtree(there)
    with pytest.raises(CheckpointError, match=r"init\.text: .*no such folder; seen"):
        folder(there)
    assert folder("bert-base-uncased") == folder("bert-base-uncased")  # by its name alone


@pytest.mark.usefixtures("forked_jobs")
def test_what_was_cut_off_is_not_taken_for_finished_but_done(
    stays: Path, stays_pretrained: Path, stays_finetuned: Path, tmp_path: Path
) -> None:
    quick = ("--set", "optim.epochs=1", "--set", "freeze_encoders=false")
    job = Job("cut-off", ("training.finetune", "--recipe", "demo", "--data", stays, *quick))
    begun = shutil.copytree(stays_finetuned, tmp_path / job.folder)
    for name in ("log.jsonl", "calibration.json"):
        (begun / name).unlink()
    assert not finished(tmp_path / job.folder)
    assert not job.done(tmp_path)
    said: list[str] = []
    assert Workshop(tmp_path, ["cpu"], said.append).do([job]) == {}
    assert job.done(tmp_path)
    assert said == [f"1/1 {job.folder}"]
    assert Run.open(tmp_path / job.folder).config.recipe["optim"]["epochs"] == 1
    assert finished(stays_pretrained)


def test_a_run_that_was_judged_before_outputs_were_stored_is_judged_again(
    stays: Path, stays_finetuned: Path, tmp_path: Path
) -> None:
    job = Job("before", ("training.finetune",), judged_on=stays)
    shutil.copytree(stays_finetuned, tmp_path / job.folder)
    for name in ("report-test.json", "outputs-test.npz"):
        (tmp_path / job.folder / name).unlink(missing_ok=True)
    (tmp_path / job.folder / REPORT).write_text("{}")
    assert not job.done(tmp_path)
    assert Workshop(tmp_path, ["cpu"], str).do([job]) == {}
    positions, _ = read_outputs(tmp_path / job.folder / outputs_file("test"))
    assert len(positions) == len(Dataset.open(stays).rows("test", labelled=True))


@pytest.mark.usefixtures("forked_jobs")
@pytest.mark.parametrize("damage", ["cut off", "of other data"])
def test_a_report_that_is_cut_off_or_of_other_data_is_made_again(
    command: Command, stays: Path, stays_finetuned: Path, tmp_path: Path, damage: str
) -> None:
    job = Job("judged", ("training.finetune",), judged_on=stays)
    shutil.copytree(stays_finetuned, tmp_path / job.folder)
    report = tmp_path / job.folder / REPORT
    command(evaluate, "--run", report.parent, "--data", stays)
    assert job.done(tmp_path)
    whole = json.loads(report.read_text())
    if damage == "cut off":
        report.write_text(report.read_text()[:1000])
    else:
        report.write_text(json.dumps(whole | {"about": whole["about"] | {"data_hash": "0" * 64}}))
    assert not job.done(tmp_path)
    assert Workshop(tmp_path, ["cpu"], str).do([job]) == {}
    assert json.loads(report.read_text())["all"] == whole["all"]
