"""What a task takes and what it predicts: parts with their fields, label, metric.

A task is a YAML file in `tasks/`; the same file drives preparation, training, export, the
service's checks and its documentation.
"""

import math
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import re2
from pydantic import Field, ValidationInfo, field_validator, model_validator

from lanistr.document import read_settings
from lanistr.errors import TaskError, unknown_name
from lanistr.fields import WRITTEN, CategoryField, FieldSpec, NumberField
from lanistr.modalities import Modality
from lanistr.schema import Schema

TASKS_FOLDER = Path(__file__).resolve().parent.parent / "tasks"

LARGEST_LABEL = (2 - 2**-23) * 2.0**127
"""Of what float32 holds."""


# ---- parts --------------------------------------------------------------------------------------


class Suspicion(Schema):
    """What a note must not be: one written after the outcome tells it.

    Attributes:
        code: of the issue that a note which looks so raises; the note is used all the same.
        detail: what is wrong with such a note, in words.
        patterns: regular expressions of RE2, which take time in proportion to the note, whatever
            stands in either; case does not count and ^ is the start of any line; one that is found
            will do.
    """

    code: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    detail: str
    patterns: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _compile(self) -> Self:
        for pattern in self.patterns:
            try:
                _compiled(pattern)
            except re2.error as exc:
                said = exc.args[0].decode() if exc.args else exc
                raise ValueError(f"{pattern!r} is not a regular expression: {said}") from None
        return self

    def find(self, note: str) -> str | None:
        """Return the words of a note that raise the suspicion; None if none do."""
        for pattern in self.patterns:
            if found := _compiled(pattern).search(note):
                words: str = found[0]
                return words
        return None


@cache
def _compiled(pattern: str) -> Any:
    """Return a pattern of a suspicion, compiled.

    Raises:
        re2.error: it is not one.
    """
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    return re2.compile(f"(?m){pattern}", options)


class TextSpec(Schema):
    """The notes of a case.

    Attributes:
        suspicions: what a note must not be.
        examples: made-up notes that show how one reads, from the usual to the unusual; the service
            hands them out in its sample cases.
    """

    description: str = ""
    suspicions: tuple[Suspicion, ...] = ()
    examples: tuple[str, ...] = ()


class ImageSpec(Schema):
    """The pictures of a case."""

    description: str = ""
    flip: bool = False  # whether a mirrored picture means the same (never for an X-ray)


