"""Whether what comes in still looks like what the model was trained on: field by field."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lanistr.batch import Features
from lanistr.modalities import Modality
from lanistr.preprocess import Preprocessor
from service.metrics import TaskMetrics


class Drift:
    """Notes the fields of cases.

    Args:
        preprocessor: whose arrays are looked at; it says itself what stands in which column.
        metrics: where it is noted.
    """

    def __init__(self, preprocessor: Preprocessor, metrics: TaskMetrics) -> None:
        self._metrics = metrics
        self._arrays = {
            (Modality(part), array): _Fields(part, columns)
            for part, arrays in preprocessor.describe().items()
            for array, columns in arrays.items()
            if isinstance(columns, list) and all(isinstance(each, Mapping) for each in columns)
        }

    def note(self, features: Features) -> None:
        """Note the fields of every part that a case brings; of a series, the mean of each."""
        for name, deviation in self._deviations(features):
            self._metrics.field(name, deviation)

    def farthest(self, features: Features) -> tuple[str, float]:
        """Return the number farthest from its training mean, and its deviation; "" and 0: none."""
        found = [
            (n, d) for n, d in self._deviations(features) if d is not None and math.isfinite(d)
        ]
        return max(found, key=lambda each: abs(each[1]), default=("", 0.0))

    def _deviations(self, features: Features) -> Iterator[tuple[str, float | None]]:
        for (modality, array), fields in self._arrays.items():
            for row in features.rows.get(modality, ()):
                yield from fields.of(np.atleast_2d(row[array]))


class _Fields:
    """The fields that stand in an array (T, columns), whose rows are the steps of a series.

    By what `Preprocessor.describe` says of columns, one with a mean is a standardised number, one
    without codes a flag that shows where its field has a value, any other a category, which is its
    own flag where it has no other.
    """

    def __init__(self, part: str, columns: Sequence[Mapping[str, Any]]) -> None:
        numbers: dict[str, int] = {}
        flags: dict[str, int] = {}
        for i, column in enumerate(columns):
            name = column["of"]
            if "mean" in column:
                numbers[name] = i
            elif not column.get("codes") or name not in flags:
                flags[name] = i
        self._names = [f"{part}.{name}" for name in flags]
        self._flags = list(flags.values())
        self._missing = np.array([columns[i]["missing"] for i in self._flags])
        self._is_number = [name in numbers for name in flags]
        # A category is looked at where its flag is, and then passed over.
        self._values = [numbers.get(name, i) for name, i in flags.items()]

    def of(self, array: np.ndarray[Any, Any]) -> list[tuple[str, float | None]]:
        """Return each field with its mean deviation: NaN if it is no number, None if missing."""
        seen, values = array[:, self._flags] != self._missing, array[:, self._values]
        if len(array) == 1:  # most are not series, and this is faster
            counts, means = seen[0], values[0]
        else:
            counts = seen.sum(axis=0)
            means = (values * seen).sum(axis=0) / np.maximum(counts, 1)
        return [
            (name, (mean if number else float("nan")) if count else None)
            for name, number, count, mean in zip(
                self._names, self._is_number, counts.tolist(), means.tolist(), strict=True
            )
        ]
