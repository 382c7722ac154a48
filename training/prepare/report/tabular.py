"""Which fields table rows bring, and which values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.preprocess.base import ModalityPreprocessor
from lanistr.preprocess.tabular import FIRST_KNOWN, MISSING, UNKNOWN, TabularPreprocessor
from training.prepare.report.fields import Fields
from training.prepare.report.part import PartSurvey, Records

_WAITING = 512


class TabularSurvey(PartSurvey):
    """Counts a few hundred rows at a time."""

    alike = None  # rows of few fields repeat each other
    items = "rows"

    def __init__(self, preprocessor: ModalityPreprocessor[Any, Any]) -> None:
        assert isinstance(preprocessor, TabularPreprocessor)
        specs = {n: c.spec for n, c in (preprocessor.numbers | preprocessor.categories).items()}
        self._fields = Fields(specs, preprocessor.scales)
        self._words = {
            name: (
                "(unknown)",
                *preprocessor.words.get(
                    name, [f"bucket {i}" for i in range(clean.spec.buckets or 0)]
                ),
            )
            for name, clean in preprocessor.categories.items()
        }
        self.signals = [*preprocessor.numbers, *(f"{name}=" for name in preprocessor.categories)]
        self._waiting: list[tuple[int, NDArray[Any], NDArray[Any]]] = []

    def add(self, part: Any, records: Records, case: str, split: int) -> None:
        """Take the row."""
        (record,) = records
        self._waiting.append((split, record["numbers"], record["categories"]))
        if len(self._waiting) >= _WAITING:
            self._flush()

    def signal(self, records: Records) -> NDArray[np.float64]:
        """Return numbers and codes."""
        (record,) = records
        values, missing = np.split(record["numbers"].astype(np.float64), 2)
        codes = record["categories"].astype(np.float64)
        return np.concatenate(
            [np.where(missing > 0, np.nan, values), np.where(codes == MISSING, np.nan, codes)]
        )

    def contents(self, part: Any, records: Records) -> Sequence[bytes]:
        """Compare what is stored."""
        return [r["numbers"].tobytes() + r["categories"].tobytes() for r in records]

    def report(self) -> dict[str, Any]:
        """Return the fields."""
        self._flush()
        return {"fields": self._fields.report()}

    def _flush(self) -> None:
        if not self._waiting:
            return
        splits = np.array([split for split, _, _ in self._waiting])
        values, missing = np.split(np.stack([each for _, each, _ in self._waiting]), 2, axis=1)
        codes = np.stack([each for _, _, each in self._waiting])
        self._waiting.clear()
        names, words = self._fields.numbers, self._fields.categories
        there = {name: missing[:, i] == 0 for i, name in enumerate(names)}
        there |= {name: codes[:, i] != MISSING for i, name in enumerate(words)}
        self._fields.add_cases(splits, there)
        for i, name in enumerate(names):
            self._fields.add_numbers(name, values[there[name], i])
        for i, name in enumerate(words):
            counts = np.bincount(codes[:, i], minlength=FIRST_KNOWN + len(self._words[name]) - 1)
            self._fields.add_words(name, self._words[name], counts[UNKNOWN:])
