"""The small networks around fusion: projections, task heads, SimMMM's projector and predictor.

Shapes: B case, D width, E width of what fusion gathers, C output (class).
"""

from collections.abc import Callable, Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from lanistr.schema import Schema


class Projection(nn.Sequential):
    """One layer from an encoder's width to fusion's.

    Source: LANISTR paper, section 3.2.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(nn.Linear(width_in, width_out), nn.ReLU())


class MarkedProjection(Projection):
    """The same, and another for the tokens that go past fusion, which it marks.

    A marked token ends in a 1, one for fusion in a 0: graphs that lay the tokens of a case side by
    side need not know which is which (as in `lanistr.model.baselines.pooled`).
    """

    def __init__(self, width_in: int, width_out: int, shortcuts: int) -> None:
        super().__init__(width_in, width_out)
        self.shortcuts = shortcuts
        self.shortcut = Projection(width_in, width_out) if shortcuts else None

    def forward(self, tokens_RNW: Tensor) -> Tensor:
        """Return (R, N, D + 1)."""
        linear, activation, *_ = self
        fused_RNW = tokens_RNW[:, : tokens_RNW.shape[1] - self.shortcuts]
        fused_RND = functional.pad(activation(linear(fused_RNW)), (0, 1), value=0.0)
        if self.shortcut is None:
            return fused_RND
        rest_RND = self.shortcut(tokens_RNW[:, fused_RNW.shape[1] :])
        return torch.cat([fused_RND, functional.pad(rest_RND, (0, 1), value=1.0)], dim=1)


# ---- tasks --------------------------------------------------------------------------------------


class HeadConfig(Schema):
    """What is predicted.

    Attributes:
        kind: classes without order, classes in order (ratings), or numbers.
        outputs: number of classes, or of numbers.
        layers: number of hidden layers; the paper's two.
        hidden: their width; None for that of what fusion says.

    Source: LANISTR paper, section 4 (classifier); dropout as in the release.
    """

    kind: Literal["classes", "ordinal", "regression"]
    outputs: int = Field(ge=1)
    layers: int = Field(default=2, ge=0)
    hidden: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind != "regression" and self.outputs < 2:
            raise ValueError(f"a head of kind {self.kind!r} needs at least 2 outputs")
        return self


class Head(nn.Module):
    """From what fusion gathers of a case to a task's outputs.

    What went past fusion makes scores of its own, to which those of what fusion says are added. In
    training the one learns the task by itself, and the other what it leaves, as in boosting:
    learned as one sum, fusion would explain the training cases before the few weights past it have
    found what is true of others, too. (The cuts between ordered classes learn from both.)

    Args:
        config: what is predicted.
        width: D of what fusion says.
        shortcut: P of what went past it.
    """

    def __init__(self, config: HeadConfig, width: int, shortcut: int = 0) -> None:
        super().__init__()
        self.widths = [width, shortcut]
        scores = 1 if config.kind == "ordinal" else config.outputs
        layers: list[nn.Module] = []
        for _ in range(config.layers):
            hidden = config.hidden or width
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout)]
            width = hidden
        self.mlp = nn.Sequential(*layers, nn.Linear(width, scores))
        self.shortcut = nn.Linear(shortcut, scores) if shortcut else None
        self.link = LINKS[config.kind](config.outputs)

    def forward(self, gathered_BE: Tensor) -> Tensor:
        """Return (B, C): logits of classes (for ordinal, log-probabilities), or numbers.

        Numbers are in the label's own units, once `Units` has been fitted.
        """
        return self.both(gathered_BE)[0]

    def both(self, gathered_BE: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the same, and what is said past fusion alone (B, C), if anything went there."""
        if self.shortcut is None:
            return self.link(self.mlp(gathered_BE)), None
        fused_BD, direct_BP = gathered_BE.split(self.widths, dim=1)
        alone_BC = self.shortcut(direct_BP)
        sum_BC = self.mlp(fused_BD) + (alone_BC.detach() if self.training else alone_BC)
        return self.link(sum_BC), self.link(alone_BC)


