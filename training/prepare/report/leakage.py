"""Label leakage: a single field that predicts the label, as one written after the outcome does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.tasks import LabelSpec
from training.prepare.report.part import Check
from training.prepare.report.summaries import Reservoir, significant

CASES = 10_000
"""Labelled cases that are examined, drawn with the seed."""

TOO_GOOD = 0.98
"""From here on a single field predicts too well: few honest measurements reach it."""

FEWEST = 10
"""Cases that a class must have, with the field, for the field to be judged."""

_SHOWN = 15

Floats = NDArray[np.float64]


class LabelLeakage:
    """Keeps single numbers of some cases, and measures how well each orders the label."""

    def __init__(self, label: LabelSpec, parts: Mapping[str, Sequence[str]], seed: int) -> None:
        """Begin.

        Args:
            label: what is predicted.
            parts: by modality, the names of its signals, see `PartSurvey`.
            seed: of the draw.
        """
        self._label, self._parts, self._seed = label, parts, seed
        self._reservoir = Reservoir(CASES, seed)
        self._kept: dict[int, tuple[float, Mapping[str, Floats]]] = {}

    def place(self, label: float) -> int | None:
        """Return where the next case is kept; None: it is not, and needs no signals."""
        return None if np.isnan(label) else self._reservoir.place()

    def keep(self, place: int, label: float, signals: Mapping[str, Floats]) -> None:
        """Keep a case."""
        self._kept[place] = (label, signals)

    def report(self) -> tuple[dict[str, Any], Check]:
        """Return the fields that predict best, and whether one predicts too well."""
        name = "Fields that alone reveal the label"
        labels = np.array([label for label, _ in self._kept.values()])
        strengths: dict[str, float] = {}
        for modality, names in self._parts.items():
            absent = np.full(len(names), np.nan)
            rows = [signals.get(modality) for _, signals in self._kept.values()]
            if not rows:
                continue
            there = np.array([row is not None for row in rows], dtype=np.float64)
            table = np.stack([absent if row is None else row for row in rows])
            strengths[f"{modality}: there or not"] = self._strength(there, labels)
            for column, signal in zip(table.T, names, strict=True):
                field = f"{modality}: {signal.rstrip('=')}"
                known = ~np.isnan(column)
                strengths[field] = self._strength(
                    column[known], labels[known], codes=signal.endswith("=")
                )
                if 0 < known.sum() < there.sum():
                    among = there > 0
                    strengths[f"{field}, there or not"] = self._strength(
                        known[among].astype(np.float64), labels[among]
                    )
        ranked = sorted(
            ((field, each) for field, each in strengths.items() if not np.isnan(each)),
            key=lambda each: (-each[1], each[0]),
        )
        figure = "Spearman" if self._label.kind == "regression" else "AUROC"
        found = {
            "figure": figure,
            "cases": len(labels),
            "judged": len(ranked),
            "strongest": {field: significant(each) for field, each in ranked[:_SHOWN]},
        }
        if not ranked:
            said = f"too few labelled cases: {FEWEST} of each class are needed"
            return found, Check(name, "not checked", None, said)
        best, most = ranked[0]
        said = (
            f"{len(ranked):,} fields checked individually on {len(labels):,} labelled cases; "
            f"the strongest is {best}, {figure} {most:.3f}"
        )
        guilty = [f"{field} ({each:.4f})" for field, each in ranked if each >= TOO_GOOD]
        if not guilty:
            return found, Check(name, "ok", 0, said)
        said += f"; {figure} of {TOO_GOOD:g} or more: was it recorded after the outcome?"
        return found, Check(name, "warning", len(guilty), said, guilty[:10])

    def _strength(self, values: Floats, labels: Floats, *, codes: bool = False) -> float:
        """Return how well values (N,) order the labels, in whichever direction; NaN if unknown.

        Codes have no order: the mean label of other cases with the same code stands in for one.
        """
        half = _halves(labels, self._seed)
        if self._label.kind == "regression":
            if len(values) < 2 * FEWEST:
                return np.nan
            return abs(_spearman(_rates(values, labels, half) if codes else values, labels))
        classes = range(1, 2) if self._label.kind == "binary" else range(self._label.outputs)
        known = []
        for code in classes:
            positive = labels == code
            if min(positive.sum(), (~positive).sum()) >= FEWEST:
                area = _auroc(_rates(values, positive, half) if codes else values, positive)
                known.append(max(area, 1 - area))
        return max(known, default=np.nan)


def _auroc(values: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive case has the larger value; equal values count half."""
    positives = int(positive.sum())
    wins = _ranks(values)[positive].sum() - positives * (positives + 1) / 2  # Mann-Whitney's U
    return float(wins) / (positives * (len(values) - positives))


def _spearman(values: Floats, labels: Floats) -> float:
    first, second = _ranks(values), _ranks(labels)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Floats) -> Floats:
    """Return ranks (N,) from 1, equal values at their mean.

    `scipy.stats.rankdata` does the same, and takes a second to import.
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _halves(labels: Floats, seed: int) -> NDArray[np.bool_]:
    """Draw half of the cases (N,), stratified by label.

    At random, as tables may alternate: every second row a patient, every other a control.
    """
    lots = np.random.default_rng(seed).random(len(labels))
    half = np.zeros(len(labels), dtype=np.bool_)
    half[np.lexsort((lots, labels))[::2]] = True
    return half


def _rates(codes: Floats, target: NDArray[Any], half: NDArray[np.bool_]) -> Floats:
    """Return, for each code, the mean target (N,) of the other half of the cases that have it.

    From the same half, a code that every case has to itself would tell everything.
    """
    rates = np.zeros(len(codes))
    for this in (half, ~half):
        known, place = np.unique(codes[~this], return_inverse=True)
        if not len(known):
            continue
        means = np.bincount(place, weights=target[~this]) / np.bincount(place)
        at = np.minimum(np.searchsorted(known, codes[this]), len(known) - 1)
        found = known[at] == codes[this]
        rates[this] = np.where(found, means[at], np.mean(target[~this]))
    return rates
