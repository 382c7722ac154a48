"""What encoders and pretexts have in common, so that nobody else needs to know which one it is.

Shapes: R row of the modality, N token, W width of the encoder.
"""

from collections.abc import Sequence

from torch import Generator, Tensor, nn

from lanistr.model.tensors import Arrays


class Encoder(nn.Module):
    """From the arrays of a modality to tokens.

    `forward` takes the arrays by the names in the table of `lanistr.batch`, each with R rows, and
    returns tokens (R, N, W).

    Attributes:
        width: last dimension W of the tokens.
        handed_on: number N of tokens a row, where every row has as many.
        averages: whether the tokens of several rows of a case are averaged; else a case can have
            one row.
        unused: names of modules that no output depends on, where a config keeps them.
    """

    width: int
    handed_on: int = 1
    averages: bool = True
    unused: tuple[str, ...] = ()

    def example(self, rows: int) -> Arrays:
        """Return arrays of the right types and sizes, all 0 but the mask; text at its longest."""
        raise NotImplementedError

    def drawn(self, rows: int, generator: Generator) -> Arrays:
        """Return arrays made by chance, of the right types, sizes and ranges."""
        raise NotImplementedError

    def flops(self, arrays: Arrays) -> int:
        """Count the floating-point operations of a forward pass; see `lanistr.model.flops`."""
        raise NotImplementedError

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