class CumulativeLink(nn.Module):
    """Ordered classes from one score: P(class <= k) = sigmoid(cut_k - score).

    Source: McCullagh 1980, the proportional-odds model.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        # Gaps of about 1 around 0: no class starts out of reach.
        self.first_cut = nn.Parameter(torch.tensor([1 - classes / 2]))
        self.raw_gaps = nn.Parameter(torch.full((classes - 2,), 0.54))

    def forward(self, score_B1: Tensor) -> Tensor:
        """Return (B, C) log-probabilities, so that their softmax is the distribution."""
        score_B1 = score_B1.float()
        gaps = functional.softplus(self.raw_gaps) + 1e-3
        cuts = torch.cat([self.first_cut, self.first_cut + gaps.cumsum(0)])
        below = functional.logsigmoid(cuts - score_B1)
        above = functional.logsigmoid(score_B1 - cuts)
        # sigmoid(b) - sigmoid(a) = sigmoid(b) * sigmoid(-a) * (1 - exp(a - b)): no difference of
        # nearly equal numbers, and the last factor does not depend on the score.
        middle = below[:, 1:] + above[:, :-1] + torch.log(-torch.expm1(-gaps))
        return torch.cat([below[:, :1], middle, above[:, -1:]], dim=1)


class Units(nn.Module):
    """Numbers in their own units from standardised ones, which a network learns far faster.

    Attributes:
        mean, deviation: (C,) of the training labels; 0 and 1 until fitted.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("deviation", torch.ones(numbers))

    def fit(self, labels: Tensor) -> None:
        """Take mean and standard deviation of labels (N, C); of equal ones the latter is 1."""
        labels = labels.double()
        deviation = labels.std(dim=0, correction=0)
        self.mean.copy_(labels.mean(dim=0))
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def forward(self, standard_BC: Tensor) -> Tensor:
        """Return (B, C) numbers."""
        return self.mean + self.deviation * standard_BC.float()


LINKS: Mapping[str, Callable[[int], nn.Module]] = {
    "classes": nn.Identity,  # the scores are the logits
    "ordinal": CumulativeLink,
    "regression": Units,
}
"""By kind of label, what makes outputs of the last layer's scores."""


# ---- summary modelling --------------------------------------------------------------------------


class SummaryConfig(Schema):
    """What a case sums up to, predicted from fusion's CLS token of its masked self.

    Not of the paper. It has the CLS token say what the rows say in short (of a series: first, last,
    least, largest and mean value of each variable, and how often it was measured), which is what a
    task with few labels can use at once.

    Attributes:
        width: of the hidden layer.
    """

    width: int = Field(default=256, ge=1)


class Summary(nn.Sequential):
    """Two layers from fusion's CLS token to the figures of one modality's row."""

    def __init__(self, config: SummaryConfig, width_in: int, figures: int) -> None:
        super().__init__(
            nn.Linear(width_in, config.width), nn.GELU(), nn.Linear(config.width, figures)
        )


# ---- SimMMM -------------------------------------------------------------------------------------


class SimMMMConfig(Schema):
    """The similarity of a case and its masked self.

    Attributes:
        width: of the projector's three layers.
        bottleneck: hidden width of the predictor.
        tokens: compare fusion's CLS and the tokens of present modalities, or the CLS alone.
        on: compare cases with any modality, or only those with all, as the paper words it.
        hidden: chance that the masked view of a case lacks a modality altogether, so that what
            the others say of it must be learned; 0 is the paper's.
        batch_norm: normalise the layers over the compared tokens, without parameters. The release
            does not, and its loss then reaches -2 within an epoch with all tokens alike; with it
            and the CLS alone, cases must differ.

    Source: LANISTR paper, section 3.3; widths as in the release; batch norm as in SimSiam (Chen
    and He 2021, section 4.4).
    """

    width: int = Field(default=2048, ge=1)
    bottleneck: int = Field(default=512, ge=1)
    tokens: Literal["all", "cls"] = "all"
    on: Literal["any", "parallel"] = "any"
    hidden: float = Field(default=0.0, ge=0, lt=1)
    batch_norm: bool = False


class Projector(nn.Sequential):
    """Three layers from fused tokens to the space in which two views are compared."""

    def __init__(self, config: SimMMMConfig, width_in: int) -> None:
        layers: list[nn.Module] = []
        for width in (width_in, config.width, config.width):
            layers += [nn.Linear(width, config.width), *_norm(config), nn.ReLU()]
        if config.batch_norm:
            layers.pop()  # what was centred stays so
        super().__init__(*layers)


class Predictor(nn.Sequential):
    """Two layers, with a bottleneck, that predict one view from the other."""

    def __init__(self, config: SimMMMConfig) -> None:
        super().__init__(
            nn.Linear(config.width, config.bottleneck),
            *_norm(config),
            nn.ReLU(),
            nn.Linear(config.bottleneck, config.width),
        )


def _norm(config: SimMMMConfig) -> list[nn.Module]:
    if not config.batch_norm:
        return []
    return [TokenNorm()]


class TokenNorm(nn.Module):
    """Batch norm over the compared tokens, without parameters; one token alone stays as it is."""

    def forward(self, tokens_nD: Tensor) -> Tensor:
        """Return (n, D) of mean 0 and variance 1 in every column."""
        if tokens_nD.shape[0] < 2:
            return tokens_nD
        return functional.batch_norm(tokens_nD, None, None, training=True)
