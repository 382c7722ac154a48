"""A `lanistr.batch.Batch` as torch tensors on one device.

Shapes: B case, R row of one modality, M modality.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lanistr.batch import Batch
from lanistr.modalities import Modality

Arrays = Mapping[str, Tensor]
"""Named tensors of R rows of one modality, as in the table of `lanistr.batch`."""


@dataclass(frozen=True, slots=True)
class TensorPart:
    """The rows of one modality in a batch.

    Attributes:
        sample: (R,) int64, ascending: the case in the batch that each row belongs to.
        arrays: the tensors of `lanistr.batch`'s table, with R rows.
    """

    sample: Tensor
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """Several cases.

    Attributes:
        size: number of cases B.
        parts: rows by modality; a modality that no case brings has no key.
        labels: (B,) float32, class index or number; NaN where unlabelled. None if not asked for.
        cases: (B,) int64, the cases' numbers in their data set, for callers that have to recognise
            one. None if not asked for.
    """

    size: int
    parts: Mapping[Modality, TensorPart]
    labels: Tensor | None = None
    cases: Tensor | None = None

    def presence(self, modalities: Iterable[Modality], device: torch.device) -> Tensor:
        """Return (B, M) bool: which case brings which of the modalities, in the order given."""
        columns = []
        for modality in modalities:
            present_B = torch.zeros(self.size, dtype=torch.bool, device=device)
            if modality in self.parts:
                present_B.index_fill_(0, self.parts[modality].sample, True)
            columns.append(present_B)
        return torch.stack(columns, dim=1)

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device; dtypes stay as they are (pixels stay uint8)."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Copy into memory that a GPU reads by itself; torch's data loader asks for this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        parts = {
            modality: TensorPart(
                change(part.sample), {name: change(each) for name, each in part.arrays.items()}
            )
            for modality, part in self.parts.items()
        }
        labels, cases = (
            None if each is None else change(each) for each in (self.labels, self.cases)
        )
        return type(self)(self.size, parts, labels, cases)


def places(mask: Tensor) -> Tensor:
    """Return (n,) int64: where a bool mask is True, counted through all its axes.

    A GPU has to report how many these are before the next operation can be queued. So they are
    found once, and `take` reads as many tensors with them as there are to read.
    """
    return mask.flatten().nonzero()[:, 0]


def take(tensor: Tensor, chosen: Tensor) -> Tensor:
    """Return the rows (n, D) of a tensor (R, N, D), or (n,) of (R, N), that stand at `places`.

    What indexing with the mask gives, but that would find the places anew here and in the backward
    pass, and sort them there for the case that one stood twice.
    """
    return tensor.flatten(0, 1).index_select(0, chosen)


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> TensorBatch:
    """Return a batch as tensors on a device; dtypes stay as they are."""
    parts = {
        modality: TensorPart(
            torch.as_tensor(part.sample),
            {name: torch.as_tensor(array) for name, array in part.arrays.items()},
        )
        for modality, part in batch.parts.items()
    }
    labels = None if batch.labels is None else torch.as_tensor(batch.labels)
    return TensorBatch(batch.size, parts, labels).to(device)
