"""What encoders, pretexts and fusers have in common, so that nobody else needs to know which it is.

Shapes: R row of the modality, N token, W width of the encoder, B case, D width of a fuser's tokens,
E width of what it makes of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Generator, Tensor, nn
from torch.nn import functional

from lanistr.modalities import Modality
from lanistr.model.shortcut import ShortcutConfig
from lanistr.model.tensors import Arrays


class Encoder(nn.Module):
    """From the arrays of a modality to tokens.

    `forward` takes the arrays by the names in the table of `lanistr.batch`, each with R rows, and
    returns tokens (R, N, W).

    Attributes:
        width: last dimension W of the tokens.
        handed_on: number N of tokens a row, where every row has as many.
        averages: whether the tokens of several rows of a case are averaged; else they stand side by
            side.
        unused: names of modules that no output depends on, where a config keeps them.
        vectors: widths of the vectors that a pooled token is made of, side by side; empty for one.
        shortcuts: how many tokens of a row, its last ones, go past fusion to the head, see
            `lanistr.model.shortcut`.
    """

    width: int
    handed_on: int = 1
    shortcuts: int = 0
    vectors: tuple[int, ...] = ()
    averages: bool = True
    unused: tuple[str, ...] = ()

    def add_shortcut(self, sizes: ShortcutConfig) -> None:
        """Add what makes a token of a row's figures, if the modality has figures."""

    def example(self, rows: int) -> Arrays:
        """Return arrays of the right types and sizes, all 0 but the mask; text at its longest."""
        raise NotImplementedError

    def drawn(self, rows: int, generator: Generator) -> Arrays:
        """Return random arrays of the right types, sizes and ranges."""
        raise NotImplementedError

    def flops(self, arrays: Arrays) -> int:
        """Count the floating-point operations of a forward pass; see `lanistr.model.flops`."""
        raise NotImplementedError

    def pool(self, tokens: Tensor) -> Tensor:
        """Return (R, 1, W): the one of the tokens (R, N, W), or mean of them, that stands for all.

        The first token, unless the encoder has none that gathers what the others say.
        """
        return tokens[:, :1]

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The encoder's Transformer layers: what is compiled, sharded and recomputed as one."""
        return ()

    def token_mask(self, **arrays: Tensor) -> Tensor | None:
        """Return (R, N) bool, False for a token that is padding; None where none ever is."""
        return None


class Pretext(nn.Module):
    """Hides part of a modality's arrays and has its encoder fill it in.

    `forward` takes the encoder, the arrays and a generator, and returns the loss and the tokens
    (R, N, W) of the rows with parts hidden.

    Attributes:
        summaries: number K of figures that sum up a row, see `summarise`; 0 where none do.
    """

    summaries: int = 0

    def summarise(self, arrays: Arrays) -> tuple[Tensor, Tensor]:
        """Return figures that sum up each row (R, K), and where they are known (R, K) bool."""
        raise NotImplementedError

    def flops(self, arrays: Arrays) -> int:
        """Count the operations of a forward pass, without the encoder's own."""
        raise NotImplementedError


class Fuser(nn.Module):
    """From the tokens of a case, of whichever modalities it brings, to one vector.

    It is made from its config and the encoders by modality, whose tokens `projection` brings to it.

    Attributes:
        width: D of the tokens that it takes.
        gathered: E of the vector.
        shortcut: how many of these, the last ones, went past fusion, see `lanistr.model.shortcut`.
        pooled: whether it takes each encoder's pooled token alone.
        unused: as `Encoder.unused`.
    """

    width: int
    gathered: int
    shortcut: int = 0
    pooled: bool = False
    unused: tuple[str, ...] = ()

    @staticmethod
    def projection(config: Any, encoders: Mapping[str, Encoder], modality: Modality) -> nn.Module:
        """Return the module from a modality's tokens (R, N, W) to the fuser's (R, N, D)."""
        raise NotImplementedError

    def gather(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (B, E), what the tokens of each case say together.

        Args:
            tokens: (B, N, D) in canonical order of modality, marks included; N may be 0.
            mask: (B, N) bool, True for a token that is there. What stands at other places changes
                nothing.
        """
        raise NotImplementedError

    def embedding(self, gathered_BE: Tensor) -> Tensor:
        """Return what was gathered (B, E) at length 1, for retrieval."""
        return functional.normalize(gathered_BE, dim=-1)

    def flops(self, tokens: Mapping[str, Tensor]) -> int:
        """Count the operations of gathering so many tokens (B,) a case, by modality."""
        raise NotImplementedError

    def continued(self, part: str) -> Mapping[str, str]:
        """Return what of a published checkpoint for another part is the fuser's.

        Names of weights, the fuser's and those in the checkpoint for the part ("text", "image").
        """
        return {}

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """See `Encoder.blocks`."""
        return ()
