"""Pretraining through its command: counts, learning, repeatability, refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lanistr.errors import CheckpointError, DataError
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import to_tensors
from tests.fixtures_runs import SHORTCUT, SMALL
from training.data.store import Dataset
from training.pretrain import main
from training.run import Run

Make = Callable[..., Path]


def entries(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


# ---- dry runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "overrides", "total", "giga_flops"),
    [
        ("mimic-iv", (), 277_158_390, 151.1),
        (
            "amazon-office",
            ("model.tabular.categories=[10,20,2,5]",),
            277_521_278 + 3 * (10 + 20 + 2 + 5),
            147.2,
        ),
    ],
)
def test_the_papers_recipes_have_the_papers_parameters(
    recipe: str,
    overrides: tuple[str, ...],
    total: int,
    giga_flops: float,
    command: Callable[..., str],
) -> None:
    plan = json.loads(command(main, "--recipe", recipe, "--dry-run", overrides=overrides))
    assert plan["parameters"]["total"] == plan["parameters"]["trained"] == total
    assert sum(plan["parameters"]["by_module"].values()) == total
    assert plan["parameters"]["by_module"]["predictor"] == 2_099_712
    assert plan["recipe"]["optim"]["batch_size"] == 128
    assert plan["model"]["head"] is None
    # BERT on 512 tokens 96.6, ViT 35.1, fusion of 247 or 200 tokens 19.0 or 15.2, by the formulas
    # and with the last layer for one token; projections, TabNet and the series are what is left.
    assert plan["forward_flops_per_sample"] / 1e9 == pytest.approx(giga_flops, rel=0.003)


def test_a_dry_run_with_data_plans_what_the_run_then_builds(
    stays: Path, stays_pretrained: Path, shop: Path, command: Callable[..., str]
) -> None:
    run = Run.open(stays_pretrained)
    overrides = tuple(
        f"model.{part}.{name}={value}"
        for part, sizes in run.config.recipe["model"].items()
        for name, value in sizes.items()
    )
    before = set(shop.iterdir())
    plan = json.loads(
        command(main, "--recipe", "demo", "--data", stays, "--dry-run", overrides=overrides)
    )
    assert plan["parameters"]["by_module"] == run.config.parameters
    stored = json.loads((stays_pretrained / "model" / "config.json").read_text())
    assert plan["model"] == stored["config"]
    assert set(shop.iterdir()) == before


# ---- learning -----------------------------------------------------------------------------------


def test_a_run_folder_is_whole(stays_pretrained: Path) -> None:
    assert {each.name for each in stays_pretrained.iterdir()} == {
        "config.json",
        "task.json",
        "preprocessing.json",
        "tokenizer.json",
        "log.jsonl",
        "model",
        "tensorboard",
    }


def test_every_step_is_logged_and_every_rate_is_above_0(stays_pretrained: Path) -> None:
    steps = entries(stays_pretrained)
    assert [each["step"] for each in steps] == list(range(3 * 7))  # 100 cases in batches of 16
    assert [each["epoch"] for each in steps] == sorted(each["epoch"] for each in steps)
    assert all(each["lr"] > 0 for each in steps)
    assert max(each["lr"] for each in steps) == pytest.approx(2e-3)
    assert set(steps[0]["losses"]) == {"mlm", "mim", "mfm", "mtm", "simmmm"}


def test_pretraining_lowers_every_loss_on_cases_it_has_not_seen(
    stays_pretrained: Path, stays_dataset: Dataset
) -> None:
    held_out = np.concatenate([stays_dataset.rows("validation"), stays_dataset.rows("test")])
    batch = to_tensors(stays_dataset.batch(held_out.tolist()))

    def losses(model: LanistrForPretraining) -> dict[str, float]:
        masks = torch.Generator().manual_seed(7)  # the same for both models
        with torch.inference_mode():
            drawn = [model.eval()(batch, masks) for _ in range(8)]
        return {name: float(np.mean([each[name] for each in drawn])) for name in drawn[0]}

    after = from_pretrained(stays_pretrained / "model", LanistrForPretraining)
    torch.manual_seed(0)
    before = losses(LanistrForPretraining(after.config))
    for name, loss in losses(after).items():
        assert loss < before[name], name


def test_the_same_seed_gives_the_same_weights_bit_by_bit_and_another_gives_others(
    stays: Path, make_pretrained: Make
) -> None:
    runs = [
        make_pretrained(stays, f"seeded-{number}", "optim.epochs=1", f"seed={seed}")
        for number, seed in enumerate((3, 3, 4))
    ]
    assert weights(runs[0]) == weights(runs[1])
    assert weights(runs[0]) != weights(runs[2])
    losses = [[each["losses"] for each in entries(run)] for run in runs]
    assert losses[0] == losses[1] != losses[2]


def test_batches_read_ahead_by_another_process_change_nothing(
    stars: Path, make_pretrained: Make
) -> None:
    here = make_pretrained(stars, "read-here", "optim.epochs=1")
    ahead = make_pretrained(stars, "read-ahead", "optim.epochs=1", "runtime.workers=1")
    assert weights(here) == weights(ahead)


# ---- starting from a run ------------------------------------------------------------------------


def test_pretraining_goes_on_from_another_run(
    stays: Path, stays_pretrained: Path, make_pretrained: Make, command: Callable[..., str],
    shop: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    out = shop / "continued"
    sizes = Run.open(stays_pretrained).config.recipe["model"]
    overrides = tuple(f"model.{p}.{n}={v}" for p, s in sizes.items() for n, v in s.items())
    command(
        main, "--recipe", "demo", "--data", stays, "--init", stays_pretrained, "--out", out,
        overrides=(*overrides, "optim.epochs=1", "optim.batch_size=16", "optim.lr=1e-5"),
    )  # fmt: skip
    assert Run.open(out).config.init == str(stays_pretrained)
    fresh, continued = (entries(run)[0]["losses"] for run in (stays_pretrained, out))
    assert continued["mtm"] < fresh["mtm"]
    heads = "pretexts.text", "pretexts.image", "projector", "predictor"
    before, after = (
        dict(from_pretrained(run / "model", LanistrForPretraining).named_parameters())
        for run in (stays_pretrained, out)
    )
    for name in [each for each in before if each.startswith(heads)]:
        assert torch.allclose(before[name], after[name], atol=1e-3), name
    assert not [each for each in caplog.records if "at random" in each.getMessage()]


def test_heads_that_the_run_behind_it_has_not_are_said_to_start_at_random(
    stays: Path, stays_finetuned: Path, command: Callable[..., str], shop: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    command(
        main, "--recipe", "demo", "--data", stays, "--init", stays_finetuned,
        "--out", shop / "after-finetuning",
        overrides=(*SMALL, SHORTCUT, "optim.epochs=1", "optim.batch_size=50"),
    )  # fmt: skip
    (said,) = [text for each in caplog.records if "at random" in (text := each.getMessage())]
    assert said.startswith(f"{stays_finetuned} has no weights of this size for ")
    assert "predictor, pretexts.image" in said


def test_a_start_that_does_not_fit_is_refused_and_leaves_nothing(
    stays: Path, other_stays: Path, stays_pretrained: Path, command: Callable[..., str], shop: Path
) -> None:
    out = shop / "never"
    given = ("--recipe", "demo", "--init", stays_pretrained, "--out", out)
    with pytest.raises(DataError, match="not preprocessed as for the run:"):
        command(main, *given, "--data", other_stays)
    wider = (*SMALL, SHORTCUT, "model.fusion.width=32")
    with pytest.raises(CheckpointError, match="does not match the model"):
        command(main, *given, "--data", stays, overrides=wider)
    with pytest.raises(CheckpointError, match="not a finished run"):
        command(main, "--recipe", "demo", "--init", shop / "none", "--out", out, "--data", stays)
    assert not out.exists()
