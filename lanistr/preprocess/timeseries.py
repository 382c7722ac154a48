"""Time series: irregular measurements become a grid of steps, one row a case.

Columns of `values` (T, F): every numeric variable standardised; then every categorical variable
one-hot, all zero for a word that is not among its categories; then for every variable 1 where the
step was measured. An unmeasured step carries the last value forward; before the first measurement
stands the variable's normal value.

Source: the public in-hospital-mortality benchmarks on MIMIC (Harutyunyan et al. 2019).
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lanistr.batch import Arrays
from lanistr.errors import InputError, shorten, unknown_name
from lanistr.issues import Action, IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess.base import ArraySpec, ModalityPreprocessor
from lanistr.preprocess.tabular import Scale, cleaners_within, load_scales
from lanistr.preprocess.values import (
    SCALARS,
    CategoryCleaner,
    NumberCleaner,
    log_unknown,
    read_value,
    value_seen,
)
from lanistr.sample import Measurements, Value
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

Series = tuple[Measurements, ...]


_Way = tuple[int, Callable[[Value], Any], Callable[[Any], float] | None]
"""Of a variable: its column in the grid, what knows plain values, what makes numbers of them."""


_PARTS = 1e9
"""Of an hour, to which the edges of steps are rounded."""


class TimeseriesOptions(Schema):
    """Nothing to choose: grid, units and normal values belong to the task."""


class TimeseriesPreprocessor(ModalityPreprocessor[Series, TimeseriesOptions]):
    """Cleans, bins, carries forward, standardises."""

    modality = Modality.TIMESERIES

    def __init__(self, task: TaskSpec, scales: Mapping[str, Scale]) -> None:
        assert task.timeseries is not None
        self.spec = task.timeseries
        self.scales = scales
        self.cleaners = cleaners_within(scales, self.spec.variables)
        self._starts = [_first_hour(step, self.spec.step_hours) for step in range(self.spec.steps)]
        self._index = {name: i for i, name in enumerate(self.cleaners)}
        self._numeric = [n for n, each in self.cleaners.items() if isinstance(each, NumberCleaner)]
        self._codes = {
            name: {word: i for i, word in enumerate(clean.spec.categories or ())}
            for name, clean in self.cleaners.items()
            if isinstance(clean, CategoryCleaner)
        }
        # Looked up once: most of what a series takes is spent on going over its values.
        self._ways: dict[str, _Way] = {
            name: (self._index[name], clean.plain, self._then(name))
            for name, clean in self.cleaners.items()
        }

    @staticmethod
    def read(value: Any, task: TaskSpec, log: IssueLog) -> Series | None:
        """Take a list of objects, each with `hours` and the variables measured then."""
        assert task.timeseries is not None
        if value is None:
            return None
        shape = 'a list of objects like {"hours": 0.5, "variable": value}'
        if not isinstance(value, list | tuple):
            raise InputError(
                "not a time series",
                code="wrong_type",
                field="timeseries",
                seen=value,
                accepted=shape,
            )
        variables = task.timeseries.variables
        rows: list[Measurements] = []
        for i, raw in enumerate(value):
            path = f"timeseries[{i}]"
            if not isinstance(raw, Mapping):
                raise InputError(
                    "not a row", code="wrong_type", field=path, seen=raw, accepted=shape
                )
            hours = _hours(raw.get("hours"), path)
            rows.append(Measurements(hours, _values(raw, path, variables)))
        return tuple(rows) or None

    @classmethod
    def fit(cls, parts: Iterable[Series], task: TaskSpec, options: TimeseriesOptions) -> Self:
        """Learn means and standard deviations of cleaned values as measured, before any filling."""
        self = cls(task, {})
        observed = {name: array("d") for name in self._numeric}
        for part in parts:
            with suppress(InputError):  # a series that `apply` refuses teaches nothing
                grid = self._bin(part, IssueLog())
                for name, values in observed.items():
                    column = grid[:, self._index[name]]
                    values.extend(column[~np.isnan(column)].tolist())
        scales = {name: Scale.of(values) for name, values in observed.items()}
        for name, values in observed.items():
            clean = self.cleaners[name]
            if not values and isinstance(clean, NumberCleaner) and clean.spec.normal is not None:
                # Never measured in training: its normal value must read 0, not 170 of height.
                scales[name] = Scale(mean=self._scaled(clean, clean.spec.normal))
        return cls(task, scales)

    def apply(self, part: Series, log: IssueLog) -> tuple[Arrays, ...]:
        """Return the grid of one series."""
        grid = self._bin(part, log)
        measured = ~np.isnan(grid)
        if not measured.any():
            log.add(
                "empty",
                "timeseries",
                f"{len(part)} rows",
                Action.DROPPED,
                "at least one usable measurement within the horizon",
            )
            return ()
        filled = _carry_forward(grid, self._normal)
        column, mean, std = self._numbers
        numbers = (filled[:, column] - mean) / std
        column, code = self._words
        words = filled[:, column] == code  # an unknown word is none of them
        values = np.concatenate([numbers, words, measured], axis=1).astype(np.float32)
        return ({"values": values},)

    @cached_property
    def _numbers(self) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
        """Of every numeric variable: its column in the grid, mean, standard deviation."""
        scales = [self.scales[name] for name in self._numeric]
        return (
            [self._index[name] for name in self._numeric],
            np.array([each.mean for each in scales]),
            np.array([each.std for each in scales]),
        )

    @cached_property
    def _words(self) -> tuple[list[int], NDArray[np.int64]]:
        """Of every category: its variable's column in the grid, its code."""
        words = [
            (self._index[n], code) for n, codes in self._codes.items() for code in codes.values()
        ]
        return [column for column, _ in words], np.array([code for _, code in words], np.int64)

    @property
    def _by_kind(self) -> list[str]:
        """The variables in the order of their columns; their flags stand in the task's."""
        return [*self._numeric, *self._codes]

    @cached_property
    def _normal(self) -> NDArray[np.float64]:
        """Return (V,): what stands before a variable's first measurement, in its own unit."""
        normal = np.empty(len(self.cleaners))
        for name, i in self._index.items():
            clean = self.cleaners[name]
            if isinstance(clean, CategoryCleaner):
                normal[i] = self._codes[name][str(clean.spec.normal)]
            else:
                known = clean.spec.normal
                normal[i] = self.scales[name].mean if known is None else self._scaled(clean, known)
        return normal

    def _bin(self, part: Series, log: IssueLog) -> NDArray[np.float64]:
        """Return (T, V): the last measurement of each step, NaN where there is none.

        A numeric variable stands in its own unit, a categorical one as its code, an unknown word as
        the number of codes.
        """
        steps, width, starts = self.spec.steps, len(self.cleaners), self._starts
        cells = [math.nan] * (steps * width)
        since: dict[int, float] = {}  # cell -> the hours of its value
        earlier = 0
        for position in sorted(range(len(part)), key=lambda i: part[i].hours):
            hours = part[position].hours
            if not self._within(hours, position, log):
                continue
            start = width * (bisect_right(starts, hours) - 1)
            for name, raw in part[position].values.items():
                column, plain, then = self._ways[name]
                value = plain(raw)
                if value is None:  # missing, or there is something to say of it
                    value = self._clean(name, raw, f"timeseries[{position}].{name}", log)
                    if value is None:
                        continue
                elif then is not None:
                    value = then(value)
                cell = start + column
                before = since.get(cell)
                if before is not None and before != hours:
                    earlier += 1
                elif before is not None and cells[cell] != value:
                    log.add(
                        "repeated_time",
                        f"timeseries[{position}].{name}",
                        value_seen(raw),
                        Action.KEPT,
                        partial(_said_before, hours),
                    )
                since[cell], cells[cell] = hours, value
        if earlier:
            log.add(
                "several_in_step",
                "timeseries",
                f"{earlier} earlier values",
                Action.DROPPED,
                lambda: f"each variable's last value in {self.spec.step_hours:g} h",
            )
        grid = np.array(cells, np.float64).reshape(steps, width)
        self._add_sums(grid)
        return grid

    def _within(self, hours: float, position: int, log: IssueLog) -> bool:
        horizon = self.spec.horizon_hours
        if 0 <= hours <= horizon:
            return True
        code = "before_start" if hours < 0 else "beyond_horizon"
        path = f"timeseries[{position}].hours"
        log.add(code, path, hours, Action.DROPPED, lambda: f"hours from 0 to {horizon:g}")
        return False

    def _clean(self, name: str, raw: Value, path: str, log: IssueLog) -> float | None:
        clean = self.cleaners[name]
        if isinstance(clean, NumberCleaner):
            number = clean(raw, path, log)
            return None if number is None else self._scaled(clean, number)
        word = clean(raw, path, log)
        if word is None:
            return None
        codes = self._codes[name]
        code = codes.get(word, len(codes))
        if code == len(codes):
            log_unknown(log, path, raw, word, codes)
        return code

    def _then(self, name: str) -> Callable[[Any], float] | None:
        """Return what is left to do with a value that was plain."""
        clean = self.cleaners[name]
        if isinstance(clean, CategoryCleaner):
            return self._codes[name].__getitem__
        return partial(self._scaled, clean) if clean.spec.log else None

    @staticmethod
    def _scaled(clean: NumberCleaner, number: float) -> float:
        return float(np.log1p(number)) if clean.spec.log else number

    def _add_sums(self, grid: NDArray[np.float64]) -> None:
        """Fill a sum that was not charted where all its parts were, within the step."""
        for name, codes in self._codes.items():
            spec = self.cleaners[name].spec
            parts = getattr(spec, "sum_of", ())
            if not parts:
                continue
            words = [list(self._codes[part]) for part in parts]
            block = grid[:, [self._index[part] for part in parts]]
            column = self._index[name]
            known = (block < [len(each) for each in words]).all(axis=1)  # nor is NaN less
            for step in np.flatnonzero(known & np.isnan(grid[:, column])):
                total = sum(
                    int(each[int(code)]) for each, code in zip(words, block[step], strict=True)
                )
                grid[step, column] = codes[str(total)]

    def dimensions(self) -> Mapping[str, Any]:
        """Columns, steps, each variable's columns, and the one that says where it was measured."""
        widths = [len(self._codes.get(name, [name])) for name in self._by_kind]
        starts = np.cumsum([0, *widths])
        groups = tuple(
            tuple(range(int(start), int(start) + width))
            for start, width in zip(starts, widths, strict=False)
        )
        return {
            "features": int(starts[-1]) + len(self.cleaners),
            "steps": self.spec.steps,
            "groups": groups,
            "measured": tuple(int(starts[-1]) + self._index[name] for name in self._by_kind),
        }

    def layout(self) -> Mapping[str, ArraySpec]:
        """One grid."""
        sizes = self.dimensions()
        return {"values": ArraySpec("float32", (sizes["steps"], sizes["features"]))}

    def describe(self) -> dict[str, Any]:
        """Tell steps, what they start from, sums, and columns."""
        # A measurement at the horizon itself belongs to the last step.
        edges = [*self._starts, math.nextafter(self.spec.horizon_hours, math.inf)]
        variables = self.spec.variables
        numbers = [
            {"of": name, "missing": 0, "log": getattr(variables[name], "log", False)}
            | self.scales[name].model_dump()
            for name in self._numeric
        ]
        words = [
            {"of": name, "missing": 0, "codes": {word: 1}, "other": 0}
            for name, codes in self._codes.items()
            for word in codes
        ]
        measured = [{"of": name, "missing": 0, "codes": {}, "other": 1} for name in variables]
        sums = {name: list(getattr(each, "sum_of", ())) for name, each in variables.items()}
        return {
            "steps": [list(each) for each in pairwise(edges)],
            "start": {n: each.normal for n, each in variables.items() if each.normal is not None},
            "sums": {name: parts for name, parts in sums.items() if parts},
            "values": [
                each | {"carried": carried}
                for group, carried in ((numbers, True), (words, True), (measured, False))
                for each in group
            ],
        }

    def save(self, folder: Path) -> dict[str, Any]:
        """Keep the scales by variable."""
        return {"scales": {name: scale.model_dump() for name, scale in self.scales.items()}}

    @classmethod
    def load(cls, state: Mapping[str, Any], task: TaskSpec, folder: Path) -> Self:
        """Restore the scales."""
        scales = load_scales(state["scales"], folder, cls.modality, "scales")
        self = cls(task, scales)
        if set(scales) != set(self._numeric):
            raise ValueError("the scales do not match the task's numeric variables")
        return self


