"""How a training went, read from `log.jsonl`; lines and keys that are not known are passed over."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.metrics import Floats, higher_is_better
from training.run import LOG

Curve = tuple[Floats, Floats]

_MOST_POINTS = 300


@dataclass
class History:
    """What a log says.

    Attributes:
        losses: by name, steps and values; "loss" is their weighted sum.
        lr: steps and learning rates.
        validation: by metric, epochs and values.
        mean_of: of how many validations' weights a run's are the mean; 1: those of one.
        mean_validation: what the mean came to, by metric; empty where none was taken.
    """

    losses: dict[str, Curve] = field(default_factory=dict)
    lr: Curve | None = None
    validation: dict[str, Curve] = field(default_factory=dict)
    mean_of: int = 1
    mean_validation: dict[str, float] = field(default_factory=dict)

    def best_epoch(self, metric: str) -> float | None:
        """Return the epoch that was kept: the first with the best figure; None if none is known."""
        if metric not in self.validation:
            return None
        epochs, values = self.validation[metric]
        best = epochs[values.argmax() if higher_is_better(metric) else values.argmin()].item()
        return int(best) if best == int(best) else best


def read_history(run: Path) -> History | None:
    """Read the log of a run folder; None if there is none, or nothing in it."""
    path = run / LOG
    if not path.is_file():
        return None
    losses: dict[str, dict[float, float]] = {}
    lr: dict[float, float] = {}
    validation: dict[str, dict[float, float]] = {}
    mean_of, mean_validation = 1, dict[str, float]()
    for entry in _lines(path):
        if isinstance(entry.get("mean_of"), int):
            figures = _part(entry, "mean_validation").items()
            mean_validation = {n: float(v) for n, v in figures if isinstance(v, int | float)}
            mean_of = entry["mean_of"]
        # A step that stands there twice was taken again after a resumption: the later one counts.
        step, epoch = entry.get("step"), entry.get("epoch")
        if isinstance(step, int):
            for name, value in ({"loss": entry.get("loss")} | _part(entry, "losses")).items():
                _note(losses.setdefault(name, {}), step, value)
            _note(lr, step, entry.get("lr"))
        elif isinstance(epoch, int | float):
            for name, value in _part(entry, "validation").items():
                _note(validation.setdefault(name, {}), epoch, value)
    found = History(
        losses={name: _curve(points) for name, points in losses.items() if points},
        lr=_curve(lr) if lr else None,
        validation={name: _curve(points) for name, points in validation.items() if points},
        mean_of=mean_of,
        mean_validation=mean_validation,
    )
    return found if found.losses or found.validation else None


def thinned(curve: Curve) -> Curve:
    """Return means over neighbouring steps: no more points than an eye can tell apart."""
    x, y = curve
    parts = np.array_split(np.arange(len(x)), min(len(x), _MOST_POINTS))
    return np.array([x[part].mean() for part in parts]), np.array(
        [y[part].mean() for part in parts]
    )


def smoothed(curve: Curve) -> Curve:
    """Return the mean over a window of a twentieth of the training around each point."""
    x, y = thinned(curve)
    window = np.ones(max(1, len(y) // 20) | 1)
    count = np.convolve(np.ones(len(y)), window, "full")
    total = np.convolve(y, window, "full")
    half = len(window) // 2
    return x, (total / count)[half : half + len(y)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            if isinstance(entry, dict):
                yield entry


def _part(entry: dict[str, Any], key: str) -> dict[str, Any]:
    part = entry.get(key)
    return {str(k): v for k, v in part.items()} if isinstance(part, dict) else {}


def _note(points: dict[float, float], at: float, value: object) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        points[at] = float(value)


def _curve(points: dict[float, float]) -> Curve:
    at = sorted(points)
    return np.array(at, dtype=np.float64), np.array([points[each] for each in at])
