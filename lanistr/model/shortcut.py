"""A way past fusion: a token, made of a row's figures, that the head sees as it is.

Fusion's normalising of tokens and its attention lose much of what simple figures say outright; a
model with a wide part beside its deep one keeps it (Cheng et al. 2016, "Wide & Deep Learning").
Not of the paper.
"""

from pydantic import Field
from torch import Tensor, nn

from lanistr.schema import Schema

EXTREME = 5.0
"""Standard deviations beyond which figures are told apart no more: one must not drown the rest."""


class ShortcutConfig(Schema):
    """Sizes of what makes the token.

    Attributes:
        hidden: width of the hidden layer.
        dropout: of it and of the token.
    """

    hidden: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)


class Shortcut(nn.Sequential):
    """Two layers from the K figures of a row to a token of width W."""

    def __init__(self, config: ShortcutConfig, figures: int, width: int) -> None:
        layers: list[nn.Module] = []
        for before, after in ((figures, config.hidden), (config.hidden, width)):
            layers += [nn.Linear(before, after), nn.GELU(), nn.Dropout(config.dropout)]
        super().__init__(*layers)

    def token(self, figures_RK: Tensor) -> Tensor:
        """Return (R, 1, W)."""
        token_RW: Tensor = self(figures_RK)
        return token_RW[:, None]

    def flops(self, rows: int) -> int:
        """Count the floating-point operations for so many rows."""
        return 2 * rows * sum(each.numel() for each in self.parameters() if each.ndim == 2)
