"""A run that was cut off goes on as if it had not been, to the last bit."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from lanistr.errors import ConfigError
from tests.fixtures_runs import SMALLEST
from tests.published import write_vit
from tests.training.processes import arguments, entries, run, run_until
from training.pretrain import main

PRETRAIN = (*SMALLEST, "optim.epochs=2", "optim.batch_size=16", "checkpoints.every=4")
FINETUNE = ("optim.epochs=3", "optim.batch_size=16", "checkpoints.every=3", "modality_dropout=0.3")


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def checkpoints(folder: Path) -> list[str]:
    parent = folder / "checkpoints"
    return sorted(each.name for each in parent.glob("step-*")) if parent.is_dir() else []


@pytest.fixture(scope="module")
def undisturbed(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    run(arguments("pretrain", stays, out, *PRETRAIN))
    assert len(entries(out)) == 14
    assert not (out / "checkpoints").exists()
    return out


def test_killed_again_and_again_pretraining_ends_with_the_same_losses_and_weights_bit_by_bit(
    stays: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = arguments("pretrain", stays, out, *PRETRAIN)
    draft = out / "checkpoints" / ".draft"
    moments: list[Callable[[], bool]] = [
        lambda: (out / "config.json").exists(),  # before the first step
        lambda: len(entries(out)) >= 2,  # before the first checkpoint
        lambda: draft.exists() and any(draft.iterdir()),  # while one is written
        lambda: len(entries(out)) >= 9,  # between two
    ]
    reached = []
    for moment in moments:
        run_until(words, moment, signal.SIGKILL)
        reached.append((len(entries(out)), checkpoints(out)))
    assert reached[0] == (0, []) or reached[0][0] < 4
    assert reached[-1][1], "nothing was stored: the last kill proves nothing"
    assert not (out / "model").exists()
    run(words)
    assert entries(out) == entries(undisturbed)
    assert weights(out) == weights(undisturbed)


def test_killed_fine_tuning_keeps_the_same_best_epoch_and_calibration(
    stays: Path, stays_pretrained: Path, tmp_path: Path
) -> None:
    ends = {}
    for name in ("whole", "cut"):
        out = tmp_path / name
        words = arguments(
            "finetune", stays, out, *FINETUNE, "freeze_encoders=true", init=stays_pretrained
        )
        if name == "cut":
            for lines in (5, 17):  # in the first epoch; after two validations
                run_until(words, lambda: len(entries(out)) >= lines, signal.SIGKILL)  # noqa: B023
            assert checkpoints(out)
        said = run(words)
        ends[name] = (
            entries(out),
            weights(out),
            (out / "calibration.json").read_text(),
            said.partition(": best")[2],
        )
    assert ends["cut"] == ends["whole"]
    assert len([each for each in ends["cut"][0] if "validation" in each]) == 3


def test_a_killed_run_that_averages_its_best_ends_with_the_same_weights_bit_by_bit(
    stays: Path, make_baseline: Callable[..., Path], tmp_path: Path
) -> None:
    whole, out = make_baseline("autogluon-tf", stays, "whole-autogluon-tf"), tmp_path / "run"
    settings = ("system=autogluon-tf", "optim.epochs=3", "optim.batch_size=16")
    words = arguments("finetune", stays, out, *settings, "checkpoints.every=3")
    run_until(words, lambda: len(entries(out)) >= 14, signal.SIGKILL)
    assert (out / "candidates").is_dir()
    run(words)
    assert entries(out) == entries(whole)
    assert weights(out) == weights(whole)
    assert not (out / "candidates").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_asked_to_end_with_all_its_processes_a_run_stores_its_state_first(
    workers: int, stays: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    every = [each for each in PRETRAIN if "every" not in each]  # no checkpoint of its own accord
    words = arguments("pretrain", stays, out, *every, f"runtime.workers={workers}")
    said = run_until(words, lambda: len(entries(out)) >= 3, signal.SIGTERM, whole=True)
    done = len(entries(out))
    assert f"stopped on request: saved after {done} of 14 steps" in said
    assert checkpoints(out) == [f"step-{done:08d}"]
    run(words)
    assert entries(out) == entries(undisturbed)
    assert weights(out) == weights(undisturbed)


def test_asked_to_end_while_encoders_are_run_once_nothing_of_it_is_left(
    stays: Path, stays_pretrained: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(stays, data, ignore=shutil.ignore_patterns("encoded"))
    words = arguments(
        "finetune", data, tmp_path / "run", *FINETUNE, "freeze_encoders=true", init=stays_pretrained
    )
    begun = data / "encoded"
    run_until(words, lambda: begun.is_dir() and any(begun.iterdir()), signal.SIGTERM)
    assert not list(begun.glob(".*"))


def test_a_full_disk_stops_the_run_and_loses_nothing(
    stays: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = arguments("pretrain", stays, out, *PRETRAIN)
    run_until(words, lambda: len(entries(out)) >= 6, signal.SIGKILL)
    assert checkpoints(out) == ["step-00000004"]

    said = run(words, code=2, file_bytes=100_000)
    (line,) = [each for each in said.splitlines() if each.startswith("error:")]
    assert "the checkpoint after step 8 could not be saved" in line
    assert "continues from step 4" in line
    assert checkpoints(out) == ["step-00000004"]
    run(words)
    assert entries(out) == entries(undisturbed)
    assert weights(out) == weights(undisturbed)


@pytest.mark.parametrize("damage", ["cut short", "other bytes"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    damage: str, stays: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = arguments("pretrain", stays, out, *PRETRAIN)
    run_until(words, lambda: len(checkpoints(out)) >= 2, signal.SIGKILL)
    newest = out / "checkpoints" / checkpoints(out)[-1]
    (state,) = newest.glob("*.distcp")
    content = bytearray(state.read_bytes())
    half = len(content) // 2
    if damage == "cut short":
        del content[half:]
    else:
        content[half : half + 2000] = bytes(2000)
    state.write_bytes(content)
    said = run(words)
    assert f"{newest.name} cannot be read" in said
    assert entries(out) == entries(undisturbed)
    assert weights(out) == weights(undisturbed)


def test_no_readable_checkpoint_at_all_is_an_error_not_a_fresh_start(
    stays: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = arguments("pretrain", stays, out, *PRETRAIN)
    run_until(words, lambda: len(checkpoints(out)) >= 1, signal.SIGKILL)
    for each in (out / "checkpoints").glob("step-*/progress.json"):
        each.write_text("{")
    assert "none of the checkpoints can be read" in run(words, code=2)


# ---- what may not change in between -------------------------------------------------------------


@pytest.fixture
def cut_off(undisturbed: Path, tmp_path: Path) -> Path:
    """A run without its end."""
    out = tmp_path / "cut-off"
    shutil.copytree(undisturbed, out)
    shutil.rmtree(out / "model")
    return out


@pytest.mark.parametrize(
    ("change", "field"),
    [("optim.lr=1e-5", "recipe.optim.lr"), ("seed=1", "recipe.seed")],
)
def test_a_run_does_not_go_on_with_other_settings(
    cut_off: Path, stays: Path, command: Callable[..., str], change: str, field: str
) -> None:
    before = json.loads((cut_off / "config.json").read_text())
    given: tuple[Any, ...] = ("--recipe", "demo", "--data", stays, "--out", cut_off)
    with pytest.raises(ConfigError, match=rf"{field}: .*started with other settings"):
        command(main, *given, overrides=(*PRETRAIN, change))
    assert json.loads((cut_off / "config.json").read_text()) == before


def test_a_pretraining_that_began_with_a_plateau_goes_on_without(
    cut_off: Path, stays: Path, command: Callable[..., str]
) -> None:
    config = json.loads((cut_off / "config.json").read_text())
    config["recipe"]["optim"]["plateau"] = 3  # as was taken once
    (cut_off / "config.json").write_text(json.dumps(config))
    command(main, "--recipe", "demo", "--data", stays, "--out", cut_off, overrides=PRETRAIN)
    assert (cut_off / "model").is_dir()


def test_a_run_that_took_no_step_may_begin_anew_with_other_settings(
    cut_off: Path, undisturbed: Path, stays: Path, command: Callable[..., str]
) -> None:
    (cut_off / "log.jsonl").write_text("")
    command(
        main, "--recipe", "demo", "--data", stays, "--out", cut_off,
        overrides=(*PRETRAIN, "optim.epochs=1", "seed=1"),
    )  # fmt: skip
    assert json.loads((cut_off / "config.json").read_text())["recipe"]["seed"] == 1
    assert 0 < len(entries(cut_off)) < len(entries(undisturbed))


def test_a_run_does_not_go_on_with_other_data(
    cut_off: Path, other_stays: Path, command: Callable[..., str]
) -> None:
    with pytest.raises(ConfigError, match=r"data_hash: .*started with other settings"):
        command(
            main, "--recipe", "demo", "--data", other_stays, "--out", cut_off, overrides=PRETRAIN
        )


def test_how_the_machine_is_used_may_change(
    cut_off: Path, undisturbed: Path, stays: Path, command: Callable[..., str]
) -> None:
    command(
        main, "--recipe", "demo", "--data", stays, "--out", cut_off,
        overrides=(*PRETRAIN, "runtime.workers=1", "checkpoints.keep=1"),
    )  # fmt: skip
    assert entries(cut_off) == entries(undisturbed)


# ---- what is left of a run ----------------------------------------------------------------------


def killed(stays: Path, out: Path, lines: int, *settings: str) -> list[str]:
    """Start pretraining and kill it when it has logged so many steps; return the command."""
    words = arguments("pretrain", stays, out, *PRETRAIN, *settings)
    run_until(words, lambda: len(entries(out)) >= lines, signal.SIGKILL)
    return words


def test_checkpoints_without_a_log_are_gone_on_from_and_the_gap_is_told(
    stays: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = killed(stays, out, 7)
    (out / "log.jsonl").write_text("")
    said = run(words)
    assert "log.jsonl has lost" in said
    assert entries(out) == entries(undisturbed)[4:]
    assert weights(out) == weights(undisturbed)


def test_a_checkpoint_is_never_removed_for_one_that_cannot_be_read(
    stays: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    killed(stays, out, 9, "checkpoints.every=2", "checkpoints.keep=3")
    there = checkpoints(out)
    assert len(there) == 3
    for name in there[1:]:
        file = next((out / "checkpoints" / name).glob("*.distcp"))
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    goes_on = int(there[0].removeprefix("step-"))
    words = arguments(
        "pretrain", stays, out, *PRETRAIN, "checkpoints.every=1", "checkpoints.keep=1"
    )

    def stored_and_gone_on() -> bool:
        return there[0] not in checkpoints(out) and len(entries(out)) >= goes_on + 2

    run_until(words, stored_and_gone_on, signal.SIGKILL)
    assert there[0] < checkpoints(out)[0] < there[-1]


def test_a_run_does_not_go_on_with_other_initial_weights_under_the_same_name(
    stays: Path, stays_pretrained: Path, tmp_path: Path
) -> None:
    init, out = tmp_path / "init", tmp_path / "run"
    shutil.copytree(stays_pretrained, init)
    words = arguments("finetune", stays, out, *FINETUNE, "freeze_encoders=true", init=init)
    run_until(words, lambda: bool(checkpoints(out)), signal.SIGKILL)
    path = init / "model" / "model.safetensors"
    tensors = load_file(path)
    save_file({name: 0.5 * each for name, each in tensors.items()}, path)
    (line,) = run(words, code=2).splitlines()[-1:]
    assert line.startswith(f"error: {init}: ")
    assert "started from other weights" in line
    save_file(tensors, path)
    run(words)


def test_a_run_does_not_go_on_with_other_frozen_weights_under_the_same_name(
    stays: Path, tmp_path: Path
) -> None:
    init, out = tmp_path / "vit", tmp_path / "run"
    write_vit(init)
    words = arguments(
        "finetune", stays, out, *FINETUNE, "modalities=[image]", "modality_dropout=0",
        "freeze_encoders=true", f"init.image={init}",
    )  # fmt: skip
    run_until(words, lambda: bool(checkpoints(out)), signal.SIGKILL)
    path = init / "model.safetensors"
    tensors = load_file(path)
    save_file({name: 0.5 * each for name, each in tensors.items()}, path)
    (line,) = run(words, code=2).splitlines()[-1:]
    assert line.startswith("error: recipe.init: ")
    assert "started with other frozen weights" in line
    assert "/vit'" in line
    save_file(tensors, path, metadata={"format": "pt"})
    run(words)
