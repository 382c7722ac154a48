"""Table rows: numbers become standardised columns, words become codes, one row a case."""

import math
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from lanistr.batch import Arrays
from lanistr.errors import BundleError, InputError, unknown_name
from lanistr.fields import FieldSpec, NumberField
from lanistr.issues import Action, IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess.base import STATE_FILE, ArraySpec, ModalityPreprocessor
from lanistr.preprocess.values import (
    CategoryCleaner,
    NumberCleaner,
    cleaner,
    log_unknown,
    read_value,
)
from lanistr.sample import Value
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

Row = Mapping[str, Value]

MISSING, UNKNOWN, FIRST_KNOWN = 0, 1, 2
"""Codes of a categorical column: what is absent, what was never seen, then the known words."""


_ROUNDING = 1e-12
"""Relative difference, to the largest of some values, up to which they count as equal."""

_FARTHEST = 1e6
"""Standard deviations beyond which a value says nothing, and would spoil what is said of the rest:
of n values that a scale is fitted to, none is farther than the root of n."""


_LARGEST_LOG = 700.0
"""Of what float64 holds."""


class TabularOptions(Schema):
    """How table rows are encoded.

    Attributes:
        min_count: a learned category must occur so often in training to get a code of its own.
    """

    min_count: int = Field(default=2, ge=1)


