"""Labels of the cases, counted, and whether they are enough to learn from and to judge by."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lanistr.tasks import LabelSpec
from training.prepare.report.part import Check
from training.prepare.report.summaries import Numbers

_MOST_LOST = 3e-4
"""Of the labels' range, that rounding may take without a word."""

_FEW = 10
"""Fewer labelled cases of a class, in one split, are warned of."""

_SHOWN = 10
"""Such splits and classes that the warning names."""


class Labels:
    """Labels of some cases.

    Attributes:
        rounded: most that a number is moved by being kept as float32; 0 for classes.
    """

    def __init__(self, label: LabelSpec) -> None:
        self._label = label
        self._counts: Counter[int] = Counter()
        self._numbers = Numbers() if label.kind == "regression" else None
        self.cases = self._labelled = 0
        self.rounded = 0.0

    def add(self, label: float) -> None:
        """Take the label of one case; NaN for none."""
        self.cases += 1
        if np.isnan(label):
            return
        self._labelled += 1
        if self._numbers is not None:
            self._numbers.extend(np.array([label]))
            self.rounded = max(self.rounded, abs(label - float(np.float32(label))))
        else:
            self._counts[int(label)] += 1

    def report(self) -> dict[str, Any]:
        """Return the counts and shares of the classes, or a summary of the numbers."""
        found: dict[str, Any] = {"cases": self.cases, "labelled": self._labelled}
        if self._numbers is not None:
            return found | {"values": self._numbers.summary()}
        return found | {
            "classes": {
                name: {
                    "cases": self._counts[code],
                    "share": round(self._counts[code] / self._labelled, 6)
                    if self._labelled
                    else None,
                }
                for code, name in enumerate(self._label.classes)
            }
        }


def label_checks(labels: Mapping[str, Labels], shares: Sequence[float]) -> list[Check]:
    """Return whether every split has cases, and labels that differ, enough of each class.

    Args:
        labels: by split.
        shares: of the splits, as they were asked for.
    """
    found = {split: each.report() for split, each in labels.items()}
    checks = [_empty(found, shares)]
    if values := sorted(set().union(*map(_values, found.values()))):
        checks.append(_alike(values, max(each.rounded for each in labels.values())))
    if len(values) > 1:  # of one alone it is said already
        checks.append(_few(found))
    return checks


def _values(found: Mapping[str, Any]) -> set[Any]:
    """Return the classes that labels are of, or the least and the largest number."""
    if "classes" in found:
        return {name for name, each in found["classes"].items() if each["cases"]}
    return {found["values"][end] for end in ("min", "max") if found["labelled"]}


def _empty(found: Mapping[str, Any], shares: Sequence[float]) -> Check:
    name = "Splits without a case"
    empty = [
        f"the {split} split (share {share:g})"
        for (split, each), share in zip(found.items(), shares, strict=True)
        if share and not each["cases"]
    ]
    if empty:
        return _warning(name, len(empty), f"there is no case in {', or '.join(empty)}")
    return Check(name, "ok", 0, "every split with a share above 0 has cases")


def _alike(values: Sequence[Any], rounded: float) -> Check:
    name = "Labels that hardly differ"
    if len(values) == 1:
        said = f"every label is {values[0]!r}: nothing can be learned from them"
        return _warning(name, 1, said)
    if rounded and rounded > _MOST_LOST * (values[-1] - values[0]):
        said = (
            f"labels are kept as float32, which moves some by {rounded:g}, much of what they differ"
            " by: count them from a number nearer to them"
        )
        return _warning(name, 1, said)
    return Check(name, "ok", 0, "labels differ")


def _few(found: Mapping[str, Any]) -> Check:
    """Look for splits with hardly a case of some class, or a number: labels are not balanced."""
    name = "Few labelled cases in a split"
    few = [
        f"{split}: {n}" + (f" of {each!r}" if each else "")
        for split, labels in found.items()
        if labels["cases"]
        for each, n in _by_class(labels).items()
        if n < _FEW
    ]
    if not few:
        return Check(name, "ok", 0, f"{_FEW} or more in each, of each class")
    more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
    said = (
        f"few labelled cases ({', '.join(few[:_SHOWN])}{more}): figures from so few are unreliable,"
        " and a metric may not be determined; try another --seed or --splits, or give the split in"
        " the records (for a table: source.split)"
    )
    return _warning(name, len(few), said)


def _warning(name: str, found: int, said: str) -> Check:
    return Check(name, "warning", found, said, told=said)


def _by_class(labels: Mapping[str, Any]) -> dict[str, int]:
    """Return how many labels are of each class, of "" where they are numbers."""
    if "classes" in labels:
        return {name: each["cases"] for name, each in labels["classes"].items()}
    return {"": labels["labelled"]}
