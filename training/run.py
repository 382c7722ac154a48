"""A run folder: what was decided, what was learned, what it was learned from.

config.json         stage, recipe as resolved, data and its hash, initial weights, versions
task.json           the task
preprocessing.json  the fitted preprocessing state, with tokenizer.json beside it
log.jsonl           one object a step; after each epoch of fine-tuning, one of validation
tensorboard/        the same figures for TensorBoard
checkpoints/        while it runs: the state to go on from; .lock, held by the command; and in
                    fine-tuning candidates/, the weights of the best validations
model/              the weights: config.json and model.safetensors
calibration.json    after fine-tuning, fitted on the validation split
report-SPLIT.json   what `training.evaluate` found
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import nn

from lanistr import __version__
from lanistr.calibration import Calibration
from lanistr.draft import draft_file, is_free
from lanistr.errors import CheckpointError, ConfigError
from lanistr.jsonfile import write_json
from lanistr.leftovers import left_of, swept_draft
from lanistr.model.checkpoint import CONFIG_NAME, WEIGHTS_NAME
from lanistr.model.lanistr import count_parameters
from lanistr.preprocess import Preprocessor
from lanistr.preprocess.base import STATE_FILE
from lanistr.schema import Schema, leaves
from lanistr.tasks import TaskSpec
from training.data.store import Dataset, data_hash, file_hash
from training.lock import LOCK, lock_folder, unlock_folder
from training.recipe import Recipe

CONFIG, TASK, LOG, CHECKPOINTS, CANDIDATES, MODEL, CALIBRATION = (
    "config.json",
    "task.json",
    "log.jsonl",
    "checkpoints",
    "candidates",
    "model",
    "calibration.json",
)

_LOCATIONS = ("data", "init", "encoders", "teachers")
"""Fields of `config.json` with paths; what stands there is identified by its hash."""

SchemaT = TypeVar("SchemaT", bound=Schema)


class RunConfig(Schema):
    """The contents of `config.json`.

    Attributes:
        stage: "pretrain" or "finetune".
        recipe: with all overrides applied.
        data: folder of the prepared data set.
        data_hash: of its `dataset.json`, which holds the hashes of all its files.
        init: run whose weights it started from; None for random ones.
        init_hash: sha256 of these weights; None without any, or in runs of older versions.
        frozen_hash: sha256 of the weights that are not trained; None if all are, or in runs of
            older versions.
        encoders: sha256 of the weights of each run whose encoders it started from, by its folder.
        teachers: sha256 of the weights or answers of each teacher, by its folder.
        parameters: count by module.
        synthetic: whether the data are synthetic, so that the model means nothing.
    """

    stage: str
    recipe: dict[str, Any]
    data: str
    data_hash: str
    init: str | None
    init_hash: str | None = None
    frozen_hash: str | None = None
    encoders: dict[str, str] = {}
    teachers: dict[str, str] = {}
    parameters: dict[str, int]
    synthetic: bool
    versions: dict[str, str]


@dataclass(frozen=True)
class Run:
    """A run folder that exists."""

    folder: Path
    config: RunConfig
    task: TaskSpec

    @classmethod
    def begin(
        cls,
        folder: Path,
        *,
        stage: str,
        recipe: Recipe,
        dataset: Dataset,
        init: Path | None,
        model: nn.Module,
        encoders: Sequence[Self] = (),
        teachers: Mapping[str, str] | None = None,
    ) -> Self:
        """Make the folder and write down what was decided, or go on with a run that was cut off.

        Raises:
            ConfigError: the folder holds a finished run, an unfinished one of other settings, or
                something else; or a command is at work on it.
            CheckpointError: the initial weights are not those that the unfinished run began with,
                or its `config.json` is damaged.
        """
        config = RunConfig(
            stage=stage,
            recipe=recipe.model_dump(mode="json"),
            data=str(dataset.folder),
            data_hash=data_hash(dataset),
            init=str(init) if init else None,
            init_hash=file_hash(init / MODEL / WEIGHTS_NAME) if init else None,
            frozen_hash=_frozen_hash(model),
            encoders={str(each.folder): each.weights_hash() for each in encoders},
            teachers=dict(teachers or {}),
            parameters=count_parameters(model),
            synthetic=dataset.synthetic,
            versions=versions(),
        )
        run = cls(folder, config, dataset.task)
        if all((folder / each).is_file() for each in (CONFIG, TASK, STATE_FILE)):
            there = cls(folder, _read(folder / CONFIG, RunConfig), dataset.task)
            if not there.finished or there._temporary():
                lock_folder(folder)
            if not there.finished:  # looked at again, now that no other process can finish it
                if run.stepped:
                    began = _read(folder / CONFIG, RunConfig)
                    _check_same_settings(began, config, folder)
                    # `training.teachers.learned_by` later looks for these runs where they are now.
                    locations = {each: getattr(config, each) for each in _LOCATIONS}
                    _write(folder / CONFIG, began.model_copy(update=locations))
                else:
                    run._write(folder, dataset)
                return run
            there.close()  # it may have been killed before it did
        if not is_free(folder):
            raise ConfigError(
                "the folder exists",
                code="exists",
                field=str(folder),
                accepted="a new or empty folder, or one with an interrupted run",
            )
        with swept_draft(folder.resolve(), new=True) as draft:  # where a link leads to
            lock_folder(draft, folder)
            run._write(draft, dataset)
        return run

    def _write(self, folder: Path, dataset: Dataset) -> None:
        """Write configuration, task and preprocessing into a folder."""
        _write(folder / CONFIG, self.config)
        _write(folder / TASK, self.task)
        dataset.preprocessor.save(folder)

    @property
    def stepped(self) -> bool:
        """Whether a first step was taken: before that, there is nothing to go on with."""
        log, checkpoints = self.folder / LOG, self.folder / CHECKPOINTS
        logged = log.is_file() and log.stat().st_size > 0
        return logged or (checkpoints.is_dir() and any(checkpoints.iterdir()))

    @property
    def finished(self) -> bool:
        """Whether training came to its end: after that, it stores what it learned from the data."""
        if self.config.stage == "pretrain":
            return (self.model_folder / CONFIG_NAME).is_file()  # written after the weights
        # The last act of fine-tuning is the calibration.
        return (self.folder / CALIBRATION).is_file()

    def close(self) -> None:
        """End a finished run: remove what only a running one needs, and unlock the folder."""
        for each in self._temporary():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink(missing_ok=True)
        unlock_folder(self.folder)

    def _temporary(self) -> list[Path]:
        """Return the files and folders there that only a running command needs, or left behind."""
        named = [self.folder / each for each in (CHECKPOINTS, CANDIDATES, LOCK)]
        written = [self.folder / each for each in (CONFIG, TASK, STATE_FILE, CALIBRATION)]
        written += [self.model_folder / each for each in (WEIGHTS_NAME, CONFIG_NAME)]
        drafts = [draft for each in written for draft in left_of(each)]
        return [each for each in named if each.exists()] + drafts

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a run folder.

        Raises:
            CheckpointError: it is none, or damaged.
        """
        unfinished = CheckpointError(
            "not a finished run",
            code="no_run",
            field=str(folder),
            accepted="the folder of a finished training.pretrain or training.finetune",
        )
        if not (folder / CONFIG).is_file() or not (folder / MODEL).is_dir():
            raise unfinished
        # A model that `training.convert` brought over has neither task nor preprocessing.
        if not any((folder / each).is_file() for each in (TASK, STATE_FILE)):
            raise unfinished
        run = cls(folder, _read(folder / CONFIG, RunConfig), _read(folder / TASK, TaskSpec))
        if not run.finished:
            raise unfinished
        return run

    @property
    def model_folder(self) -> Path:
        """Where the weights stand."""
        return self.folder / MODEL

    def weights_hash(self) -> str:
        """Return the sha256 of the weights."""
        return file_hash(self.model_folder / WEIGHTS_NAME)

    def preprocessor(self) -> Preprocessor:
        """Return the preprocessing that the model was trained with."""
        return Preprocessor.load(self.folder, self.task)

    def write_calibration(self, calibration: Calibration) -> None:
        """Store the calibration."""
        _write(self.folder / CALIBRATION, calibration)

    def calibration(self) -> Calibration:
        """Return the calibration of a fine-tuned run."""
        return _read(self.folder / CALIBRATION, Calibration)


