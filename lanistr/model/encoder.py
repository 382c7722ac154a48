"""What every encoder has in common, so that nobody else needs to know which one it is.

Shapes: R row of the modality, N token, W width of the encoder.
"""

from torch import Tensor, nn

from lanistr.model.tensors import Arrays


class Encoder(nn.Module):
    """From the arrays of a modality to tokens.

    `forward` takes the arrays by the names in the table of `lanistr.batch`, each with R rows, and
    returns tokens (R, N, W).

    Attributes:
        width: last dimension W of the tokens.
        unused: names of modules that no output depends on, where a config keeps them.
    """

    width: int
    unused: tuple[str, ...] = ()

    def example(self, rows: int) -> Arrays:
        """Return arrays of the right types and sizes, all 0 but the mask; text at its longest."""
        raise NotImplementedError

    def token_mask(self, **arrays: Tensor) -> Tensor | None:
        """Return (R, N) bool, False for a token that is padding; None where none ever is."""
        return None
