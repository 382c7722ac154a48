"""What a method says of cases, stored: beside its report, or for a model to learn from."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.draft import draft_file

Positions = NDArray[np.int64]
Outputs = NDArray[np.floating[Any]]


def outputs_file(split: str) -> str:
    """Return the name of the file of a split, which stands beside `report-SPLIT.json`."""
    return f"outputs-{split}.npz"


def write_outputs(path: Path, positions: Positions, outputs: Outputs) -> None:
    """Write what is said of cases, without their names and labels.

    Args:
        path: of the file.
        positions: (N,) of the cases in their data set, ascending.
        outputs: (N, C) logits over the temperature, or (N, 1) numbers.
    """
    with draft_file(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, positions=positions, outputs=outputs)


def read_outputs(path: Path) -> tuple[Positions, Outputs]:
    """Return positions and outputs, see `write_outputs`."""
    with np.load(path) as stored:
        return stored["positions"], stored["outputs"]
