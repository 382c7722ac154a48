"""Preprocessing that was fitted on other records, taken for these."""

import json
from pathlib import Path

from lanistr.errors import ConfigError
from lanistr.preprocess import Preprocessor
from lanistr.schema import leaves
from lanistr.tasks import TaskSpec
from training.data.store import Dataset

_FREE = {
    "description": True,
    "examples": True,
    "flip": True,
    "suspicions": True,
    "fields": {"__all__": {"description"}},
    "variables": {"__all__": {"description"}},
}
"""What may differ in a part: nothing is fitted by it."""


def take_fitted(folder: Path, task: TaskSpec) -> Preprocessor:
    """Return a data set's, run's or bundle's vocabulary, means and codes for a task.

    The labels may be others; the parts, with their fields, units and ranges, may not: the numbers
    would mean something else to a model that was trained there.

    Raises:
        ConfigError: nothing is fitted there, or for other parts than the task's.
        DataError, BundleError: what stands there is damaged.
    """
    theirs, ours = _parts(_task_of(folder)), _parts(task)
    names = sorted(theirs.keys() | ours.keys())
    differing = [name for name in names if theirs.get(name) != ours.get(name)]
    if differing:
        raise ConfigError(
            f"the preprocessing of {folder} does not match the task {task.name}",
            code="bad_fit",
            field="--preprocessing",
            seen=f"another {', '.join(differing)}",
            accepted="preprocessing fitted for the same modalities, fields, units and ranges",
        )
    return Preprocessor.load(folder, task)


def _task_of(folder: Path) -> TaskSpec:
    if (folder / "dataset.json").is_file():
        return Dataset.open(folder).task
    path = folder / "task.json"  # a run's, or a bundle's
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(
            "no fitted preprocessing",
            code="no_preprocessing",
            field="--preprocessing",
            seen=str(folder),
            accepted="the folder of a prepared data set, a run or a bundle",
        ) from exc
    return TaskSpec.parse(data, ConfigError, str(path))


def _parts(task: TaskSpec) -> dict[str, object]:
    """Return by its path all that a task says of its parts and that preprocessing goes by."""
    parts = {each: getattr(task, each).model_dump(exclude=_FREE) for each in task.modalities}
    return dict(leaves(parts))