def _check_same_settings(before: RunConfig, now: RunConfig, folder: Path) -> None:
    """Check that a resumed run has the settings it began with; the runtime may differ.

    Raises:
        ConfigError: naming the first setting that differs.
        CheckpointError: the initial or the frozen weights, which are read again, differ.
    """
    runtime = ("recipe.runtime.", "recipe.checkpoints.", "versions.", "data.")
    free = [*runtime, "init_hash.", "frozen_hash."]  # the hashes are compared below
    if now.stage == "pretrain":  # once accepted; now refused, so that resuming is without it
        free.append("recipe.optim.plateau.")
    # Weights are identified by their hash: the folder may have been renamed.
    if before.init_hash and before.init_hash == now.init_hash:
        free.append("init.")
    if sorted(before.encoders.values()) == sorted(now.encoders.values()):
        free.append("encoders.")
    if sorted(before.teachers.values()) == sorted(now.teachers.values()):
        free.append("teachers.")
    was, is_now = (dict(leaves(each.model_dump(mode="json"))) for each in (before, now))
    for path in sorted(was.keys() | is_now.keys()):
        if was.get(path) != is_now.get(path) and not f"{path}.".startswith(tuple(free)):
            raise ConfigError(
                f"{folder} contains an interrupted run that was started with other settings",
                code="other_settings",
                field=path,
                seen=is_now.get(path),
                accepted=f"{was.get(path)!r}, to resume it; or another folder",
            )
    if before.init_hash and before.init_hash != now.init_hash:
        raise CheckpointError(
            f"{folder} contains an interrupted run that was started from other weights in "
            f"{now.init}",
            code="other_weights",
            field=str(now.init),
            seen=now.init_hash,
            accepted=f"{before.init_hash} (sha256 of {MODEL}/{WEIGHTS_NAME}), or another folder",
        )
    if before.frozen_hash and before.frozen_hash != now.frozen_hash:
        raise CheckpointError(
            f"{folder} contains an interrupted run that was started with other frozen weights",
            code="other_weights",
            field="recipe.init",
            seen=", ".join(filter(None, now.recipe["init"].values())),
            accepted="the weights that it was started with, under the same names; or another "
            "folder",
        )


def _frozen_hash(model: nn.Module) -> str | None:
    """Return the sha256 of the weights that are not trained, which no checkpoint holds."""
    frozen = [each for each in model.parameters() if not each.requires_grad]
    found = hashlib.sha256()
    for each in frozen:
        found.update(each.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest() if frozen else None


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    return {
        "lanistr": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def _read(path: Path, kind: type[SchemaT]) -> SchemaT:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"cannot be read: {exc}", code="bad_run", field=str(path)) from exc
    return kind.parse(data, CheckpointError, str(path))


def _write(path: Path, value: Schema) -> None:
    """Write a file that is there as a whole or not at all."""
    with draft_file(path) as draft:
        write_json(draft, value.model_dump(mode="json"))
