"""A run folder: what was decided, what was learned, what it was learned from.

config.json         stage, recipe as resolved, data and its hash, initial weights, versions
task.json           the task
preprocessing.json  the fitted preprocessing state, with tokenizer.json beside it
log.jsonl           one object a step; after each epoch of fine-tuning, one of validation
model/              the weights: config.json and model.safetensors
calibration.json    after fine-tuning, fitted on the validation split
report-SPLIT.json   what `training.evaluate` found
"""

import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import nn

from lanistr import __version__
from lanistr.calibration import Calibration
from lanistr.errors import CheckpointError, ConfigError, DataError
from lanistr.model.lanistr import count_parameters
from lanistr.preprocess import STATE_FILE, Preprocessor
from lanistr.preprocess.text import TOKENIZER_FILE
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec
from training.data.store import Dataset
from training.recipe import Recipe

CONFIG, TASK, LOG, MODEL, CALIBRATION = (
    "config.json",
    "task.json",
    "log.jsonl",
    "model",
    "calibration.json",
)

Part = TypeVar("Part", bound=Schema)


class RunConfig(Schema):
    """What `config.json` says.

    Attributes:
        stage: "pretrain" or "finetune".
        recipe: with all overrides applied.
        data: folder of the prepared data set.
        data_hash: of its `dataset.json`, which holds the hashes of all its files.
        init: run whose weights it started from; None for random ones.
        parameters: count by module.
        synthetic: the data were made by chance: what is learned from them means nothing.
    """

    stage: str
    recipe: dict[str, Any]
    data: str
    data_hash: str
    init: str | None
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
    def create(
        cls,
        folder: Path,
        *,
        stage: str,
        recipe: Recipe,
        dataset: Dataset,
        init: Path | None,
        model: nn.Module,
    ) -> Self:
        """Make the folder and write down what was decided.

        Raises:
            ConfigError: the folder holds something already.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(
                "the folder exists",
                code="exists",
                field=str(folder),
                accepted="a new folder, or an empty one",
            )
        config = RunConfig(
            stage=stage,
            recipe=recipe.model_dump(mode="json"),
            data=str(dataset.folder),
            data_hash=data_hash(dataset),
            init=str(init) if init else None,
            parameters=count_parameters(model),
            synthetic=dataset.synthetic,
            versions=versions(),
        )
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / CONFIG, config)
        _write(folder / TASK, dataset.task)
        dataset.preprocessor.save(folder)
        return cls(folder, config, dataset.task)

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
            accepted="a folder that training.pretrain or training.finetune wrote to its end",
        )
        if not (folder / CONFIG).is_file() or not (folder / MODEL).is_dir():
            raise unfinished
        # A model that `training.convert` brought over has neither task nor preprocessing.
        if not any((folder / each).is_file() for each in (TASK, STATE_FILE)):
            raise unfinished
        config = _read(folder / CONFIG, RunConfig)
        # Fine-tuning writes the best model as it goes; its last act is the calibration.
        if config.stage == "finetune" and not (folder / CALIBRATION).is_file():
            raise unfinished
        return cls(folder, config, _read(folder / TASK, TaskSpec))

    @property
    def model_folder(self) -> Path:
        """Where the weights stand."""
        return self.folder / MODEL

    def preprocessor(self) -> Preprocessor:
        """Return the preprocessing that the model was trained with."""
        return Preprocessor.load(self.folder, self.task)

    def write_calibration(self, calibration: Calibration) -> None:
        """Store the calibration."""
        _write(self.folder / CALIBRATION, calibration)

    def calibration(self) -> Calibration:
        """Return the calibration of a fine-tuned run."""
        return _read(self.folder / CALIBRATION, Calibration)


def data_hash(dataset: Dataset) -> str:
    """Return the sha256 of `dataset.json`."""
    return hashlib.sha256((dataset.folder / "dataset.json").read_bytes()).hexdigest()


def check_fits(run: Run, dataset: Dataset) -> None:
    """Check that a model can read a data set: the fitted preprocessing must be the same.

    Raises:
        DataError: the data set was preprocessed otherwise than the model expects.
    """
    for name in (STATE_FILE, TOKENIZER_FILE):
        files = [folder / name for folder in (run.folder, dataset.folder)]
        expected, found = (each.read_bytes() if each.is_file() else b"" for each in files)
        if expected != found:
            raise DataError(
                f"the data set's {name} is not the one that the run was trained with: "
                "vocabulary, means or codes differ",
                code="bad_fit",
                field=str(dataset.folder),
                accepted=f"data prepared with the preprocessing state of {run.folder}",
            )


def check_predicts(run: Run, dataset: Dataset) -> None:
    """Check that a run predicts what a data set's labels say.

    Raises:
        DataError: the run was not fine-tuned, or on other labels.
    """
    if run.config.stage != "finetune":
        raise DataError(
            "the run has no head",
            field=str(run.folder),
            seen=run.config.stage,
            accepted="a fine-tuned run",
        )
    ours, theirs = (
        f"{label.kind} {label.name} {', '.join(label.classes)}".strip()
        for label in (run.task.label, dataset.task.label)
    )
    if ours != theirs:
        raise DataError(
            "the data set has other labels than the run was trained on",
            code="bad_fit",
            field=str(dataset.folder),
            seen=theirs,
            accepted=ours,
        )


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    return {
        "lanistr": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def _read(path: Path, kind: type[Part]) -> Part:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"cannot be read: {exc}", code="bad_run", field=str(path)) from exc
    return kind.parse(data, CheckpointError, str(path))


def _write(path: Path, value: Schema) -> None:
    text = json.dumps(value.model_dump(mode="json"), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
