"""What is to be compared runs by turns, so that a busy moment of the machine falls on all alike."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lanistr.tasks import TaskSpec
from training.loop import Trainer
from training.run import Run, RunConfig

Figure = dict[str, float]
"""The `median` of some repetitions, the `low`est and the `high`est."""


def figure(values: Iterable[float]) -> Figure:
    """Return the median of repetitions and how far they spread."""
    found = sorted(values)
    return {"median": statistics.median(found), "low": found[0], "high": found[-1]}


def ratios(above: Sequence[float], below: Sequence[float]) -> Figure:
    """Return `above` / `below`, repetition by repetition.

    The two of a repetition stand next to each other in time. Medians of all repetitions do not: the
    speed of a machine drifts, and of one the median may be of a fast hour, of the other of a slow.
    """
    return figure(a / b for a, b in zip(above, below, strict=True))


def spread(found: Figure, digits: int = 2) -> str:
    """Return a figure in words."""
    median, low, high = (f"{found[each]:.{digits}f}" for each in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def device_name(device: torch.device) -> str:
    """Return what a device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def by_turns(
    ways: Mapping[str, Callable[[], object]],
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run each way once unmeasured, then all in turn; return the seconds of every repetition."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    for _ in range(repetitions):
        for name, run in ways.items():
            started = clock()
            run()
            seconds[name].append(clock() - started)
    return seconds


class Epochs:
    """Takes the epochs of a trainer one by one."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._walk = trainer.walk()

    def take(self) -> None:
        """Take one epoch, with all that a step of training does, up to its last operation."""
        for step in self._walk:
            if self.trainer.passes(step, every=1):
                break
        if self.trainer.world.device.type == "cuda":
            torch.cuda.synchronize(self.trainer.world.device)

    def close(self) -> None:
        """Leave the run where it is."""
        self._walk = iter(())  # nothing else holds the generator, which ends with this
        if self.trainer.log:
            self.trainer.log.close()


def throwaway_run(folder: Path, stage: str, task: TaskSpec) -> Run:
    """Make the folder of a run that nobody will read."""
    folder.mkdir(parents=True)
    config = RunConfig(
        stage=stage,
        recipe={},
        data="",
        data_hash="",
        init=None,
        parameters={},
        synthetic=True,
        versions={},
    )
    return Run(folder, config, task)


def first_losses(trainer: Trainer) -> dict[str, float]:
    """Return the losses of the first step that a trainer took."""
    assert trainer.log is not None
    with trainer.log.path.open(encoding="utf-8") as file:
        entry: dict[str, Any] = json.loads(file.readline())
    losses: dict[str, float] = entry["losses"]
    return losses
