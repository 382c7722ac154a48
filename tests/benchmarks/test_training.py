"""The benchmark of training: that every figure is there; none of them is judged."""

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.made import MadeCases, Mix, NaiveCases, blank_rows, make_cases
from benchmarks.training import main
from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.fusion import FusionConfig
from lanistr.model.image import ImageConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.text import TextConfig


@pytest.fixture(scope="module")
def said() -> str:
    """What the command says with tiny sizes."""
    threads = torch.get_num_threads()
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmarks.training", "--quick", "--device", "cpu"])
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(words)))
        main()
    torch.set_num_threads(threads)
    return "\n".join(printed)


@pytest.fixture(scope="module")
def found(said: str) -> dict[str, Any]:
    """The line of JSON."""
    read: dict[str, Any] = json.loads(said.splitlines()[-1])
    return read


def is_figure(figure: dict[str, float]) -> bool:
    return 0 < figure["low"] <= figure["median"] <= figure["high"] < np.inf


def test_every_figure_of_a_pretraining_step_is_there(found: dict[str, Any]) -> None:
    assert len(found["steps"]) == 4
    for row in found["steps"]:
        assert is_figure(row["speedup"]), row["case"]
        assert is_figure(row["matmul_gflops"]), row["case"]
        assert row["flops_ratio"] > 1, row["case"]
        for way in ("lean", "naive"):
            assert is_figure(row[way]["samples_per_second"]), row["case"]
            assert is_figure(row[way]["mfu"]), row["case"]


def test_where_nothing_is_absent_or_short_only_the_words_asked_for_differ(
    found: dict[str, Any],
) -> None:
    full = found["steps"][0]
    lean, naive = (dict(full[way]["first_losses"]) for way in ("lean", "naive"))
    assert lean.pop("mlm") != naive.pop("mlm")
    assert set(lean) == {"mim", "mtm", "simmmm"}
    assert naive == pytest.approx(lean, rel=1e-5)


def test_the_cache_changes_no_loss_beyond_float16(found: dict[str, Any]) -> None:
    assert [row["case"] for row in found["cache"]] == ["every part", "notes and rows"]
    for row in found["cache"]:
        assert is_figure(row["speedup"])
        assert row["flops_ratio"] > 1
        assert is_figure(row["cached"]["epochs_per_second"])
        assert is_figure(row["uncached"]["epochs_per_second"])
        losses = [row[way]["first_losses"]["task"] for way in ("cached", "uncached")]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_every_figure_of_the_loader_is_there(found: dict[str, Any]) -> None:
    loader = found["loader"]
    assert set(loader["samples_per_second"]) == {"0", "1", "2"} == set(loader["times_need"])
    assert all(map(is_figure, loader["samples_per_second"].values()))
    assert loader["need"] > 0
    if sys.platform == "linux":
        assert len(loader["worker_mb"]) == 4
        assert min(loader["worker_mb"]) > 0


def test_the_table_names_every_case(said: str, found: dict[str, Any]) -> None:
    for row in [*found["steps"], *found["cache"]]:
        assert row["case"] in said


# ---- made-up cases ------------------------------------------------------------------------------

MODEL = LanistrConfig(
    text=TextConfig(vocab_size=200, width=8, layers=1, heads=2, feedforward=8, max_tokens=32),
    image=ImageConfig(size=16, patch=8, width=8, layers=1, heads=2, feedforward=8),
    fusion=FusionConfig(width=8, layers=1, heads=2, feedforward=8),
)


def test_cases_are_as_long_and_as_incomplete_as_asked() -> None:
    mix = Mix(median=128, sigma=0.5, longest=256, missing={Modality.IMAGE: 0.4})
    cases = MadeCases(make_cases(Lanistr(MODEL), mix, 400, seed=0))
    assert np.median(cases.tokens) == pytest.approx(8, abs=1)  # a limit of 32, not of 512
    assert cases.tokens.max() == 16
    assert np.mean(cases.amounts[Modality.IMAGE] == 0) == pytest.approx(0.4, abs=0.07)
    assert (cases.amounts[Modality.TEXT] > 0).all()


def test_the_naive_way_fills_up_and_pads_but_changes_nothing_that_was_there() -> None:
    model = Lanistr(MODEL)
    made = make_cases(model, Mix(median=128, sigma=0.5, missing={Modality.IMAGE: 0.5}), 20, seed=0)
    lean = MadeCases(made).batch(range(20))
    naive = NaiveCases(made, blank_rows(model), limit=32).batch(range(20))
    assert naive.presence()[:, :2].all()
    words, padded = (each.parts[Modality.TEXT].arrays for each in (lean, naive))
    length = words["token_ids"].shape[1]
    assert padded["token_ids"].shape == (20, 32)
    assert np.array_equal(padded["token_ids"][:, :length], words["token_ids"])
    assert not padded["token_ids"][:, length:].any()
    assert padded["attention_mask"].all()
    there = lean.parts[Modality.IMAGE]
    pictures = naive.parts[Modality.IMAGE].arrays["pixels"]
    assert np.array_equal(pictures[there.sample], there.arrays["pixels"])
    absent = np.setdiff1d(np.arange(20), there.sample)
    assert len(absent) > 0
    assert not pictures[absent].any()
