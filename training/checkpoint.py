"""The state of a run on disk, so that it goes on after an interruption as if there had been none.

    RUN/checkpoints/step-00000500/      after 500 steps
      progress.json                     what else the run has to know
      .metadata, *.distcp               weights and optimiser, by torch.distributed.checkpoint

A checkpoint appears as a whole or not at all, and older ones go only when it is there. It does not
depend on the number of processes: a run may go on with another.
"""

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from lanistr.errors import CheckpointError
from training.distributed import World

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
_PROGRESS = "progress.json"
_NAME = re.compile(r"step-(\d{8,})")
# Frozen weights are those of the run that it started from, and are read from there again.
_OPTIONS = StateDictOptions(ignore_frozen_params=True)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run.

    Attributes:
        folder: of the run.
        keep: how many of the newest stay.
    """

    folder: Path
    keep: int

    def save(
        self, model: nn.Module, optimizer: Optimizer, progress: dict[str, Any], world: World
    ) -> None:
        """Store the state after `progress["step"]` steps; all processes must call this.

        Raises:
            CheckpointError: the disk takes no more; the older checkpoints are as they were.
        """
        parent = self.folder / FOLDER
        draft, done = parent / ".draft", parent / f"step-{progress['step']:08d}"
        failure: list[str | None]
        try:
            if world.leads:
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(parents=True)
            world.wait()
            weights, state = get_state_dict(model, optimizer, options=_OPTIONS)
            with _alone(world) as alone:
                state_dict_saver.save(
                    {"model": weights, "optimizer": state}, checkpoint_id=draft, no_dist=alone
                )
            if world.leads:
                (draft / _PROGRESS).write_text(json.dumps(progress) + "\n", encoding="utf-8")
                for path in draft.iterdir():
                    _settle(path)
                shutil.rmtree(done, ignore_errors=True)
                draft.rename(done)
                _settle(parent)
            failure = world.gather(None)
        except (OSError, CheckpointException) as exc:
            failure = world.gather(f"{type(exc).__name__}: {exc}")
        if any(failure):
            if world.leads:
                shutil.rmtree(draft, ignore_errors=True)
            kept = max(self.steps(), default=None)
            raise CheckpointError(
                f"the state after step {progress['step']} cannot be stored: {_first_line(failure)}",
                code="cannot_store",
                field=str(parent),
                accepted="space on the disk; then the same command goes on "
                + ("from the start" if kept is None else f"from step {kept}"),
            )
        if world.leads:
            for step in self.steps()[: -self.keep]:
                shutil.rmtree(self._path(step))

    def restore(
        self, model: nn.Module, optimizer: Optimizer, world: World
    ) -> dict[str, Any] | None:
        """Bring back the newest state that can be read, and return its progress.

        Returns:
            None if there is no checkpoint; weights are then as they were.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        there = world.share(self.steps)
        for step in reversed(there):
            weights, state = get_state_dict(model, optimizer, options=_OPTIONS)
            stored: dict[str, Any] = {"model": weights, "optimizer": state}
            try:
                progress: dict[str, Any] = json.loads(
                    (self._path(step) / _PROGRESS).read_text(encoding="utf-8")
                )
                with _alone(world) as alone:
                    state_dict_loader.load(stored, checkpoint_id=self._path(step), no_dist=alone)
            except (
                Exception,
                CheckpointException,
            ) as exc:  # whatever a damaged file provokes, the one before may do
                log.warning("checkpoint %s cannot be read: %s", self._path(step), exc)
                continue
            set_state_dict(
                model,
                optimizer,
                model_state_dict=stored["model"],
                optim_state_dict=stored["optimizer"],
                options=StateDictOptions(ignore_frozen_params=True, strict=False),
            )
            return progress
        if there:
            raise CheckpointError(
                "none of the checkpoints can be read",
                code="damaged_checkpoint",
                field=str(self.folder / FOLDER),
                accepted="whole checkpoints, or none: remove the folder to start anew",
            )
        return None

    def steps(self) -> list[int]:
        """Return the steps that there are checkpoints of, ascending."""
        parent = self.folder / FOLDER
        names = [_NAME.fullmatch(path.name) for path in parent.iterdir()] if parent.is_dir() else []
        return sorted(int(name[1]) for name in names if name)

    def remove(self) -> None:
        """Remove all checkpoints of a run that is done."""
        shutil.rmtree(self.folder / FOLDER, ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.folder / FOLDER / f"step-{step:08d}"


@contextmanager
def _alone(world: World) -> Iterator[bool]:
    """Say whether there is one process only, which torch would warn of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield world.processes == 1


def _settle(path: Path) -> None:
    """Have the system write a file or folder to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _first_line(failure: list[str | None]) -> str:
    return next(each for each in failure if each).splitlines()[0]
