"""Several processes train one model: two real ones, which torchrun starts or would."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.text import TextOptions
from lanistr.tasks import find_task
from tests.fixtures_runs import SMALLEST
from tests.training.gradients import assert_same, one_step
from tests.training.processes import ROOT, arguments, entries, run, run_twice, torchrun
from training.data.sampler import Curriculum
from training.data.store import Dataset
from training.distributed import World, blocks, parallelize
from training.prepare.prepared import SplitOptions, assign_splits, prepare
from training.prepare.synthetic import SyntheticOptions, draw
from training.recipe import RuntimeConfig

CPU = World(torch.device("cpu"))
STRATEGIES = ("ddp", "fsdp")
SETTINGS = (
    *SMALLEST,
    "optim.epochs=2",
    "optim.batch_size=50",
    "optim.lr=1e-4",
    "runtime.tokens=1500",
)
"""Steps of 50 cases in four micro-batches or so, all modalities, with dropout.

Not of fewer: a table row alone in its micro-batch is normalised by what its process saw before.
"""


@pytest.fixture(scope="module")
def alone(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("alone") / "run"
    run(arguments("pretrain", stays, out, *SETTINGS))
    return out


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_lose_what_one_loses_over_the_same_steps(
    strategy: str, stays: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = (*SETTINGS, f"runtime.strategy={strategy}")
    said = run_twice(arguments("pretrain", stays, out, *settings))
    assert said.count("steps over") == 1  # one of them speaks
    expected, found = entries(alone), entries(out)
    assert len(expected) == len(found) == 4
    for ours, theirs in zip(expected, found, strict=True):
        assert ours["losses"].keys() == {"mlm", "mim", "mfm", "mtm", "simmmm"}
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-5, abs=1e-5)
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
        assert theirs["gradient_norm"] == pytest.approx(ours["gradient_norm"], rel=1e-3)
    learned, whole = (
        from_pretrained(each / "model", LanistrForPretraining) for each in (out, alone)
    )
    for (name, one), other in zip(whole.named_parameters(), learned.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture(scope="module")
def exact(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it in double precision, at the recipe's own rate."""
    out = tmp_path_factory.mktemp("exact") / "run"
    run(in_double(stays, out))
    return out