class Scale(Schema):
    """Mean and standard deviation of a column's cleaned, observed training values."""

    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Fit; a column never seen, or constant, is only shifted."""
        if not values:
            return cls()
        mean, std = float(np.mean(values)), float(np.std(values))
        # Rounding leaves a tiny deviation to equal values; divided by it, the next would explode.
        constant = not std > _ROUNDING * max(abs(min(values)), abs(max(values)))
        return cls(mean=mean, std=1.0 if constant else std)

    def __call__(self, value: float) -> float:
        """Standardise one value."""
        return (value - self.mean) / self.std

    def reach(self, *, log: bool) -> tuple[float, float]:
        """Return between what values, before the logarithm if any, a model can take them."""
        low, high = (self.mean + sign * _FARTHEST * self.std for sign in (-1, 1))
        if not log:
            return low, high
        return math.expm1(low), math.expm1(high) if high < _LARGEST_LOG else math.inf


def load_scales(state: Mapping[str, Any], folder: Path, *within: str) -> dict[str, Scale]:
    """Restore scales by name.

    Args:
        state: of each, as it was saved.
        folder: where `preprocessing.json` stands.
        within: what leads to `state` there.

    Raises:
        BundleError: a scale is damaged.
    """
    source = str(folder / STATE_FILE)
    return {
        name: Scale.parse(each, BundleError, source, within=(*within, name))
        for name, each in state.items()
    }


def cleaners_within(
    scales: Mapping[str, Scale], fields: Mapping[str, FieldSpec]
) -> dict[str, NumberCleaner | CategoryCleaner]:
    """Return the cleaner of each field, which leaves out what is too far from what was learned."""
    return {
        name: NumberCleaner(spec, scales[name].reach(log=spec.log))
        if isinstance(spec, NumberField) and name in scales
        else cleaner(spec)
        for name, spec in fields.items()
    }


class TabularPreprocessor(ModalityPreprocessor[Row, TabularOptions]):
    """Fields in the order of the task file.

    `numbers` holds every numeric field standardised (0, the training mean, where missing), then
    for each of them 1 where it was missing; `categories` holds one code per categorical field.
    """

    modality = Modality.TABULAR

    def __init__(
        self, task: TaskSpec, scales: Mapping[str, Scale], words: Mapping[str, list[str]]
    ) -> None:
        assert task.tabular is not None
        cleaners = cleaners_within(scales, task.tabular.fields)
        self.numbers = {n: c for n, c in cleaners.items() if isinstance(c, NumberCleaner)}
        self.categories = {n: c for n, c in cleaners.items() if isinstance(c, CategoryCleaner)}
        self.scales = scales
        self.words = words
        self._codes = {name: self._codes_of(name, known) for name, known in words.items()}

    @staticmethod
    def read(value: Any, task: TaskSpec, log: IssueLog) -> Row | None:
        """Take an object of field names and values."""
        assert task.tabular is not None
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise InputError(
                "not a table row",
                code="wrong_type",
                field="tabular",
                seen=value,
                accepted="an object of field names and values",
            )
        row: dict[str, Value] = {}
        for name, raw in value.items():
            path = f"tabular.{name}"
            if name not in task.tabular.fields:
                raise InputError(
                    "unknown field",
                    code="unknown_field",
                    field=path,
                    seen=name,
                    accepted=unknown_name(name, task.tabular.fields),
                )
            cell = read_value(raw, path)
            if cell is not None and cell != "":
                row[name] = cell
        return row or None

    @classmethod
    def fit(cls, parts: Iterable[Row], task: TaskSpec, options: TabularOptions) -> Self:
        """Learn means, standard deviations and categories from cleaned, observed values."""
        self = cls(task, {}, {})
        observed = {name: array("d") for name in self.numbers}
        seen: dict[str, Counter[str]] = {name: Counter() for name in self.categories}
        for part in parts:
            with suppress(InputError):  # a row that `apply` refuses teaches nothing
                # What is dropped here is reported when the rows are applied.
                numbers, known = self._clean(part, IssueLog())
                for name, number in numbers.items():
                    observed[name].append(number)
                for name, word in known.items():
                    seen[name][word] += 1
        words: dict[str, list[str]] = {}
        for name, clean in self.categories.items():
            if clean.spec.categories is not None:
                words[name] = list(clean.spec.categories)
            elif clean.spec.buckets is None:
                common = [w for w, n in seen[name].items() if n >= options.min_count]
                words[name] = sorted(common)
        return cls(task, {n: Scale.of(v) for n, v in observed.items()}, words)

    def apply(self, part: Row, log: IssueLog) -> tuple[Arrays, ...]:
        """Clean, standardise and encode one row."""
        values = np.zeros(len(self.numbers), dtype=np.float32)
        missing = np.ones(len(self.numbers), dtype=np.float32)
        codes = np.full(len(self.categories), MISSING, dtype=np.int64)
        numbers, words = self._clean(part, log)
        for i, name in enumerate(self.numbers):
            if name in numbers:
                values[i], missing[i] = self.scales[name](numbers[name]), 0.0
        for i, name in enumerate(self.categories):
            if name in words:
                codes[i] = self._code(name, words[name], part[name], f"tabular.{name}", log)
        if missing.all() and (codes == MISSING).all():
            log.add("empty", "tabular", dict(part), Action.DROPPED, "at least one usable value")
            return ()
        return ({"numbers": np.concatenate([values, missing]), "categories": codes},)

    def _clean(self, part: Row, log: IssueLog) -> tuple[dict[str, float], dict[str, str]]:
        """Return the row's usable numbers and words, by field."""
        numbers: dict[str, float] = {}
        for name, clean in self.numbers.items():
            number = clean(part.get(name), f"tabular.{name}", log)
            if number is not None:
                numbers[name] = math.log1p(number) if clean.spec.log else number
        words: dict[str, str] = {}
        for name, spelling in self.categories.items():
            word = spelling(part.get(name), f"tabular.{name}", log)
            if word is not None:
                words[name] = word
        return numbers, words

    def _codes_of(self, name: str, known: Iterable[str]) -> dict[str, int]:
        """Return codes by what becomes of a word: models that learned "True" or "1.0" know it."""
        codes: dict[str, int] = {}
        for code, word in enumerate(known, FIRST_KNOWN):
            codes.setdefault(self.categories[name](word, "", IssueLog()) or word, code)
        return codes

    def _code(self, name: str, word: str, raw: Value, path: str, log: IssueLog) -> int:
        buckets = self.categories[name].spec.buckets
        if buckets is not None:
            return FIRST_KNOWN + zlib.crc32(word.encode(errors="surrogatepass")) % buckets
        code = self._codes[name].get(word, UNKNOWN)
        if code == UNKNOWN:
            log_unknown(log, path, raw, word, self.words[name])
        return code

    def dimensions(self) -> Mapping[str, Any]:
        """Count numeric columns, indicators included, and the codes of each categorical one."""
        sizes = [
            FIRST_KNOWN + (clean.spec.buckets or len(self.words.get(name, ())))
            for name, clean in self.categories.items()
        ]
        return {"numbers": 2 * len(self.numbers), "categories": tuple(sizes)}

    def layout(self) -> Mapping[str, ArraySpec]:
        """One row of numbers, one of codes."""
        sizes = self.dimensions()
        codes = sizes["categories"]
        return {
            "numbers": ArraySpec("float32", (sizes["numbers"],)),
            "categories": ArraySpec("int64", (len(codes),), max(codes, default=1)),
        }

    def describe(self) -> dict[str, Any]:
        """Columns of both arrays."""
        numbers = [
            {"of": name, "missing": 0, "log": clean.spec.log, **self.scales[name].model_dump()}
            for name, clean in self.numbers.items()
        ]
        missing = [{"of": name, "missing": 1, "codes": {}, "other": 0} for name in self.numbers]
        categories = [
            {"of": name, "missing": MISSING}
            | (
                {"codes": self._codes[name], "other": UNKNOWN}
                if clean.spec.buckets is None
                else {"buckets": clean.spec.buckets, "first": FIRST_KNOWN}
            )
            for name, clean in self.categories.items()
        ]
        return {"numbers": numbers + missing, "categories": categories}

    def save(self, folder: Path) -> dict[str, Any]:
        """Keep scales and words by field."""
        scales = {name: scale.model_dump() for name, scale in self.scales.items()}
        return {"numbers": scales, "categories": dict(self.words)}

    @classmethod
    def load(cls, state: Mapping[str, Any], task: TaskSpec, folder: Path) -> Self:
        """Restore scales and words."""
        scales = load_scales(state["numbers"], folder, cls.modality, "numbers")
        self = cls(task, scales, state["categories"])
        coded = {n for n, c in self.categories.items() if c.spec.buckets is None}
        if set(scales) != set(self.numbers) or set(self.words) != coded:
            raise ValueError("the scales and categories do not match the task's fields")
        return self
