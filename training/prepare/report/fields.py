"""Fields of a table row or variables of a series: how many cases bring each, and which values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.fields import CategoryField, FieldSpec, NumberField
from lanistr.preprocess.tabular import Scale
from training.data.store import SPLITS
from training.prepare.report.summaries import Numbers, Words, significant


class Fields:
    """Counts, by field, cases by split and values.

    Values are those that the model gets: cleaned, in the field's own unit, brought back from what
    is stored.
    """

    def __init__(self, specs: Mapping[str, FieldSpec], scales: Mapping[str, Scale]) -> None:
        self.numbers = [n for n, spec in specs.items() if isinstance(spec, NumberField)]
        self.categories = [n for n, spec in specs.items() if isinstance(spec, CategoryField)]
        self._specs, self._scales = specs, scales
        self._values = {name: Numbers() for name in self.numbers}
        self._words = {name: Words() for name in self.categories}
        self._cases = {name: np.zeros(len(SPLITS), dtype=np.int64) for name in specs}
        self._parts = np.zeros(len(SPLITS), dtype=np.int64)

    def add_cases(self, splits: NDArray[np.int64], brought: Mapping[str, NDArray[Any]]) -> None:
        """Take the splits (N,) of cases, and which of them bring each field, (N,)."""
        self._parts += np.bincount(splits, minlength=len(SPLITS))
        for name, there in brought.items():
            self._cases[name] += np.bincount(splits[there > 0], minlength=len(SPLITS))

    def add_numbers(self, name: str, standardised: NDArray[Any]) -> None:
        """Take values as they are stored."""
        scale = self._scales[name]
        values = standardised.astype(np.float64) * scale.std + scale.mean
        spec = self._specs[name]
        assert isinstance(spec, NumberField)
        # What lies beyond float32's last digit of the standardised value is noise.
        largest = np.abs(standardised).max(initial=1).astype(np.float32)
        digits = -math.ceil(math.log10(scale.std * float(np.spacing(largest))))
        values = np.round(np.expm1(values) if spec.log else values, digits)
        self._values[name].extend(values + 0.0)  # which makes 0 of -0

    def add_words(self, name: str, words: Sequence[str], counts: NDArray[Any]) -> None:
        """Take how often each word came."""
        for word, count in zip(words, counts.tolist(), strict=True):
            if count:
                self._words[name].add(word, int(count))

    def report(self) -> dict[str, Any]:
        """Return, by field, unit, cases by split, the share of parts that lack it, and values."""
        return {
            name: {
                "kind": spec.kind,
                "unit": getattr(spec, "unit", ""),
                "range": getattr(spec, "range", None),
                "cases": dict(zip(SPLITS, self._cases[name].tolist(), strict=True)),
                "missing": {
                    split: round(1 - have / all_, 4) if all_ else None
                    for split, have, all_ in zip(
                        SPLITS, self._cases[name].tolist(), self._parts.tolist(), strict=True
                    )
                },
                **self._summary(name),
            }
            for name, spec in self._specs.items()
        }

    def _summary(self, name: str) -> dict[str, Any]:
        found = (self._values | self._words)[name].summary()
        ends = ("min", "max") if getattr(self._specs[name], "log", False) and found["count"] else ()
        # What comes back from a logarithm has six digits that are sure.
        return found | {end: significant(found[end]) for end in ends}