def in_double(stays: Path, out: Path, *settings: str) -> list[str]:
    own = ("optim.epochs=6", "optim.batch_size=50", "runtime.tokens=1500")
    words = arguments("pretrain", stays, out, *SMALLEST, *own, *settings)
    return ["-m", "tests.training.double", "pretrain", *words[2:]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_two_processes_lose_otherwise_is_rounding(
    strategy: str, stays: Path, exact: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run_twice(in_double(stays, out, f"runtime.strategy={strategy}"))
    expected, found = entries(exact), entries(out)
    assert len(expected) == len(found) == 12
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-10, abs=1e-10)


def test_two_processes_asked_to_end_store_their_state_and_one_goes_on_from_there(
    stays: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = arguments("pretrain", stays, out, *SETTINGS)
    # The signal goes to torchrun, which hands it on, as on a cluster whose time is up.
    torchrun(words, code=1, until=lambda: len(entries(out)) >= 1)
    taken = len(entries(out))
    assert 0 < taken < 4
    assert [each.name for each in (out / "checkpoints").iterdir()] == [f"step-{taken:08d}"]
    run(words)
    for ours, theirs in zip(entries(alone), entries(out), strict=True):
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-5, abs=1e-5)


# ---- one process never sees a picture -----------------------------------------------------------


@pytest.fixture(scope="module")
def one_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen training cases with notes and rows, of which one has a picture."""
    out = tmp_path_factory.mktemp("one-picture") / "data"
    drawn = list(draw("mortality", SyntheticOptions(samples=60, missing=0)))
    splits = SplitOptions(shares=(0.2, 0.4, 0.4))
    split_of = assign_splits(sorted({str(each.group) for each in drawn}), splits)
    chosen = next(each.id for each in drawn if split_of[str(each.group)] == "train")
    samples = []
    for each in drawn:
        kept = {"text", "tabular"} | ({"image"} if each.id == chosen else set())
        samples.append(replace(each, parts={m: p for m, p in each.parts.items() if m in kept}))
    prepare(
        lambda: samples,
        find_task("mortality"),
        out,
        options=PreprocessOptions(
            text=TextOptions(vocabulary_size=300, max_tokens=32), image=ImageOptions(size=16)
        ),
        splits=splits,
        source={"from": "synthetic"},
    )
    return out


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_process_that_never_sees_a_picture_does_not_hang_the_other(
    strategy: str, one_picture: Path, tmp_path: Path
) -> None:
    dataset = Dataset.open(one_picture)
    seen = [0, 0]
    for process in range(2):
        walked = Curriculum(
            positions=dataset.rows("train"),
            amounts=dataset.amounts,
            batch_size=4,
            seed=0,
            lengths=dataset.tokens,
            processes=2,
            process=process,
        ).walk(0, 3)
        seen[process] = sum(int(dataset.amounts[Modality.IMAGE][p.positions].sum()) for p in walked)
    assert sorted(seen) == [0, 1]

    out = tmp_path / "run"
    settings = (*SMALLEST, "optim.epochs=1", "optim.batch_size=4", f"runtime.strategy={strategy}")
    run_twice(arguments("pretrain", one_picture, out, *settings))
    steps = entries(out)
    assert len(steps) == 3
    with_mim = [each for each in steps if "mim" in each["losses"]]
    assert len(with_mim) == 1
    assert with_mim[0]["losses"]["mim"] > 0


# ---- fine-tuning --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "unimodal", "near"),
    [
        ("ddp", 0.1, 1e-5),
        ("fsdp", 0, 1e-5),
        # TabNet's batch norm, over few rows, makes rounding in the first step a hundred times
        # larger in the third: by its own head it can be seen.
        ("fsdp", 0.1, 1e-4),
    ],
)
def test_two_processes_fine_tune_and_leave_one_whole_run(
    strategy: str, unimodal: float, near: float, stays: Path, stays_pretrained: Path, tmp_path: Path
) -> None:
    found = []
    frozen = "true" if strategy == "ddp" else "false"  # with and without stored features
    for processes in (1, 2):
        out = tmp_path / f"run-{processes}"
        settings = (
            "optim.epochs=2", "optim.batch_size=50", "runtime.tokens=1500", "modality_dropout=0.2",
            "optim.lr=1e-4", f"freeze_encoders={frozen}", f"runtime.strategy={strategy}",
            f"unimodal={unimodal}",
        )  # fmt: skip
        words = arguments("finetune", stays, out, *settings, init=stays_pretrained)
        (run_twice if processes == 2 else run)(words)
        found.append(entries(out))
        assert (out / "calibration.json").is_file()
        from_pretrained(out / "model", Lanistr)
    for ours, theirs in zip(*found, strict=True):
        assert ours.keys() == theirs.keys()
        if "loss" in ours:
            bound = near if ours["step"] else 1e-6
            assert theirs["loss"] == pytest.approx(ours["loss"], rel=bound)
        else:  # where encoders learn, the first process's running statistics count
            briers = [each["validation"]["brier"] for each in (ours, theirs)]
            assert briers[0] == pytest.approx(briers[1], rel=1e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_processes_of_different_batch_statistics_decide_by_the_same_predictions(
    strategy: str, stays: Path, stays_finetuned: Path
) -> None:
    words = ["-m", "tests.training.agreement", str(stays_finetuned), str(stays), strategy]
    said = run_twice(words)
    for each in ("statistics count", "agree", "as the first", "one case", "left alike", "cases"):
        assert f"{each}: True" in said
    assert "finite: True" in said


def test_processes_end_well_while_threads_hold_what_they_exchanged() -> None:
    words = [sys.executable, "-m", "tests.training.leaving", "1"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == "codes: [0]\n"


def test_a_checkpoint_that_the_first_process_cannot_write_stops_both(
    stays: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(alone, out)  # as if it had been cut off before its end
    shutil.rmtree(out / "model")
    (out / "checkpoints").write_text("in the way")
    said = run_twice(arguments("pretrain", stays, out, *SETTINGS), code=2)
    assert "the checkpoint after step 4 could not be saved" in said
    assert (out / "checkpoints").read_text() == "in the way"


# ---- what is put around the model ---------------------------------------------------------------


def test_every_transformer_layer_is_a_block(stays_pretrained: Path) -> None:
    model = from_pretrained(stays_pretrained / "model", LanistrForPretraining)
    config = model.config
    layers = [config.fusion.layers] + [
        getattr(config, each).layers for each in ("text", "image", "timeseries")
    ]
    assert len(blocks(model)) == len(set(blocks(model))) == sum(layers)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doings
@pytest.mark.parametrize("change", ["checkpoint_activations", "compile"])
def test_recomputed_or_compiled_blocks_give_the_same_losses_and_gradients(
    change: str, stays_pretrained: Path, stays_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lanistr.model.tensors import to_tensors

    # This shows what is captured, and its gradients; test_albef has C++ made of it, which is slow.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    batch = to_tensors(stays_dataset.batch(stays_dataset.rows("train")[:6].tolist()))
    found = []
    for runtime in (RuntimeConfig(), RuntimeConfig(**{change: True})):
        model = from_pretrained(stays_pretrained / "model", LanistrForPretraining).train()
        names = model.state_dict().keys()
        run = parallelize(model, runtime, CPU)
        assert model.state_dict().keys() == names
        # Dropout's numbers differ between compiled and eager; recomputed ones must not.
        if change == "compile":
            run.eval()
        torch.manual_seed(0)
        found.append(one_step(model, run, batch))
    assert_same(*found)


def test_one_process_makes_for_all_and_its_error_is_everyones(
    command: Callable[..., str],
) -> None:
    assert CPU.share(lambda: 3) == 3
    assert CPU.gather("x") == ["x"]
    with pytest.raises(ZeroDivisionError):
        CPU.share(lambda: 1 // 0)
