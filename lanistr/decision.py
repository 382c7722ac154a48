"""Which class is predicted: the most likely one, or the one that suits the task's metric.

Where most cases are of one class, it is the most likely one of nearly all cases. Metrics to which
each class counts the same, or an error as much as it is far off, are then served by predicting
others earlier. Probabilities stay what they are.

Source: thresholds chosen for F1, Lipton et al. 2014.
"""

from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, model_validator

from lanistr.schema import Schema
from lanistr.tasks import LabelSpec

Floats = NDArray[np.floating[Any]]

_TOLD = 12
"""Classes up to which weights or cuts are told one by one."""


class Decision(Schema):
    """How a class is predicted; without weights and cuts it is the most likely one.

    Attributes:
        weights: of the classes: predicted is the one whose probability times its weight is largest.
        cuts: for ordinal labels, ascending expected values: predicted is the first class, or as
            many further as there are cuts that the expected value reaches.
    """

    weights: tuple[PositiveFloat, ...] = ()
    cuts: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights and self.cuts:
            raise ValueError("a class is predicted by weights or by cuts, not by both")
        if any(before > after for before, after in pairwise(self.cuts)):
            raise ValueError("cuts must be in ascending order")
        return self

    @property
    def likeliest(self) -> bool:
        """Whether the most likely class is predicted."""
        return not (self.weights or self.cuts)

    def fits(self, label: LabelSpec) -> bool:
        """Whether there are as many weights, or cuts, as the label's classes need."""
        classes, ordinal = len(label.classes), label.kind == "ordinal"
        return len(self.weights) in (0, classes) and (
            not self.cuts or (ordinal and len(self.cuts) == classes - 1)
        )

    def predicted(self, p: Floats, label: LabelSpec) -> NDArray[np.int64]:
        """Return the predicted class index (N,) for probabilities (N, C)."""
        if self.cuts:
            expected = p @ np.asarray(label.values)
            return np.asarray(np.searchsorted(self.cuts, expected, side="right"), np.int64)
        weighted = p * np.asarray(self.weights) if self.weights else p
        return np.asarray(weighted.argmax(axis=1), np.int64)

    def in_words(self, label: LabelSpec) -> str:
        """Say which class is predicted."""
        if self.likeliest:
            return "the most likely class"
        if self.cuts:
            how, between = "a class by the expected value", "from "
            told = zip(label.classes[1:], self.cuts, strict=True)
        else:
            how, between = "the class whose probability times its weight is largest", ""
            told = zip(label.classes, self.weights, strict=True)
        if len(label.classes) > _TOLD:
            return f"{how} (in `calibration.json`)"
        return f"{how}: " + ", ".join(f"{name} {between}{number:.6g}" for name, number in told)


LIKELIEST = Decision()
