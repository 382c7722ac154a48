"""Summaries of streams in bounded memory.

Counts, sums and extremes are exact. Quartiles and histograms are those of a sample in which every
value of the stream has the same chance to be; it is drawn with a fixed seed, so that the same
stream gives the same summary. Of a stream no longer than the sample they are exact too.

Source: Vitter 1985, Random sampling with a reservoir, Algorithm R.
"""

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE = 4096
"""Values that stand for a stream. The median of a longer one is off by less than 1.6% of the ranks,
19 times in 20."""

MOST_WORDS = 10_000
"""Distinct words that are counted one by one; further ones are counted together."""

_BINS = 20
_SHOWN_WORDS = 20


class Reservoir:
    """Decides which items of a stream to keep, so that each has the same chance."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seen = size, 0
        self._rng = np.random.default_rng(seed)

    def place(self) -> int | None:
        """Return the place that the next item takes, from whoever has it; None: it is not kept."""
        self._seen += 1
        if self._seen <= self._size:
            return self._seen - 1
        place = int(self._rng.integers(self._seen))
        return place if place < self._size else None


class Numbers:
    """Sums numbers up.

    Attributes:
        count: how many there were.
    """

    def __init__(self, seed: int = 0) -> None:
        self.count = 0
        self._total = 0.0
        self._low, self._high = math.inf, -math.inf
        self._sample = np.empty(SAMPLE)
        self._rng = np.random.default_rng(seed)

    def extend(self, values: NDArray[Any]) -> None:
        """Take (N,) more, all finite."""
        if not len(values):
            return
        free = max(SAMPLE - self.count, 0)
        first, rest = values[:free], values[free:]
        self._sample[self.count : self.count + len(first)] = first
        if len(rest):
            seen = self.count + len(first) + 1 + np.arange(len(rest))
            places = self._rng.integers(0, seen)
            kept = places < SAMPLE
            self._sample[places[kept]] = rest[kept]  # of two for one place, the later
        self.count += len(values)
        self._total += float(np.sum(values, dtype=np.float64))
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def summary(self) -> dict[str, Any]:
        """Return count, mean, extremes, quartiles, and a histogram.

        The histogram runs from the first to the 99th percentile; what lies beyond counts to its
        outermost bars.
        """
        if not self.count:
            return {"count": 0}
        sample = self._sample[: self.count]
        first, q1, median, q3, last = np.quantile(sample, [0.01, 0.25, 0.5, 0.75, 0.99])
        edges = np.linspace(first, last, _BINS + 1)
        if (np.diff(edges) > 0).all():
            bins, _ = np.histogram(np.clip(sample, first, last), edges)
        else:  # nothing but rounding lies between: one bar, in the middle
            bins = np.bincount([_BINS // 2], [len(sample)], _BINS).astype(np.int64)
        return {
            "count": self.count,
            "mean": significant(self._total / self.count),
            "min": self._low,
            "q1": significant(q1),
            "median": significant(median),
            "q3": significant(q3),
            "max": self._high,
            "exact": self.count <= SAMPLE,
            "histogram": {
                "from": significant(first),
                "to": significant(last),
                "counts": bins.tolist(),
            },
        }


class Words:
    """Counts words, up to `MOST_WORDS` distinct ones by name."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._others = 0

    def add(self, word: str, count: int = 1) -> None:
        """Take a word, so many times."""
        if word in self._counts or len(self._counts) < MOST_WORDS:
            self._counts[word] += count
        else:
            self._others += count

    def summary(self) -> dict[str, Any]:
        """Return the number of words, distinct ones, and the most frequent."""
        ranked = sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))
        shown = dict(ranked[:_SHOWN_WORDS])
        count = self._counts.total() + self._others
        return {
            "count": count,
            "distinct": len(self._counts),
            "exact": not self._others,
            "words": shown,
            "others": count - sum(shown.values()),
        }


def significant(value: float) -> float:
    """Round to six significant digits: what lies beyond is float32's."""
    return float(f"{value:.6g}")
