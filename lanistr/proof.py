"""A bundle's proof: random inputs, and how far off graphs may be on them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.manifest import Build

BOUND = 1e-4
"""Largest difference allowed at float32, as a share of the output's own scale where above 1."""

_MORE = 2.0
"""Times the difference found at the export that a reduced precision may show on another machine."""

Proof = Mapping[str, NDArray[Any]]
"""Arrays by `GRAPH/inputs/NAME` and `GRAPH/outputs/NAME`, see `Bundle.proof`."""


def sides(proof: Proof, graph: str) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the inputs of a graph by name, and what the model makes of them."""
    inputs, outputs = (
        {
            key.removeprefix(start): array
            for key, array in proof.items()
            if key.startswith(start := f"{graph}/{side}/")
        }
        for side in ("inputs", "outputs")
    )
    return inputs, outputs


def difference(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the largest difference, as a share of the largest value wanted where that is above 1.

    Infinite where an output is not finite, or has another shape.
    """
    if found.shape != wanted.shape:
        return math.inf
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    largest = float(np.abs(found - wanted).max(initial=0))
    return largest / scale if math.isfinite(largest) else math.inf


def allowed(build: Build, at_export: Mapping[str, float]) -> dict[str, float]:
    """Return by graph how far a build may be off; at fp32 the manifest has no say in it.

    Args:
        build: of a bundle.
        at_export: differences found then: `Build.proof`, or `Build.parity`.
    """
    more = 0.0 if build.precision == "fp32" else _MORE
    return {name: max(BOUND, more * at_export.get(name, 0.0)) for name in build.graphs}
