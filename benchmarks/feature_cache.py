"""Epochs of fine-tuning with frozen encoders: their outputs read from disk, or made every time.

Both are the real trainer on the same prepared data with the same recipe and weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pace import Epochs, by_turns, figure, first_losses, ratios, throwaway_run
from benchmarks.records import prepare_records
from benchmarks.sizes import Size
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from lanistr.tasks import TaskSpec, find_task
from training.data.encoded import EncodedStore, encode_once
from training.data.store import Dataset
from training.distributed import World, parallelize
from training.flops import step_flops
from training.loop import Trainer, number_type
from training.objectives import Task
from training.recipe import FinetuneRecipe, head_config, load_recipe, model_config

_SPARE_EPOCHS = 2  # the trainer must not come to its end, where it would store itself


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        without: parts of the task that no case has.
    """

    name: str
    without: tuple[str, ...]


CASES = (
    Case("every part", ()),
    Case("notes and rows", ("image", "timeseries")),
)


def measure_cache(
    size: Size,
    *,
    device: torch.device,
    repetitions: int,
    overrides: Sequence[str],
    work: Path,
) -> list[dict[str, Any]]:
    """Measure both ways by turns; no case lacks a part, and notes are as long as they may be.

    Args:
        size: of models, batches and data.
        device: to train on.
        repetitions: epochs of each way, after one that does not count.
        overrides: settings of the recipe.
        work: a folder for data and logs.

    Returns:
        for each case, by way, epochs a second and the first step's loss; how many times faster
        epochs are with the cache, and how many times fewer operations they are: no cache can give
        more where operations are all that takes time.
    """
    found = []
    for number, case in enumerate(CASES):
        task = _task(case)
        folder = work / f"cache-{number}"
        dataset = prepare_records(folder / "data", task, size, size.labelled)
        ways = {
            way: _trainer(
                dataset, size, device, repetitions, overrides, folder / way, cached=way == "cached"
            )
            for way in ("cached", "uncached")
        }
        epochs = {way: Epochs(trainer) for way, trainer in ways.items()}
        seconds = by_turns({way: each.take for way, each in epochs.items()}, repetitions)
        for each in epochs.values():
            each.close()
        flops = {way: _flops(trainer) for way, trainer in ways.items()}
        entry: dict[str, Any] = {
            "case": case.name,
            "mean_tokens": float(dataset.tokens.mean()),
            "speedup": ratios(seconds["uncached"], seconds["cached"]),
            "flops_ratio": flops["uncached"] / flops["cached"],
        }
        for way, trainer in ways.items():
            entry[way] = {
                "epochs_per_second": figure(1 / each for each in seconds[way]),
                "first_losses": first_losses(trainer),
            }
        found.append(entry)
    return found


def _task(case: Case) -> TaskSpec:
    mortality = find_task("mortality").model_dump()
    return TaskSpec.model_validate(mortality | dict.fromkeys(case.without))


def _trainer(
    dataset: Dataset,
    size: Size,
    device: torch.device,
    repetitions: int,
    overrides: Sequence[str],
    folder: Path,
    *,
    cached: bool,
) -> Trainer:
    parts = load_recipe("mortality", "finetune", FinetuneRecipe, ()).model
    settings = [
        *size.overrides({*parts, *dataset.task.modalities}),
        f"optim.batch_size={size.labelled_batch}",
        f"optim.epochs={repetitions + _SPARE_EPOCHS}",
        "runtime.workers=0",
        "checkpoints.every=1000000000",
        # The rows that are hidden differ in number from step to step; time should not.
        "modality_dropout=0",
        *overrides,
    ]
    recipe = load_recipe("mortality", "finetune", FinetuneRecipe, settings)
    label = dataset.task.label
    dimensions = dataset.preprocessor.dimensions()
    torch.manual_seed(recipe.seed)
    # The recipe's word counts only for what the data do not decide.
    sizes: dict[str, Any] = dict(recipe.model)
    for part, known in dimensions.items():
        chosen = recipe.model.get(part) or {}
        sizes[part] = {name: each for name, each in chosen.items() if name not in known}
    model = Lanistr(model_config(sizes, dimensions, head_config(label, recipe)))
    model.freeze_encoders().to(device)
    positions = dataset.rows("train", labelled=True)
    world = World(device)
    encoded = None
    if cached:
        dtype = number_type(recipe, device)
        stored = encode_once(model, dataset, positions, device=device, dtype=dtype)
        encoded = EncodedStore(stored)
    return Trainer(
        Task(
            model,
            modality_dropout=recipe.modality_dropout,
            run=parallelize(model, recipe.runtime, world),
        ),
        dataset,
        positions,
        recipe=recipe,
        run=throwaway_run(folder, "finetune", dataset.task),
        world=world,
        encoded=encoded,
    )


def _flops(trainer: Trainer) -> int:
    """Count a training step over all cases at once: an epoch's operations."""
    positions: list[int] = np.asarray(trainer.curriculum.positions).tolist()
    batch = trainer.dataset.batch(positions, encoded=trainer.encoded)
    model = trainer.objective.model
    return step_flops(model, to_tensors(batch))