def _first_hour(step: int, step_hours: float) -> float:
    """Return the hour from which on a value is of a step.

    That of a fraction is a few millionths of a second early: computers round it one way or another,
    and what is measured at 0.3 hours, or at 18 minutes, must not be of the step before.
    """
    hour = step * step_hours
    if step_hours % 1 == 0:
        return hour
    return max(math.floor(hour * _PARTS - 0.5) / _PARTS, 0.0)


def _said_before(hours: float) -> str:
    return f"replaces the earlier row at hour {hours:g}"


def _hours(raw: Any, path: str) -> float:
    """Read the time of a row."""
    accepted = "a number of hours since the start"
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise InputError(
            "the row has no time" if raw is None else "the time is not a number",
            code="wrong_type",
            field=f"{path}.hours",
            seen=raw,
            accepted=accepted,
        )
    try:
        hours = float(raw)
    except OverflowError:
        hours = math.inf
    if not math.isfinite(hours):
        raise InputError(
            "the time is not finite",
            code="not_finite",
            field=f"{path}.hours",
            seen=str(raw),
            accepted=accepted,
        )
    return hours


def _values(raw: Mapping[str, Any], path: str, known: Collection[str]) -> dict[str, Value]:
    """Read the variables of a row."""
    values: dict[str, Value] = {}
    for name, cell in raw.items():
        if name == "hours":
            continue
        if name not in known:
            raise InputError(
                "unknown variable",
                code="unknown_field",
                field=f"{path}.{name}",
                seen=shorten(name),
                accepted=unknown_name(name, ("hours", *known)),
            )
        value = cell if type(cell) in SCALARS else read_value(cell, f"{path}.{name}")
        if value is not None and value != "":
            values[name] = value
    return values


def _carry_forward(grid: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill (T, V) downwards; the steps before a column's first value take its normal (V,)."""
    rows = np.where(np.isnan(grid), -1, np.arange(len(grid))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    carried = np.take_along_axis(grid, np.maximum(last, 0), axis=0)
    return np.where(last < 0, normal, carried)
