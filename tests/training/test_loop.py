"""The training loop: what is logged of each step, and what stops a run."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import TensorBatch
from training.data.store import Dataset
from training.distributed import World
from training.loop import NonFiniteLossError, StepLog, Trainer
from training.objectives import Task
from training.recipe import FinetuneRecipe, head_config, load_recipe, model_config
from training.run import Run

CPU = World(torch.device("cpu"))


def trainer(dataset: Dataset, folder: Path, *overrides: str, task: Any = Task) -> Trainer:
    """A trainer of a number to predict, from nothing, in steps of 16 of the 100 cases."""
    base = ("optim.batch_size=16", "optim.epochs=1", "modality_dropout=0", "model.tabular.steps=2")
    recipe = load_recipe("demo", "finetune", FinetuneRecipe, (*base, *overrides))
    torch.manual_seed(recipe.seed)
    label = dataset.task.label
    sizes = model_config(
        recipe.model, dataset.preprocessor.dimensions(), head_config(label, recipe)
    )
    model = Lanistr(sizes)
    run = Run.begin(
        folder, stage="finetune", recipe=recipe, dataset=dataset, init=None, model=model
    )
    return Trainer(
        task(model, modality_dropout=0),
        dataset,
        dataset.rows("train", labelled=True),
        recipe=recipe,
        run=run,
        world=CPU,
    )


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def stars_here(stars: Path) -> Dataset:
    """A data set opened for this test alone, whose labels it may change."""
    return Dataset.open(stars)


def spoil(dataset: Dataset, label: float) -> str:
    """Give one training case an impossible label; return its name."""
    position = int(dataset.rows("train", labelled=True)[41])
    dataset.labels = dataset.labels.copy()
    dataset.labels[position] = label
    return dataset.ids([position])[0]


# ---- steps --------------------------------------------------------------------------------------


def test_every_step_leaves_one_line(stars_dataset: Dataset, tmp_path: Path) -> None:
    training = trainer(stars_dataset, tmp_path / "run", "optim.warmup=0.3")
    assert list(training.walk()) == list(range(7))
    found = entries(tmp_path / "run")
    assert [each["step"] for each in found] == list(range(7))
    assert [each["epoch"] for each in found] == [0] * 7
    assert all(each["loss"] == each["losses"]["task"] > 0 for each in found)
    assert [each["lr"] for each in found[:3]] == pytest.approx([0.5e-3, 1e-3, 1e-3])
    for name in ("gradient_norm", "samples_per_second", "mfu"):
        assert all(each[name] > 0 for each in found), name
    assert all(each["tokens_per_second"] == 0 for each in found)  # rows have no words
    assert all(each["mfu"] < 1 for each in found)


def test_tensorboard_has_the_same_figures(stars_dataset: Dataset, tmp_path: Path) -> None:
    training = trainer(stars_dataset, tmp_path / "run")
    for _ in training.walk():
        pass
    training.close()
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    losses = [(each.step, each.value) for each in board.Scalars("loss")]
    assert losses == [(e["step"], pytest.approx(e["loss"])) for e in entries(tmp_path / "run")]
    assert {"losses/task", "lr", "gradient_norm", "mfu"} <= set(board.Tags()["scalars"])


def test_a_step_taken_in_several_turns_is_the_same_step(
    stars_dataset: Dataset, tmp_path: Path
) -> None:
    # In evaluation mode: batch norm looks at no other rows, and nothing is dropped.
    class Still(Task):
        def __call__(self, *given: Any) -> Any:
            self.model.eval()
            return super().__call__(*given)

    losses = []
    for name, budget in (("whole", "null"), ("cut", "4")):
        training = trainer(
            stars_dataset, tmp_path / name, f"runtime.tokens={budget}", "optim.lr=1e-5", task=Still
        )
        for _ in training.walk():
            pass
        losses.append([(e["loss"], e["gradient_norm"]) for e in entries(tmp_path / name)])
        turns = [len(training.curriculum.rounds(step)) for step in range(7)]
        assert max(turns) == {"whole": 1, "cut": 4}[name]
    assert np.asarray(losses[0]) == pytest.approx(np.asarray(losses[1]), rel=1e-5)


def test_samples_per_second_counts_the_waiting_for_batches(
    stars_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Dataset.batch

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(0.2)
        return read(*given, **named)

    monkeypatch.setattr(Dataset, "batch", slow)
    for _ in trainer(stars_dataset, tmp_path / "run").walk():
        pass
    assert all(each["samples_per_second"] <= 16 / 0.2 for each in entries(tmp_path / "run"))


def test_the_work_that_is_counted_is_of_what_modality_dropout_leaves(
    stars_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hiding(model: Lanistr, **given: Any) -> Task:
        model.register_forward_pre_hook(lambda _, inputs: computed.append(rows(inputs[0])))
        return Task(model, **given | {"modality_dropout": 0.5})

    def rows(batch: TensorBatch) -> int:
        return sum(len(each.sample) for each in batch.parts.values())

    def count(_: Lanistr, batch: TensorBatch) -> int:
        counted.append(rows(batch))
        return 1

    computed: list[int] = []
    counted: list[int] = []
    monkeypatch.setattr("training.loop.step_flops", count)
    for _ in trainer(stars_dataset, tmp_path / "run", task=hiding).walk():
        pass
    assert counted == computed
    assert 30 < sum(counted) < 70  # of 100


def test_the_gradient_is_clipped(stars_here: Dataset, tmp_path: Path) -> None:
    stars_here.labels = stars_here.labels * 1e4
    training = trainer(stars_here, tmp_path / "run", "optim.clip=0.5")
    next(training.walk())
    assert entries(tmp_path / "run")[0]["gradient_norm"] > 0.5
    norms = [float(each.grad.norm()) for each in training.parameters if each.grad is not None]
    assert float(np.linalg.norm(norms)) == pytest.approx(0.5, rel=1e-3)


# ---- the log ------------------------------------------------------------------------------------


def test_a_log_that_goes_on_loses_what_was_written_after_the_state(tmp_path: Path) -> None:
    log = StepLog(tmp_path)
    log.write(after=0, step=0)
    size = log.size()
    log.write(after=1, step=1)
    log.close()
    StepLog(tmp_path, size, 1).write(after=1, step="again")
    assert entries(tmp_path) == [{"step": 0}, {"step": "again"}]


# ---- what stops a run ---------------------------------------------------------------------------


@pytest.mark.parametrize(("label", "what"), [(np.inf, "is inf"), (1e19, r"with gradient norm inf")])
def test_what_is_not_finite_stops_the_run_before_any_weight_changes_and_names_the_cases(
    stars_here: Dataset, tmp_path: Path, label: float, what: str
) -> None:
    name = spoil(stars_here, label)
    training = trainer(stars_here, tmp_path / "run", "runtime.tokens=4")
    before: dict[str, torch.Tensor] = {}

    def walk() -> None:
        for _ in training.walk():
            parameters = training.objective.model.named_parameters()
            before.update({name: each.detach().clone() for name, each in parameters})

    with pytest.raises(NonFiniteLossError, match=what) as stopped:
        walk()
    assert before, "the first step holds the bad case: choose another"
    assert name in str(stopped.value)
    assert f"step {len(entries(tmp_path / 'run'))} " in str(stopped.value)
    named = str(stopped.value).partition("cases ")[2].split(";")[0].split(", ")
    assert len(named) == (4 if label == np.inf else 16)  # the micro-batch at fault, or the step
    for parameter, each in training.objective.model.named_parameters():
        assert torch.equal(each, before[parameter])
