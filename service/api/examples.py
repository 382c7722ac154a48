"""A record that can be sent as it is, made from a task's own fields."""

from collections.abc import Callable, Mapping
from typing import Any

from lanistr.modalities import Modality
from lanistr.tasks import FieldSpec, NumberField, TaskSpec

_COLUMNS = 3
"""Variables of an example's series: enough to see how it goes."""


def example(task: TaskSpec) -> dict[str, Any]:
    """Return a record with every part but pictures, which would be long."""
    return {
        modality: EXAMPLES[modality](task) for modality in task.modalities if modality in EXAMPLES
    }


def _note(task: TaskSpec) -> Any:
    return "A note, in plain words."


def _row(task: TaskSpec) -> Any:
    assert task.tabular is not None
    return {name: _value(spec) for name, spec in task.tabular.fields.items()}


def _series(task: TaskSpec) -> Any:
    assert task.timeseries is not None
    numeric = {n: s for n, s in task.timeseries.variables.items() if isinstance(s, NumberField)}
    chosen = list((numeric or task.timeseries.variables).items())[:_COLUMNS]
    step = task.timeseries.step_hours
    return [{"hours": k * step, **{n: _value(spec) for n, spec in chosen}} for k in (0.5, 1.5)]


EXAMPLES: Mapping[Modality, Callable[[TaskSpec], Any]] = {
    Modality.TEXT: _note,
    Modality.TABULAR: _row,
    Modality.TIMESERIES: _series,
}


def _value(spec: FieldSpec) -> float | str:
    """Return a value that the field takes without an issue."""
    if not isinstance(spec, NumberField):
        return spec.normal or (spec.categories or ("any name",))[0]
    if spec.normal is not None:
        return spec.normal
    low, high = spec.range or (0.0, 2.0)
    return float(round((low * high) ** 0.5 if spec.log and low else (low + high) / 2, 3))
