"""Records that can be sent as they are, made up from a task's own fields; never anyone's data."""

import base64
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from lanistr.fields import FieldSpec, NumberField
from lanistr.modalities import Modality
from lanistr.tasks import TaskSpec

_COLUMNS = 6
"""Variables of an example's series: enough to see how it goes."""

_ROWS = 8

_ANY = (0.0, 2.0)
"""Stands for the range of a field that has none."""

_SIDE = 96
"""Pixels of a side of an example's picture: small, so that a request can be read."""


@dataclass(frozen=True, slots=True)
class Example:
    """A made-up case.

    Attributes:
        title: what it shows.
        record: a body that `POST /predict/{task}` takes.
    """

    title: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Manner:
    """How the values of a case are made up: near the usual, far from it, or with slips."""

    unusual: bool = False
    slips: bool = False


_USUAL, _UNUSUAL, _SLIPS = _Manner(), _Manner(unusual=True), _Manner(slips=True)


def example(task: TaskSpec) -> dict[str, Any]:
    """Return a record with every part but pictures, which would be long."""
    return {each: PARTS[each](task, _USUAL) for each in task.modalities if each not in _LONG}


def examples(task: TaskSpec) -> tuple[Example, ...]:
    """Return complete and incomplete cases, and one that is sent with slips."""
    parts = task.modalities

    def case(title: str, manner: _Manner, *chosen: Modality) -> Example:
        return Example(title, {each: PARTS[each](task, manner) for each in chosen})

    found = [
        case("Complete", _USUAL, *parts),
        case("Complete, unusual values", _UNUSUAL, *parts),
    ]
    if len(parts) > 1:
        half = parts[len(parts) // 2 :]
        found += [
            case(f"Only {' and '.join(half)}", _UNUSUAL, *half),
            case(f"Only {parts[0]}", _USUAL, parts[0]),
        ]
    if any(each in _SLIPPERY for each in parts):
        found.append(case("With mistakes", _SLIPS, *(each for each in parts if each not in _LONG)))
    return tuple(found)


# ---- parts --------------------------------------------------------------------------------------


def _note(task: TaskSpec, manner: _Manner) -> Any:
    assert task.text is not None
    if task.text.examples:
        return task.text.examples[-1 if manner.unusual else 0]
    return "A short note in plain words."


def _picture(task: TaskSpec, manner: _Manner) -> Any:
    """Draw two soft discs; no one will take it for a photograph."""
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    shift = 0.42 if manner.unusual else 0.3
    discs = sum(np.exp(-(((x - at) ** 2) * 6 + (y**2) * 2)) for at in (-shift, shift))
    pixels = (230 * discs / np.max(discs)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels if manner.unusual else 255 - pixels).save(file, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _row(task: TaskSpec, manner: _Manner) -> Any:
    assert task.tabular is not None
    row = {name: _value(spec, manner) for name, spec in task.tabular.fields.items()}
    return row | _slips(task.tabular.fields) if manner.slips else row


def _series(task: TaskSpec, manner: _Manner) -> Any:
    assert task.timeseries is not None
    spec = task.timeseries
    chosen = dict(sorted(spec.variables.items(), key=lambda each: _still(each[1]))[:_COLUMNS])
    count = min(_ROWS, spec.steps)
    rows = [
        {
            "hours": round(spec.horizon_hours * (k + 0.5) / count, 3),
            **{n: _value(s, manner, k, i) for i, (n, s) in enumerate(chosen.items())},
        }
        for k in range(count)
    ]
    if manner.slips:
        rows[-1] |= _slips(chosen)
    return rows


PARTS: Mapping[Modality, Callable[[TaskSpec, _Manner], Any]] = {
    Modality.TEXT: _note,
    Modality.IMAGE: _picture,
    Modality.TABULAR: _row,
    Modality.TIMESERIES: _series,
}

_LONG = frozenset({Modality.IMAGE})

_SLIPPERY = frozenset({Modality.TABULAR, Modality.TIMESERIES})


# ---- values -------------------------------------------------------------------------------------


def _value(spec: FieldSpec, manner: _Manner, step: int = 0, column: int = 0) -> float | str:
    """Return a value that the field takes without an issue, another one at each step."""
    if not isinstance(spec, NumberField):
        words = spec.categories or ("any name", "another name")
        return words[-1] if manner.unusual else spec.normal or words[0]
    low, high = spec.range or _ANY
    waver = 0.008 * math.sin(2.4 * step + column)
    if spec.normal is not None:
        # Away from the usual towards the farther end, by a share of it that grows with time.
        drift = 0.03 * (1 + step / 2) if manner.unusual else 0.0
        value = _rounded(spec.normal + (drift + waver) * _room(spec))
    else:
        share = (0.6 + 0.02 * step if manner.unusual else 0.3) + waver
        bend, back = (math.log1p, math.expm1) if spec.log else (float, float)
        value = _rounded(back(bend(low) + share * (bend(high) - bend(low))), digits=2)
    return min(max(value, low), high)


def _still(spec: FieldSpec) -> int:
    """Rank a variable: numbers that can rise first; of what is high already, little moves."""
    return 2 if not isinstance(spec, NumberField) else int(_room(spec) < 0)


def _room(spec: NumberField) -> float:
    """Return how far it is from the usual value to the farther end of the range; below 0: down."""
    low, high = spec.range or _ANY
    usual = low if spec.normal is None else spec.normal
    return max(high - usual, low - usual, key=abs)


def _rounded(value: float, digits: int = 3) -> float:
    """Keep few digits; more would look measured."""
    return float(f"{value:.{digits}g}")


def _slips(fields: Mapping[str, FieldSpec]) -> dict[str, Any]:
    """Return what hasty hands would send: another unit, a digit too many, a new word."""
    found: dict[str, tuple[str, Any]] = {}
    for name, spec in fields.items():
        kind, value = _slip(spec)
        if kind and kind not in found:
            found[kind] = (name, value)
    return dict(found.values())


def _slip(spec: FieldSpec) -> tuple[str, Any]:
    """Return the kind of slip that a field can show, and the value; no kind if it can show none."""
    if not isinstance(spec, NumberField):
        return ("word", "something new") if spec.categories else ("", None)
    usual = _value(spec, _USUAL)
    for unit, conversion in spec.units.items():
        if conversion.scale != 1:
            foreign = (float(usual) - conversion.offset) / conversion.scale
            return "unit", {"value": _rounded(foreign), "unit": unit}
    _, highest = spec.limits or spec.range or (0.0, 0.0)
    return ("digit", _rounded(10 * highest)) if highest > 0 else ("", None)
