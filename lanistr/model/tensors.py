"""A `lanistr.batch.Batch` as torch tensors on one device.

Shapes: B case, R row of one modality, M modality.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    """

    size: int
    parts: Mapping[Modality, TensorPart]
    labels: Tensor | None = None

    def presence(self, modalities: Iterable[Modality], device: torch.device) -> Tensor:
        """Return (B, M) bool: which case brings which of the modalities, in the order given."""
        columns = []
        for modality in modalities:
            present_B = torch.zeros(self.size, dtype=torch.bool, device=device)
            if modality in self.parts:
                present_B[self.parts[modality].sample] = True
            columns.append(present_B)
        return torch.stack(columns, dim=1)


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> TensorBatch:
    """Copy a batch to a device; dtypes stay as they are (pixels stay uint8)."""

    def move(array: object) -> Tensor:
        return torch.as_tensor(array).to(device, non_blocking=True)

    parts = {
        modality: TensorPart(
            move(part.sample), {name: move(array) for name, array in part.arrays.items()}
        )
        for modality, part in batch.parts.items()
    }
    return TensorBatch(batch.size, parts, None if batch.labels is None else move(batch.labels))
