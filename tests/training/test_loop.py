"""One epoch: what is logged of each step, and what stops a run."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lanistr.batch import Batch, Features, collate
from lanistr.modalities import Modality
from lanistr.model.fusion import FusionConfig
from lanistr.model.heads import HeadConfig
from lanistr.model.lanistr import Lanistr, LanistrConfig
from lanistr.model.tabular import TabularConfig
from training.loop import NonFiniteLossError, StepLog, train_epoch
from training.objectives import Task
from training.optim import make_optimizer, make_schedule
from training.recipe import OptimConfig

CONFIG = LanistrConfig(
    tabular=TabularConfig(numbers=2, width=4, steps=1),
    fusion=FusionConfig(width=8, layers=1, heads=2, feedforward=8),
    head=HeadConfig(kind="regression", outputs=1, dropout=0),
)


@pytest.fixture
def model() -> Lanistr:
    torch.manual_seed(0)
    return Lanistr(CONFIG)


def cases(*labels: float, first: int = 0) -> Batch:
    """Rows of two numbers, named case-0, case-1, ..."""
    rng = np.random.default_rng(first)
    rows = [
        {"numbers": rng.normal(size=2).astype(np.float32), "categories": np.zeros(0, np.int64)}
        for _ in labels
    ]
    ids = [f"case-{first + i}" for i in range(len(labels))]
    features = [Features({Modality.TABULAR: (row,)}) for row in rows]
    return collate(features, np.asarray(labels, np.float32), ids)


def train(model: Lanistr, batches: Any, log: Path, **changes: Any) -> int:
    optim = OptimConfig(lr=1e-2, weight_decay=0, epochs=1, batch_size=4, **changes)
    optimizer = make_optimizer(model, optim)
    return train_epoch(
        Task(model, regression=True, modality_dropout=0),
        batches,
        optimizer=optimizer,
        schedule=make_schedule(optimizer, optim, 4),
        clip=optim.clip,
        generator=torch.Generator().manual_seed(1),
        device=torch.device("cpu"),
        log=StepLog(log),
        epoch=3,
        step=10,
    )


def entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_every_step_leaves_one_line(model: Lanistr, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert train(model, [cases(1, 2), cases(3, first=2)], log, warmup=0.5) == 12
    first, second = entries(log)
    assert [first["step"], second["step"]] == [10, 11]
    assert first["epoch"] == second["epoch"] == 3
    assert first["loss"] == first["losses"]["task"] > 0
    assert [first["lr"], second["lr"]] == pytest.approx([0.5e-2, 1e-2])
    assert first["gradient_norm"] > 0
    assert first["samples_per_second"] > 0
    assert model.training


def test_a_log_is_continued_not_replaced(tmp_path: Path) -> None:
    for step in range(2):
        StepLog(tmp_path / "log.jsonl").write(step=step)
    assert entries(tmp_path / "log.jsonl") == [{"step": 0}, {"step": 1}]


def test_samples_per_second_counts_the_waiting_for_batches(model: Lanistr, tmp_path: Path) -> None:
    def slow() -> Iterator[Batch]:
        for _ in range(2):
            time.sleep(0.2)
            yield cases(1, 2, 3, 4)

    train(model, slow(), tmp_path / "log.jsonl")
    assert all(each["samples_per_second"] <= 20 for each in entries(tmp_path / "log.jsonl"))


def test_the_gradient_is_clipped(model: Lanistr, tmp_path: Path) -> None:
    train(model, [cases(1e4, -1e4)], tmp_path / "log.jsonl", clip=0.5)
    (entry,) = entries(tmp_path / "log.jsonl")
    assert entry["gradient_norm"] > 0.5
    norms = [float(each.grad.norm()) for each in model.parameters() if each.grad is not None]
    assert float(np.linalg.norm(norms)) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("label", "what"),
    [(np.inf, "is inf"), (np.nan, "is nan"), (1e19, "gradient's norm inf")],
)
def test_what_is_not_finite_stops_the_run_before_any_weight_changes_and_names_the_cases(
    model: Lanistr, tmp_path: Path, label: float, what: str
) -> None:
    train(model, [cases(1, 2)], tmp_path / "log.jsonl")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with pytest.raises(NonFiniteLossError) as stopped:
        train(model, [cases(1, label, first=2), cases(1, first=4)], tmp_path / "log.jsonl")
    assert what in str(stopped.value)
    assert "step 10" in str(stopped.value)
    assert "case-2, case-3;" in str(stopped.value)
    assert "case-4" not in str(stopped.value)
    assert len(entries(tmp_path / "log.jsonl")) == 1
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], before[name]) for name in parameters)


def test_of_many_cases_twenty_are_named(model: Lanistr, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError) as stopped:
        train(model, [cases(*[np.inf] * 30)], tmp_path / "log.jsonl")
    assert "case-19, … (30 in all)" in str(stopped.value)
    assert "case-20" not in str(stopped.value)
