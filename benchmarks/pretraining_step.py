"""A step of pretraining beside the naive way of taking it.

Both run the real trainer over the same made-up cases with the same sizes; only the waste differs.
The naive way pads every text to the longest, encodes zeros for what is absent and names every word,
hidden or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.made import MadeCases, Mix, NaiveCases, blank_rows, make_cases, text_limit
from benchmarks.pace import Epochs, by_turns, figure, first_losses, ratios, throwaway_run
from benchmarks.sizes import SIZES, Size
from lanistr.modalities import Modality
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.tensors import to_tensors
from lanistr.tasks import find_task
from training.data.sampler import in_order
from training.distributed import World, parallelize
from training.flops import matmul_rate, step_flops
from training.loop import Trainer
from training.objectives import Pretraining
from training.plan import sizes_without_data
from training.recipe import PretrainRecipe, load_recipe, model_config

PAPER_RATES = {"mimic-iv": 18.3, "amazon-office": 14.9}
"""Samples a second on an A100. Source: the LANISTR paper's hours, machines and samples."""

_TASKS = {"mimic-iv": "mortality", "amazon-office": "rating"}
_VARIABLES = (f"model.timeseries.groups={[[column] for column in range(59)]}",)
"""What can be hidden of a series, which a recipe without data does not know."""

_SPARE_EPOCHS = 2  # the trainer must not come to its end, where it would store itself

NOTES = Mix(median=180, sigma=0.7)
"""Lengths as of radiology reports and charted notes: an assumption, no measurement."""

STAYS = Mix(
    median=180,
    sigma=0.7,
    missing={Modality.TEXT: 0.05, Modality.IMAGE: 0.12, Modality.TIMESERIES: 0.231},
)
"""35.7% of the cases lack something, as in the paper's MIMIC-IV set. How that falls on modalities
is not published: the shares here are an assumption."""

REVIEWS = Mix(median=40, sigma=0.9, longest=128, missing={Modality.IMAGE: 0.998})
"""Reviews cut to 512 characters, about 128 tokens; 99.8% lack the picture, as in the paper's Amazon
set. The median length is an assumption."""


@dataclass(frozen=True)
class Case:
    """What is measured: a recipe over a mix of cases."""

    name: str
    recipe: str
    mix: Mix


CASES = (
    Case("full length", "mimic-iv", Mix()),
    Case("realistic lengths", "mimic-iv", NOTES),
    Case("MIMIC's gaps", "mimic-iv", STAYS),
    Case("Amazon's gaps", "amazon-office", REVIEWS),
)


WAYS: Mapping[str, tuple[str, ...]] = {"lean": (), "naive": ("model.text.mlm_positions=all",)}
"""What each way sets; the batches differ too."""


def measure_steps(
    size: Size,
    *,
    device: torch.device,
    repetitions: int,
    overrides: Sequence[str],
    work: Path,
) -> list[dict[str, Any]]:
    """Measure every case, both ways by turns.

    Args:
        size: of models, batches and steps.
        device: to train on.
        repetitions: epochs of each way, after one that does not count.
        overrides: settings of the recipe, such as ``runtime.tokens=65536``.
        work: a folder for logs.

    Returns:
        for each case, by way, samples a second, MFU and the losses of the first step; and how many
        times faster than the naive way. MFU is of what the cases ask for (`training.flops`),
        whatever else was computed.
    """
    found = []
    for number, case in enumerate(CASES):
        folder = work / f"steps-{number}"
        epochs = {
            way: Epochs(_trainer(case, way, size, device, repetitions, overrides, folder / way))
            for way in WAYS
        }
        rate = _Rate(epochs["lean"].trainer)
        seconds = by_turns(
            {"rate": rate.measure} | {way: each.take for way, each in epochs.items()}, repetitions
        )
        for each in epochs.values():
            each.close()
        found.append(
            {"case": case.name}
            | _figures({w: e.trainer for w, e in epochs.items()}, seconds, rate.found[1:])
            | _beside_paper(case, size, seconds["lean"])
        )
    return found


class _Rate:
    """The device's matrix products, measured next to what is to be compared with them."""

    def __init__(self, trainer: Trainer) -> None:
        self.device, self.dtype = trainer.world.device, trainer.dtype
        self.found: list[float] = []

    def measure(self) -> None:
        self.found.append(matmul_rate(self.device, self.dtype))


def _trainer(
    case: Case,
    way: str,
    size: Size,
    device: torch.device,
    repetitions: int,
    overrides: Sequence[str],
    folder: Path,
) -> Trainer:
    task = find_task(_TASKS[case.recipe])
    parts = load_recipe(case.recipe, "pretrain", PretrainRecipe, ()).model
    settings = [
        *size.overrides(parts),
        *(_VARIABLES if "timeseries" in parts else ()),
        f"optim.batch_size={size.batch}",
        f"optim.epochs={repetitions + _SPARE_EPOCHS}",
        "checkpoints.every=1000000000",
        "runtime.workers=0",  # there is nothing to read
        *overrides,
        *WAYS[way],
    ]
    recipe = load_recipe(case.recipe, "pretrain", PretrainRecipe, settings)
    torch.manual_seed(recipe.seed)
    model = LanistrForPretraining(model_config(sizes_without_data(recipe, task), None)).to(device)
    cases = make_cases(model.core, case.mix, size.batch * size.steps, seed=0)
    dataset = MadeCases(cases)
    if way == "naive":
        dataset = NaiveCases(cases, blank_rows(model.core), text_limit(model.core))
    world = World(device)
    return Trainer(
        Pretraining(model, recipe.losses, parallelize(model, recipe.runtime, world)),
        dataset,
        np.arange(len(cases)),
        recipe=recipe,
        run=throwaway_run(folder, "pretrain", task),
        world=world,
    )


def _figures(
    trainers: Mapping[str, Trainer], seconds: Mapping[str, list[float]], rates: list[float]
) -> dict[str, Any]:
    dataset = trainers["lean"].dataset
    asked, computed = (_flops(trainers[way]) for way in WAYS)
    cases = dataset.tokens.size
    entry: dict[str, Any] = {
        "mean_tokens": float(dataset.tokens.mean()),
        "missing": {
            m: float((dataset.amounts[m] == 0).mean()) if m in dataset.amounts else 1.0
            for m in trainers["lean"].objective.model.config.modalities
        },
        "matmul_gflops": figure(each / 1e9 for each in rates),
        "flops_ratio": computed / asked,
        "speedup": ratios(seconds["naive"], seconds["lean"]),
    }
    for way, trainer in trainers.items():
        entry[way] = {
            "samples_per_second": figure(cases / each for each in seconds[way]),
            "mfu": figure(
                asked / each / rate for each, rate in zip(seconds[way], rates, strict=True)
            ),
            "first_losses": first_losses(trainer),
        }
    return entry


def _beside_paper(case: Case, size: Size, seconds: list[float]) -> dict[str, float]:
    """Return how many times the paper's rate it is, where the sizes are the paper's."""
    if size != SIZES["paper"]:
        return {}
    rates = figure(size.batch * size.steps / each for each in seconds)
    return {"times_paper": rates["median"] / PAPER_RATES[case.recipe]}


def _flops(trainer: Trainer) -> int:
    """Count what an epoch of a trainer computes; texts count as long as their masks say."""
    model, dataset = trainer.objective.model, trainer.dataset
    return sum(
        step_flops(model, to_tensors(dataset.batch(positions.tolist())))
        for positions in in_order(np.arange(len(dataset)), trainer.recipe.optim.batch_size)
    )
