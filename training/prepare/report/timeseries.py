"""Which variables series bring, in how many steps, and whether one looks past the horizon."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.issues import IssueLog
from lanistr.preprocess.base import ModalityPreprocessor
from lanistr.preprocess.timeseries import TimeseriesPreprocessor
from lanistr.preprocess.values import NumberCleaner
from training.prepare.report.fields import Fields
from training.prepare.report.part import Check, PartSurvey, Records

_WAITING = 64
_TRIED = 200
"""Series with rows past the horizon that are prepared once more without them."""


class TimeseriesSurvey(PartSurvey):
    """Counts a few dozen grids at a time."""

    alike = "leak"
    items = "series"

    def __init__(self, preprocessor: ModalityPreprocessor[Any, Any]) -> None:
        assert isinstance(preprocessor, TimeseriesPreprocessor)
        self._preprocessor = preprocessor
        cleaners, sizes = preprocessor.cleaners, preprocessor.dimensions()
        self._fields = Fields({n: c.spec for n, c in cleaners.items()}, preprocessor.scales)
        # Columns as `lanistr.preprocess.timeseries` has them: numbers, words, then what was
        # measured, in the task's order.
        self._shape = (sizes["steps"], sizes["features"])
        names = [*self._fields.numbers, *self._fields.categories]
        self._columns = dict(zip(names, sizes["groups"], strict=True))
        first = sizes["features"] - len(cleaners)
        self._measured = {name: first + i for i, name in enumerate(cleaners)}
        self._words = {
            name: clean.spec.categories or ()
            for name, clean in cleaners.items()
            if not isinstance(clean, NumberCleaner)
        }
        self._order = [self._measured[name] for name in names]
        self._numeric = [self._columns[name][0] for name in self._fields.numbers]
        self.signals = [
            f"{what} {name}"
            for what, some in (
                ("last", self._fields.numbers),
                ("mean", self._fields.numbers),
                ("steps with", names),
            )
            for name in some
        ]
        self._steps = dict.fromkeys(names, 0)
        self._series = self._late_rows = self._late_series = self._tried = 0
        self._seen_ahead: list[str] = []
        self._waiting: list[tuple[int, NDArray[np.float32]]] = []

    def add(self, part: Any, records: Records, case: str, split: int) -> None:
        """Take the grid; where there are rows past the horizon, see that they left no trace."""
        (record,) = records
        self._series += 1
        self._waiting.append((split, record["values"].reshape(self._shape)))
        if len(self._waiting) >= _WAITING:
            self._flush()
        horizon = self._preprocessor.spec.horizon_hours
        late = sum(row.hours > horizon for row in part)
        if late:
            self._late_rows += late
            self._late_series += 1
            if self._tried < _TRIED:
                self._tried += 1
                cut = tuple(row for row in part if row.hours <= horizon)
                again = self._preprocessor.apply(cut, IssueLog())
                if not again or not np.array_equal(again[0]["values"].ravel(), record["values"]):
                    self._seen_ahead.append(case)

    def signal(self, records: Records) -> NDArray[np.float64]:
        """Return each number's last value and mean, and the steps with each variable."""
        (record,) = records
        grid = record["values"].reshape(self._shape)
        measured = grid[:, self._order] > 0
        counts = measured.sum(axis=0).astype(np.float64)
        numbers = len(self._numeric)
        values, there = grid[:, self._numeric].astype(np.float64), measured[:, :numbers]
        with np.errstate(invalid="ignore"):
            mean = np.where(there, values, 0).sum(axis=0) / counts[:numbers]
        # Values are carried forward, so that the last step has the last value.
        last = np.where(there.any(axis=0), values[-1], np.nan)
        return np.concatenate([last, mean, counts])

    def contents(self, part: Any, records: Records) -> Sequence[bytes]:
        """Compare what is stored."""
        return [record["values"].tobytes() for record in records]

    def report(self) -> dict[str, Any]:
        """Return the variables, with the share of all steps in which each was measured."""
        self._flush()
        cells = self._series * self._shape[0]
        fields = self._fields.report()
        for name, found in fields.items():
            found["steps"] = round(self._steps[name] / cells, 4) if cells else None
        return {"steps": self._shape[0], "fields": fields}

    def checks(self) -> Sequence[Check]:
        """Return whether anything after the horizon is left."""
        horizon = self._preprocessor.spec.horizon_hours
        name = f"Series that use data after hour {horizon:g}"
        if self._seen_ahead:
            said = "series change when their rows after the horizon are removed"
            return [Check(name, "leak", len(self._seen_ahead), said, self._seen_ahead[:5])]
        if not self._late_series:
            return [Check(name, "ok", 0, f"no row of {self._series:,} series is later")]
        said = (
            f"{self._late_rows:,} later rows of {self._late_series:,} series were dropped; "
            f"{self._tried:,} of these series were prepared again without them and came out the "
            "same"
        )
        return [Check(name, "ok", 0, said)]

    def _flush(self) -> None:
        if not self._waiting:
            return
        splits = np.array([split for split, _ in self._waiting])
        grids = np.stack([grid for _, grid in self._waiting])
        self._waiting.clear()
        measured: dict[str, NDArray[np.bool_]] = {
            name: grids[:, :, column] > 0 for name, column in self._measured.items()
        }
        self._fields.add_cases(splits, {n: np.any(each, axis=1) for n, each in measured.items()})
        for name, there in measured.items():
            self._steps[name] += int(np.count_nonzero(there))
            columns = self._columns[name]
            if name not in self._words:
                self._fields.add_numbers(name, grids[:, :, columns[0]][there])
                continue
            counts = grids[:, :, list(columns)][there].sum(axis=0)
            unknown = np.count_nonzero(there) - counts.sum()
            words = ("(unknown)", *self._words[name])
            self._fields.add_words(name, words, np.array([unknown, *counts]))
