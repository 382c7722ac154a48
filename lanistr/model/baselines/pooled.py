"""Fusers of one vector an encoder, each of which has a place of its own.

A fuser is given the tokens of what a case brings and nothing of what it lacks. So that it knows
whose a token is, the projection writes a mark behind it: 1 at the number of its place, else 0.

Shapes: R row of one modality, N token, W width of an encoder, V vector of an encoder, P place of a
vector (of all encoders), B case, D width of a projected vector.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lanistr.modalities import Modality
from lanistr.model.encoder import Encoder, Fuser


class MarkedFuser(Fuser):
    """Sorts the tokens of each case by their marks.

    Args:
        width: D of a projected vector; its token has a mark behind it.
        encoders: by modality.
    """

    pooled = True

    def __init__(self, width: int, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.places = sum(len(vectors(each)) for each in encoders.values())
        self.inner = width
        self.width = width + self.places

    def sort(self, tokens_BND: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors by place (B, P, D), 0 where there is none, and where one is (B, P)."""
        present_BND = torch.where(mask_BN[..., None], tokens_BND, 0.0)
        vectors_BND, marks_BNP = present_BND.split([self.inner, self.places], dim=-1)
        return marks_BNP.transpose(1, 2) @ vectors_BND, marks_BNP.sum(dim=1) > 0.5


class Pooled(nn.Module):
    """Pools an encoder's tokens, and maps each of its vectors.

    Args:
        encoder: whose tokens these are.
        maps: a module a vector.
    """

    def __init__(self, encoder: Encoder, maps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.pool = encoder.pool
        self.widths = list(vectors(encoder))
        self.maps = nn.ModuleList(maps)

    def forward(self, tokens_RNW: Tensor) -> Tensor:
        """Return (R, V, D)."""
        parts = self.pool(tokens_RNW).split(self.widths, dim=-1)
        return torch.cat([each(part) for each, part in zip(self.maps, parts, strict=True)], dim=1)


class Marked(Pooled):
    """The same, with the mark of its place behind each vector.

    Args:
        encoders: by modality.
        modality: whose tokens these are.
        maps: a module a vector.
    """

    marks: Tensor

    def __init__(
        self, encoders: Mapping[str, Encoder], modality: Modality, maps: Sequence[nn.Module]
    ) -> None:
        super().__init__(encoders[modality], maps)
        names = [name for name, each in encoders.items() for _ in vectors(each)]
        first = names.index(modality)
        marks_VP = torch.eye(len(names))[first : first + len(self.widths)]
        self.register_buffer("marks", marks_VP, persistent=False)

    def forward(self, tokens_RNW: Tensor) -> Tensor:
        """Return (R, V, D + P)."""
        mapped_RVD = super().forward(tokens_RNW)
        marks_RVP = self.marks[None].expand(mapped_RVD.shape[0], -1, -1)
        return torch.cat([mapped_RVD, marks_RVP.to(mapped_RVD)], dim=-1)


def vectors(encoder: Encoder) -> Sequence[int]:
    """Return the widths of the vectors that an encoder's pooled token is made of."""
    return encoder.vectors or (encoder.width,)


def widest(encoders: Mapping[str, Encoder]) -> int:
    """Return the width of the widest vector of all encoders."""
    return max(width for each in encoders.values() for width in vectors(each))
