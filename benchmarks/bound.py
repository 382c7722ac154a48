"""The bound of any server on a device: TorchScript graphs alone, on batches that are there already.

No HTTP, no preprocessing, no copy to the device in the time. Notes stand together by length, each
batch as wide as its longest; a part that a case lacks costs nothing.

Shapes: R row of a batch, B case of a batch, N token, D width, C output of the head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.answers import Probabilities
from lanistr.batch import Arrays, Features, stack
from lanistr.bundle import Bundle
from lanistr.manifest import FUSION, Precision
from lanistr.modalities import Modality
from service.engine.backends.backend import words_of
from service.engine.backends.torch import load_graphs

Item = TypeVar("Item")


@dataclass(frozen=True)
class Batches:
    """Cases on the device, batch by batch.

    Attributes:
        encoded: encoder and its inputs, for each batch of rows.
        fused: where the tokens of a batch of cases stand among all that are encoded, (B, N), and
            which of them are tokens, (B, N) bool.
        order: (cases,) in which the cases are fused.
    """

    encoded: Sequence[tuple[Modality, Sequence[Tensor]]]
    fused: Sequence[tuple[Tensor, Tensor]]
    order: NDArray[np.int64]


class Alone:
    """A bundle's graphs on a device.

    Args:
        bundle: whose graphs.
        device: that they run on.
        precision: of them.
    """

    def __init__(self, bundle: Bundle, device: torch.device, precision: Precision) -> None:
        self._bundle = bundle
        self._device = device
        self._build = bundle.build("torchscript", precision)
        self._computes = load_graphs(bundle, self._build, device)

    def batches(self, cases: Sequence[Features], size: int) -> Batches:
        """Put cases, each of one row of a modality at most, on the device in batches."""
        encoded: list[tuple[Modality, Sequence[Tensor]]] = []
        places: list[list[NDArray[np.int64]]] = [[] for _ in cases]
        begin = 0
        for modality in self._bundle.task.modalities:
            graph = self._build.graphs[modality]
            rows = [(i, row) for i, case in enumerate(cases) for row in case.rows.get(modality, ())]
            rows.sort(key=lambda row: _length(row[1]))
            for some in _parts(rows, size):
                arrays = stack([row for _, row in some])
                encoded.append((modality, [self._put(arrays[name]) for name in graph.inputs]))
                words = words_of(graph, arrays)
                wide = max(words)  # as many as the encoder returns of each row
                for (case, _), length in zip(some, words, strict=True):
                    places[case].append(np.arange(begin, begin + length))
                    begin += wide
        joined = [np.concatenate(each) for each in places]
        order = np.argsort([len(each) for each in joined], kind="stable")
        fused = [self._together([joined[i] for i in part]) for part in _parts(order.tolist(), size)]
        return Batches(encoded, fused, order)

    def __call__(self, batches: Batches) -> NDArray[np.float32]:
        """Return the head's output of every case, (cases, C)."""
        with torch.inference_mode():
            encoded = [self._computes[name](inputs)[0] for name, inputs in batches.encoded]
            tokens = torch.cat([each.flatten(0, 1) for each in encoded])
            outputs = [self._fuse(tokens[places], mask) for places, mask in batches.fused]
            found: NDArray[np.float32] = torch.cat(outputs).cpu().numpy()
        return found[np.argsort(batches.order)]

    def _fuse(self, tokens: Tensor, mask: Tensor) -> Tensor:
        given = {"tokens": tokens, "mask": mask}
        graph = self._build.graphs[FUSION]
        found = self._computes[FUSION]([given[name] for name in graph.inputs])
        return dict(zip(graph.outputs, found, strict=True))["output"]

    def _together(self, places: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        lengths = np.array([len(each) for each in places])
        mask = np.arange(lengths.max()) < lengths[:, None]
        padded = np.zeros(mask.shape, np.int64)
        padded[mask] = np.concatenate(places)
        return self._put(padded), self._put(mask)

    def _put(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def probabilities(bundle: Bundle, outputs: NDArray[np.float32]) -> list[Probabilities]:
    """Return what a service answers of the head's outputs (cases, C)."""
    label = bundle.task.label
    said = [bundle.calibration.predict(each, label).probabilities for each in outputs]
    return [each or {} for each in said]


def _length(row: Arrays) -> int:
    return len(next(iter(row.values())))  # which differs among notes alone


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
