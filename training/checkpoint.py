"""The state of a run on disk, so that it goes on after an interruption as if there had been none.

    RUN/checkpoints/step-00000500/      after 500 steps
      progress.json                     what else the run has to know, and the other files' sha256
      .metadata, *.distcp               weights and optimiser, by torch.distributed.checkpoint

A checkpoint appears as a whole or not at all, and older ones go only when it is there. It does not
depend on the number of processes: a run may go on with another.
"""

import json
import logging
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

from lanistr.draft import fsync
from lanistr.errors import CheckpointError
from training.data.store import file_hash
from training.distributed import World
from training.run import CHECKPOINTS

log = logging.getLogger(__name__)

_PROGRESS, _DRAFT = "progress.json", ".draft"
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
        step = progress["step"]
        try:
            # What the leading process alone does is shared, so that its failure is everyone's.
            draft = world.share(self._clear)
            world.align(model)  # or each buffer would be stored of whom torch deals it to
            weights, state = get_state_dict(model, optimizer, options=_OPTIONS)
            with _alone(world) as alone:
                stored = {"model": weights, "optimizer": state}
                state_dict_saver.save(stored, checkpoint_id=draft, no_dist=alone)
            world.share(lambda: self._complete(draft, progress))
        except (OSError, CheckpointException) as exc:
            if world.leads:
                shutil.rmtree(self.folder / CHECKPOINTS / _DRAFT, ignore_errors=True)
            kept = max(self.steps(), default=None)
            raise CheckpointError(
                f"the checkpoint after step {step} could not be saved: {_reason(exc)}",
                code="cannot_store",
                field=str(self.folder / CHECKPOINTS),
                accepted="free disk space; then repeat the command, which continues "
                + ("from the start" if kept is None else f"from step {kept}"),
            ) from exc

    def restore(
        self, model: nn.Module, optimizer: Optimizer, world: World
    ) -> dict[str, Any] | None:
        """Bring back the newest state that is whole, and return its progress.

        Returns:
            None if there is no checkpoint; weights are then as they were.

        Raises:
            CheckpointError: there are checkpoints, but none is whole.
        """
        progress = world.share(self._newest)
        if progress is None:
            return None
        weights, state = get_state_dict(model, optimizer, options=_OPTIONS)
        stored: dict[str, Any] = {"model": weights, "optimizer": state}
        path = self._path(progress["step"])
        try:
            with _alone(world) as alone:
                state_dict_loader.load(stored, checkpoint_id=path, no_dist=alone)
        except CheckpointException as exc:
            raise CheckpointError(
                f"the checkpoint does not match the model: {_reason(exc)}",
                code="wrong_checkpoint",
                field=str(path),
                accepted="a checkpoint of this run, written by this version",
            ) from exc
        set_state_dict(
            model,
            optimizer,
            model_state_dict=stored["model"],
            optim_state_dict=stored["optimizer"],
            options=StateDictOptions(ignore_frozen_params=True, strict=False),
        )
        return progress

    def steps(self) -> list[int]:
        """Return the steps that there are checkpoints of, ascending."""
        parent = self.folder / CHECKPOINTS
        names = [_NAME.fullmatch(path.name) for path in parent.iterdir()] if parent.is_dir() else []
        return sorted(int(name[1]) for name in names if name)

    def _path(self, step: int) -> Path:
        return self.folder / CHECKPOINTS / f"step-{step:08d}"

    def _clear(self) -> Path:
        """Make an empty folder for the next checkpoint."""
        draft = self.folder / CHECKPOINTS / _DRAFT
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        return draft

    def _complete(self, draft: Path, progress: dict[str, Any]) -> None:
        """Put a draft that all processes have written to in its place; remove what is too old."""
        done = self._path(progress["step"])
        contents = {"progress": progress, "sha256": _digests(draft)}
        (draft / _PROGRESS).write_text(json.dumps(contents) + "\n", encoding="utf-8")
        for path in draft.iterdir():
            fsync(path)
        shutil.rmtree(done, ignore_errors=True)
        draft.rename(done)
        fsync(done.parent)
        # Those of later steps could not be read, or the run would have gone on from there.
        older = [step for step in self.steps() if step <= progress["step"]]
        for step in older[: -self.keep]:
            shutil.rmtree(self._path(step))

    def _newest(self) -> dict[str, Any] | None:
        """Return the progress of the newest checkpoint whose files are as they were written."""
        there = self.steps()
        for step in reversed(there):
            path = self._path(step)
            try:
                contents = json.loads((path / _PROGRESS).read_text(encoding="utf-8"))
                if contents["sha256"] != _digests(path):
                    raise ValueError("its files have changed")
                return dict(contents["progress"])
            except (OSError, ValueError, LookupError, TypeError) as exc:
                log.warning("%s cannot be read: %s", path, exc)
        if there:
            raise CheckpointError(
                "none of the checkpoints can be read",
                code="damaged_checkpoint",
                field=str(self.folder / CHECKPOINTS),
                accepted="intact checkpoints; or remove the folder to start over",
            )
        return None


def _digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a checkpoint but of that which holds these."""
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name != _PROGRESS:
            digests[path.name] = file_hash(path)
    return digests


@contextmanager
def _alone(world: World) -> Iterator[bool]:
    """Say whether there is one process only, which torch would warn of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield world.processes == 1


def _reason(exc: BaseException) -> str:
    """Return what went wrong, in one line; torch wraps the error of each process."""
    inner = [failure[0] for failure in getattr(exc, "failures", {}).values()]
    return "; ".join(str(each).splitlines()[0] for each in inner or [exc] if str(each))