class TabularSpec(Schema):
    """The table row of a case, field by field."""

    description: str = ""
    fields: dict[str, FieldSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _useful(self, info: ValidationInfo) -> Self:
        for name, field in self.fields.items() if info.context == WRITTEN else ():
            for key in ("normal", "sum_of"):
                if getattr(field, key, None) not in (None, ()):
                    raise ValueError(
                        f"field {name!r} has {key}, which only variables of a time series can have"
                    )
        return self


class TimeseriesSpec(Schema):
    """The series of a case: variables on a grid of steps from hour 0 to the horizon."""

    description: str = ""
    horizon_hours: float = Field(gt=0)
    step_hours: float = Field(gt=0)
    variables: dict[str, FieldSpec] = Field(min_length=1)

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return round(self.horizon_hours / self.step_hours)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not math.isclose(self.steps * self.step_hours, self.horizon_hours):
            raise ValueError("horizon_hours must be a multiple of step_hours")
        if "hours" in self.variables:
            raise ValueError("a variable may not be named 'hours', the name of the time")
        for name, variable in self.variables.items():
            if isinstance(variable, NumberField):
                continue
            if variable.categories is None:
                raise ValueError(f"variable {name!r} must list its categories")
            if variable.normal is None:
                raise ValueError(f"variable {name!r} must name its normal category")
            self._check_sum(name, variable)
        return self

    def _check_sum(self, name: str, variable: CategoryField) -> None:
        sums = {0}
        for part in variable.sum_of:
            other = self.variables.get(part)
            if not isinstance(other, CategoryField):
                raise ValueError(
                    f"sum_of of {name!r} names {part!r}, which is not a categorical "
                    "variable of this series"
                )
            if other.sum_of:  # of two sums that depend on each other the order would matter
                raise ValueError(f"sum_of of {name!r} names {part!r}, which is itself a sum")
            words = other.categories or ()
            if not all(word.isdecimal() for word in words):
                raise ValueError(
                    f"sum_of of {name!r} names {part!r}, whose categories are not whole numbers"
                )
            sums = {total + int(word) for total in sums for word in words}
        lacking = sorted(each for each in sums if str(each) not in (variable.categories or ()))
        if variable.sum_of and lacking:
            raise ValueError(
                f"{name!r} has no category '{lacking[0]}', although that is a possible sum"
            )


# ---- label and task -----------------------------------------------------------------------------


class LabelSpec(Schema):
    """What is predicted.

    Attributes:
        kind: binary and multiclass have classes, ordinal has classes in order, regression a number.
        classes: class names in code order; for binary the second is the one whose probability is
            the `probability` of an answer.
        values: for ordinal, the number that each class stands for (stars), for expected values.
        unit: for regression.
    """

    kind: Literal["binary", "multiclass", "ordinal", "regression"]
    name: str
    description: str = ""
    classes: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    unit: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wanted = {"binary": (2, 2), "regression": (0, 0)}.get(self.kind, (2, 1000))
        if not wanted[0] <= len(self.classes) <= wanted[1]:
            raise ValueError(f"{self.kind} labels cannot have {len(self.classes)} classes")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("class names must be distinct")
        if self.kind == "ordinal" and len(self.values) != len(self.classes):
            raise ValueError("an ordinal label needs one value per class")
        if self.kind == "ordinal" and list(self.values) != sorted(set(self.values)):
            raise ValueError("the values of an ordinal label must be in ascending order")
        if self.kind != "ordinal" and self.values:
            raise ValueError(f"{self.kind} labels cannot have values")
        return self

    @property
    def outputs(self) -> int:
        """Number of outputs of the head: classes, or 1 for regression."""
        return len(self.classes) or 1

    def encode(self, label: str | float | None) -> float:
        """Return the class index, or the number itself for regression; NaN for no label.

        Raises:
            TaskError: the label is not one of the classes, or not a number that float32 holds.
        """
        if label is None:
            return math.nan
        if self.kind == "regression":
            if isinstance(label, str) or not abs(label) <= LARGEST_LABEL:
                raise TaskError(
                    "not a label",
                    code="bad_label",
                    field=self.name,
                    seen=label,
                    accepted=f"a number up to {LARGEST_LABEL:.2g}",
                )
            return float(label)
        if label not in self.classes:
            raise TaskError(
                "not a label",
                code="bad_label",
                field=self.name,
                seen=label,
                accepted=unknown_name(label, self.classes),
            )
        return float(self.classes.index(str(label)))


METRICS = {
    "binary": ("auroc", "auprc", "accuracy", "macro_f1"),
    "multiclass": ("accuracy", "macro_f1"),
    "ordinal": ("quadratic_kappa", "mae", "accuracy", "macro_f1"),
    "regression": ("mae", "rmse"),
}
"""Of each kind of label, the figures that may choose a model of it."""


class TaskSpec(Schema):
    """A task: which parts a case may bring and what is predicted from them.

    Attributes:
        name: the last part of the service's address, `/predict/{name}`.
        metric: the figure that model selection and export watch.
        minimum: combinations of parts, one of which a case must bring for its prediction to be
            given; without one the service abstains. Default: any modality will do.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    title: str
    description: str = ""
    label: LabelSpec
    metric: Literal["auroc", "auprc", "accuracy", "macro_f1", "mae", "rmse", "quadratic_kappa"]
    text: TextSpec | None = None
    image: ImageSpec | None = None
    tabular: TabularSpec | None = None
    timeseries: TimeseriesSpec | None = None
    minimum: tuple[Annotated[tuple[Modality, ...], Field(min_length=1)], ...] = ()

    @field_validator("metric")
    @classmethod
    def _of_its_label(cls, metric: str, info: ValidationInfo) -> str:
        label = info.data.get("label")  # None: it is wrong itself
        if label and metric not in METRICS[label.kind]:
            known = unknown_name(metric, METRICS[label.kind])
            raise ValueError(f"not a metric of {label.kind} labels: {known}")
        return metric

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.modalities:
            raise ValueError("a task needs at least one of " + ", ".join(Modality))
        for foreign in sorted({each for parts in self.minimum for each in parts}):
            if foreign not in self.modalities:
                raise ValueError(f"minimum names {foreign}, which is not a modality of the task")
        return self

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that a case of this task may bring, in canonical order."""
        return tuple(each for each in Modality if getattr(self, each) is not None)

    def suffices(self, brought: Collection[Modality]) -> bool:
        """Whether a case that brings these parts can be predicted."""
        return not self.minimum or any(set(parts) <= set(brought) for parts in self.minimum)

    def wanted(self) -> str:
        """Say in words what a case must bring."""
        return "; or ".join(" and ".join(parts) for parts in self.minimum) or "any modality"


def read_task(path: Path) -> TaskSpec:
    """Read a task file.

    Raises:
        TaskError: the file is missing, not YAML, or wrong; the message names the key.
    """
    return read_task_file(path)[0]


def read_task_file(path: Path) -> tuple[TaskSpec, Any]:
    """Read a task file, and what stands in it under `source`: where a table holds the parts.

    That section is for preparation alone and no part of the task; None where there is none.

    Raises:
        TaskError: the file is missing, not YAML, or wrong; the message names the key.
    """
    data = read_settings(path, "task", TaskError)
    source = data.pop("source", None)
    return TaskSpec.parse(data, TaskError, str(path), context=WRITTEN), source


def find_task(name: str, folder: Path = TASKS_FOLDER) -> TaskSpec:
    """Read a task by its name in `tasks/`, or by the path of its file.

    Raises:
        TaskError: there is no such task, or its file is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return read_task(Path(name))
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        raise TaskError(
            "no such task",
            code="unknown_task",
            field="task",
            seen=name,
            accepted=unknown_name(name, known),
        )
    return read_task(path)
