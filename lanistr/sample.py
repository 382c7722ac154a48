"""One case as its owner has it: up to four parts, in raw units and times."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from lanistr.modalities import Modality

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with the unit that its sender named, such as 101.2 degF."""

    value: float | str
    unit: str


Value = float | int | str | bool | Quantity | None
"""A raw value of a field: a number, a word, a number with its unit, or None for missing."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured at one time.

    Attributes:
        hours: time since the start of the case (for a stay: since admission), in hours.
        values: raw value by variable name; a variable that is missing or None was not measured.
    """

    hours: float
    values: Mapping[str, Value]


class Items(tuple[ItemT, ...]):
    """Notes or pictures of a case that still know where in their record they stood.

    A record may hold nulls and blanks between them; whatever is said of an item later must name the
    place that its sender knows. To everything else they are a tuple.

    Attributes:
        paths: of each item, such as `text[2]`.
    """

    paths: tuple[str, ...]

    def __new__(cls, items: Iterable[ItemT], paths: Iterable[str]) -> Self:
        """Pair items with their paths."""
        self = super().__new__(cls, items)
        self.paths = tuple(paths)
        assert len(self.paths) == len(self), "one path an item"
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.paths


def paths_of(items: Sequence[Any], name: str) -> Sequence[str]:
    """Return the path of each item; those that come from no record are counted."""
    if isinstance(items, Items):
        return items.paths
    return [name] if len(items) == 1 else [f"{name}[{i}]" for i in range(len(items))]


@dataclass(frozen=True, slots=True)
class Sample:
    """One case.

    Attributes:
        parts: only the modalities that are present, never an empty part:
            text: tuple of notes (str), oldest first, see also `Items`;
            image: tuple of encoded pictures (bytes: JPEG, PNG, WebP, TIFF or BMP), likewise;
            tabular: mapping of field name to raw `Value`;
            timeseries: tuple of `Measurements`, in any order.
        id: the owner's name for the case, or None.
        label: class name (classification, ordinal) or number (regression), None if unlabelled.
        group: cases of one group (a patient, a product) never stand in different splits.
        subgroups: value by column, by which evaluation is also reported.
    """

    parts: Mapping[Modality, Any]
    id: str | None = None
    label: str | float | None = None
    group: str | None = None
    subgroups: Mapping[str, str] = field(default_factory=dict)


def to_record(sample: Sample) -> dict[str, Any]:
    """Return the record that `lanistr.preprocess.read_record` makes the sample of.

    Pictures stay bytes; everything else is fit for JSON.
    """
    record: dict[str, Any] = {} if sample.id is None else {"id": sample.id}
    return record | {str(modality): _plain(part) for modality, part in sample.parts.items()}


def _plain(value: Any) -> Any:
    match value:
        case Quantity():
            return {"value": value.value, "unit": value.unit}
        case Measurements():
            return {"hours": value.hours, **_plain(value.values)}
        case tuple() | list():
            return [_plain(each) for each in value]
        case Mapping():
            return {name: _plain(each) for name, each in value.items()}
    return value
