"""The paper's baselines through the commands that train LANISTR: same data, loop, report."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lanistr.errors import ConfigError, DataError
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from tests.fixtures_runs import SMALL
from tests.training.processes import entries
from training.data.store import Dataset
from training.evaluate import main as evaluate
from training.finetune import main as finetune
from training.metrics import measure
from training.predict import predict
from training.pretrain import main as pretrain
from training.run import Run

Make = Callable[..., Path]
Command = Callable[..., str]
CPU = torch.device("cpu")

SYSTEMS: dict[str, tuple[str, ...]] = {
    "late-fusion": (),
    "autogluon-mlp": (),
    "autogluon-tf": (),
    "medfuse": ("model.image.layers=[1,1,1,1]", "optim.epochs=2"),
    "albef": ("optim.lr=1e-3",),
}
"""With what makes them small, and learn in a few steps."""


def validations(folder: Path) -> list[tuple[float, float]]:
    found = [each for each in entries(folder) if "validation" in each]
    return [(each["epoch"], each["validation"]["auroc"]) for each in found]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_baseline_is_trained_evaluated_and_found_again_by_the_same_commands(
    system: str, stays: Path, make_baseline: Make, command: Command
) -> None:
    folder = make_baseline(system, stays, f"trained-{system}", *SYSTEMS[system])
    assert Run.open(folder).config.recipe["system"] == system
    command(evaluate, "--run", folder, "--data", stays)
    report = json.loads((folder / "report-test.json").read_text())
    assert 0 <= report["all"]["metrics"]["auroc"] <= 1
    assert len(report["by_presence"]) > 1
    losses = [each["losses"]["task"] for each in entries(folder) if "losses" in each]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_dry_run_counts_a_baseline_and_needs_no_data(system: str, command: Command) -> None:
    plan = json.loads(
        command(
            finetune, "--recipe", "small", "--dry-run", overrides=(f"system={system}", "seed=3")
        )
    )
    assert plan["recipe"]["system"] == system
    assert plan["parameters"]["total"] == plan["parameters"]["trained"]
    assert plan["forward_flops_per_sample"] > 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_baseline_has_as_many_parameters_as_the_page_says(system: str, command: Command) -> None:
    text = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"(?m)^\| `{system}` \| (.*?) \|", text)
    tuned, pretrained = re.fullmatch(r"([\d,]+)(?:; pretraining ([\d,]+))?.*", line).groups()
    for main, said in ((finetune, tuned), (pretrain, pretrained)):
        if said:
            plan = json.loads(command(main, "--recipe", system, "--dry-run"))
            assert f"{plan['parameters']['total']:,}" == said


def test_late_fusion_learns_from_complete_cases_alone_unless_told_otherwise(
    stays: Path, shop: Path, command: Command
) -> None:
    dataset = Dataset.open(stays)
    labelled = dataset.rows("train", labelled=True)
    complete = sum(each.count("+") == 3 for each in dataset.patterns(labelled))
    assert 0 < complete < len(labelled)
    for name, wanted, cases in (("all", "false", len(labelled)), ("whole", "true", complete)):
        said = command(
            finetune, "--recipe", "demo", "--data", stays, "--out", shop / f"late-{name}",
            overrides=("system=late-fusion", "optim.epochs=1", f"complete={wanted}"),
        )  # fmt: skip
        assert f"{cases} labelled cases" in said


def test_each_modality_has_a_loss_of_its_own_that_counts_little(
    stays: Path, make_baseline: Make
) -> None:
    folder = make_baseline("autogluon-mlp", stays, "trained-autogluon-mlp")
    steps = [each for each in entries(folder) if "losses" in each]
    own = {"text", "image", "tabular_0", "tabular_1", "timeseries"}
    assert set(steps[0]["losses"]) == {"task", *own}
    for each in steps:
        sum_of_own = sum(each["losses"][name] for name in own)
        assert each["loss"] == pytest.approx(each["losses"]["task"] + 0.1 * sum_of_own)


def test_what_is_handed_out_is_no_worse_than_the_best_of_the_validations(
    stays: Path, make_baseline: Make
) -> None:
    folder = make_baseline("autogluon-mlp", stays, "trained-autogluon-mlp")
    seen = validations(folder)
    assert [epoch for epoch, _ in seen] == [-0.429, 0, 0.571, 1, 1.571, 2]  # twice in 7 steps
    dataset = Dataset.open(stays)
    rows = dataset.rows("validation", labelled=True)
    model = from_pretrained(folder / "model", Lanistr)
    found = measure(predict(model, dataset, rows, CPU), dataset.labels[rows], dataset.task.label)[
        "auroc"
    ]
    assert found >= max(score for _, score in seen) - 1e-9
    assert not (folder / "candidates").exists()


def test_on_a_plateau_the_rate_is_halved_and_else_stays_as_it_is(
    stars: Path, make_baseline: Make
) -> None:
    still = ("modalities=null", "optim.plateau=1", "optim.lr=1e-30", "optim.epochs=8", "patience=9")
    folder = make_baseline("medfuse", stars, "plateau", *still, "optim.batch_size=100")
    rates = [each["lr"] for each in entries(folder) if "losses" in each]  # one step an epoch
    errors = [each["validation"]["mae"] for each in entries(folder) if "validation" in each]
    expected, worse, best = [1e-30], 0, np.inf
    for error in errors[:-1]:
        worse = 0 if error < best else worse + 1
        best = min(best, error)
        halved = worse > 1
        expected.append(expected[-1] / (2 if halved else 1))
        worse = 0 if halved else worse
    assert rates == pytest.approx(expected, abs=0)
    assert rates[-1] < 1e-30, "no plateau was met: this proves nothing"


def test_encoders_may_start_from_runs_that_have_them_and_the_rest_is_fresh(
    stays: Path, stays_pretrained: Path, other_stays: Path, shop: Path, command: Command
) -> None:
    def learn(name: str, data: Path, *runs: Path) -> Path:
        still = ("system=late-fusion", "optim.epochs=1", "optim.lr=1e-30", "optim.weight_decay=0")
        command(
            finetune, "--recipe", "demo", "--data", data, "--out", shop / name, "--encoders", *runs,
            overrides=(*SMALL[:3], *still),
        )  # fmt: skip
        return shop / name

    run = Run.open(learn("with-encoders", stays, stays_pretrained))
    assert list(run.config.encoders) == [str(stays_pretrained)]
    before, after = (
        load_file(each / "model" / "model.safetensors") for each in (stays_pretrained, run.folder)
    )
    moves = ("running_mean", "running_var", "num_batches_tracked")
    parts = {name for name in after if name.startswith("encoders.") and not name.endswith(moves)}
    assert {name.split(".")[1] for name in parts} == {"text", "image", "tabular", "timeseries"}
    for name in parts:
        torch.testing.assert_close(after[name], before[f"core.{name}"])

    with pytest.raises(ConfigError, match="two runs have an encoder of text"):
        learn("refused", stays, stays_pretrained, run.folder)
    with pytest.raises(DataError, match="the data set's text was not preprocessed as for the run"):
        learn("refused", other_stays, stays_pretrained)


def test_any_system_may_read_some_modalities_of_the_data_alone(
    stays: Path, shop: Path, command: Command
) -> None:
    both = ("image", "timeseries")
    for name, main, settings, read in (
        ("series-pretrained", pretrain, SMALL[3:], both),
        ("series-late", finetune, ("system=late-fusion", "complete=false"), both),
        ("series-alone", finetune, ("system=medfuse",), ("timeseries",)),  # nothing is projected
    ):
        folder = shop / name
        command(
            main, "--recipe", "demo", "--data", stays, "--out", folder,
            overrides=(*settings, f"modalities=[{', '.join(read)}]", "optim.epochs=1"),
        )  # fmt: skip
        opened = Run.open(folder)
        assert opened.task.modalities == read
        assert not (folder / "tokenizer.json").exists()
        parts = [each for each in opened.config.parameters if "encoders." in each]
        assert [each.split(".")[-1] for each in parts] == [*read]
    command(evaluate, "--run", shop / "series-late", "--data", stays)
    report = json.loads((shop / "series-late" / "report-test.json").read_text())
    assert report["all"]["cases"] == len(Dataset.open(stays).rows("test", labelled=True))
    assert set(report["by_presence"]) <= {"image+timeseries", "image", "timeseries", ""}

    words = ("--recipe", "demo", "--data", stays, "--out", shop / "refused")
    with pytest.raises(DataError, match="only one of the data and the run has"):
        command(finetune, *words, "--init", shop / "series-pretrained")
    with pytest.raises(ConfigError, match="modalities"):
        command(finetune, *words, overrides=("modalities=[sound]",))
    assert not (shop / "refused").exists()


# ---- what is refused ----------------------------------------------------------------------------


def test_wrong_settings_of_systems_are_told_by_name(
    stays: Path, stays_pretrained: Path, shop: Path, command: Command
) -> None:
    def refused(main: Callable[[], None], said: str, *overrides: str, init: object = None) -> None:
        flags = ("--init", init) if init else ()
        words = ("--recipe", "demo", "--data", stays, "--out", shop / "refused", *flags)
        with pytest.raises(ConfigError, match=said):
            command(main, *words, overrides=overrides)
        assert not (shop / "refused").exists()

    refused(finetune, "no such system.*did you mean 'late-fusion'", "system=late-fuson")
    refused(pretrain, r"late-fusion has no such stage.*training\.finetune", "system=late-fusion")
    refused(
        finetune, "trains late-fusion, but the run is of another system.*'LANISTR'",
        "system=late-fusion", init=stays_pretrained,
    )  # fmt: skip
    refused(
        finetune, r"model\.fusion\.layers.*accepted: one of hidden, kind, width",
        "system=late-fusion", "model.fusion.layers=1",
    )  # fmt: skip
    refused(
        finetune, r"init\.fusion: .*another kind.*late-fusion",
        "system=late-fusion", f"init.fusion={stays_pretrained}",
    )  # fmt: skip


def test_without_a_complete_case_there_is_nothing_to_learn_from(
    shop: Path, command: Command
) -> None:
    from training.prepare.__main__ import main as prepare

    data = shop / "never-complete"
    command(
        prepare, "synthetic", "--task", "rating", "--samples", 60, "--missing", "image=1.0",
        "--image-size", 16, "--vocabulary-size", 300, "--max-tokens", 32, "--out", data,
    )  # fmt: skip
    with pytest.raises(
        DataError, match=r"none of the cases to learn from has.*seen '0 of .*complete=false"
    ):
        command(
            finetune, "--recipe", "demo", "--data", data, "--out", shop / "refused",
            overrides=("system=late-fusion",),
        )  # fmt: skip
