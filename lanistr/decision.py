"""Which class a model names: the most likely one, or the one that suits the task's metric.

Where most cases are of one class, it is the most likely one of nearly all cases. Metrics to which
each class counts the same, or an error as much as it is far off, are then served by naming others
earlier. Probabilities stay what they are.

Source: thresholds chosen for F1, Lipton et al. 2014.
"""

from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator

from lanistr.schema import Schema
from lanistr.tasks import LabelSpec

Floats = NDArray[np.floating[Any]]


class Decision(Schema):
    """How a class is named; without weights and cuts the most likely one is.

    Attributes:
        weights: of the classes: the one whose probability times its weight is largest is named.
        cuts: for ordinal labels, ascending expected values: the class named is the first one, or
            as many further as there are cuts that the expected value reaches.
    """

    weights: tuple[PositiveFloat, ...] = ()
    cuts: tuple[float, ...] = Field(default=())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights and self.cuts:
            raise ValueError("a class is named by weights or by cuts, not by both")
        if any(before > after for before, after in pairwise(self.cuts)):
            raise ValueError("cuts must be in ascending order")
        return self

    @property
    def likeliest(self) -> bool:
        """Whether the most likely class is named."""
        return not (self.weights or self.cuts)

    def fits(self, label: LabelSpec) -> bool:
        """Whether there are as many weights, or cuts, as the label's classes need."""
        classes, ordinal = len(label.classes), label.kind == "ordinal"
        return len(self.weights) in (0, classes) and (
            not self.cuts or (ordinal and len(self.cuts) == classes - 1)
        )

    def in_words(self, label: LabelSpec) -> str:
        """Say which class is named."""
        if self.cuts:
            cuts = zip(label.classes[1:], self.cuts, strict=True)
            said = ", ".join(f"{name} from {cut:.3g}" for name, cut in cuts)
            return f"a class by the expected value: {said}"
        if self.weights:
            weights = zip(label.classes, self.weights, strict=True)
            said = ", ".join(f"{name} {weight:.3g}" for name, weight in weights)
            return f"the class whose probability times its weight is largest: {said}"
        return "the most likely class"

    def named(self, p: Floats, label: LabelSpec) -> NDArray[np.int64]:
        """Return the class index (N,) that is named for probabilities (N, C)."""
        if self.cuts:
            expected = p @ np.asarray(label.values)
            return np.asarray(np.searchsorted(self.cuts, expected, side="right"), np.int64)
        weighted = p * np.asarray(self.weights) if self.weights else p
        return np.asarray(weighted.argmax(axis=1), np.int64)


LIKELIEST = Decision()
