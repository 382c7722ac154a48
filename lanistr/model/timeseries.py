"""Time series: a small Transformer over steps, and masked time-series modelling to pretrain it.

Shapes: R row (one series), T step, F column of values, G variable, C column of a variable, K
figure, N token, W width.
"""

import math
from collections.abc import Sequence
from typing import Literal, Protocol, Self

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional

from lanistr.model import losses, masking
from lanistr.model.encoder import Encoder, Pretext
from lanistr.model.flops import transformer_flops
from lanistr.model.shortcut import EXTREME, Shortcut, ShortcutConfig
from lanistr.model.tensors import Arrays
from lanistr.schema import Schema


class TimeseriesConfig(Schema):
    """Sizes of the time-series encoder; widths and layers default to the release's.

    Attributes:
        features: columns F of `values`.
        steps: steps T of a series.
        groups: the columns of each variable (those of a one-hot category together), which
            pretraining hides together; a column in no group, such as one that says whether a
            variable was observed, is never hidden.
        measured: by group, the column that says whether a step was measured; empty where no column
            does.
        mask_ratio: share of each variable's steps that pretraining hides.
        mask_run: mean length of a hidden run, in steps.

    Source: Zerveas et al. 2021; LANISTR paper, section 4 and Table 5.
    """

    kind: Literal["transformer"] = "transformer"
    features: int = Field(ge=1)
    steps: int = Field(ge=1)
    groups: tuple[tuple[int, ...], ...]
    measured: tuple[int, ...] = ()
    width: int = Field(default=76, ge=1)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    mask_ratio: float = Field(default=0.15, ge=0, lt=1)
    mask_run: float = Field(default=3.0, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        columns = [column for group in self.groups for column in group]
        if len(set(columns)) < len(columns):
            raise ValueError("a column is in two groups")
        if columns and not 0 <= min(columns) <= max(columns) < self.features:
            raise ValueError(f"groups name columns outside 0 to {self.features - 1}")
        if self.measured and len(self.measured) != len(self.groups):
            raise ValueError(
                f"{len(self.measured)} columns of measured for {len(self.groups)} groups"
            )
        if self.measured and not 0 <= min(self.measured) <= max(self.measured) < self.features:
            raise ValueError(f"measured names columns outside 0 to {self.features - 1}")
        stay, enter = masking.run_probabilities(self.mask_ratio, self.mask_run)
        if enter > stay and self.mask_ratio > 0:
            raise ValueError(
                f"runs of mean {self.mask_run:g} are too short for a mask_ratio of"
                f" {self.mask_ratio:g}: at least {1 / (1 - self.mask_ratio):.2f}"
            )
        return self


class Steps(Protocol):
    """What configs of encoders of series say of their steps, see `TimeseriesConfig`."""

    @property
    def steps(self) -> int:
        """Steps T of a series."""
        ...

    @property
    def features(self) -> int:
        """Columns F of a step."""
        ...


class SeriesEncoder(Encoder):
    """An encoder of time series, whatever it makes of them."""

    config: Steps

    def example(self, rows: int) -> Arrays:
        """See `Encoder.example`."""
        return {"values": torch.zeros(rows, self.config.steps, self.config.features)}

    def drawn(self, rows: int, generator: Generator) -> Arrays:
        """See `Encoder.drawn`."""
        shape = (rows, self.config.steps, self.config.features)
        return {"values": torch.randn(shape, generator=generator)}


_FIGURES = ("first", "last", "least", "largest", "mean", "number")


class Figures(nn.Module):
    """Sums a series up: each variable's first, last, least, largest and mean value, and number.

    Attributes:
        number: K figures of a row; 0 where no column says what was measured.
        variables: (K,) the variable of each figure, its place in `groups`.
    """

    columns: Tensor
    variables: Tensor

    def __init__(self, config: TimeseriesConfig) -> None:
        super().__init__()
        # Each column of the groups, with the one that says where it was measured.
        pairs = [
            (column, flag, variable)
            for variable, (columns, flag) in enumerate(
                zip(config.groups, config.measured, strict=False)
            )
            for column in columns
        ]
        self.number = len(pairs) * len(_FIGURES)
        columns_3C = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 3).T
        self.register_buffer("columns", columns_3C[:2], persistent=False)
        variables_K = columns_3C[2].repeat_interleave(len(_FIGURES))
        self.register_buffer("variables", variables_K, persistent=False)

    def forward(self, values_RTF: Tensor) -> tuple[Tensor, Tensor]:
        """Return the figures (R, K), those of a column side by side, and which are known (R, K).

        The number is log(1 + steps); of a variable that was never measured it alone is known.
        """
        values_RTC, flags_RTC = (values_RTF.index_select(2, each) for each in self.columns)
        measured_RTC = flags_RTC > 0
        steps_RC = measured_RTC.sum(dim=1)
        known_RC = steps_RC > 0
        first_RC = measured_RTC.int().argmax(dim=1)
        figures = (
            values_RTC.gather(1, first_RC[:, None])[:, 0],
            values_RTC[:, -1],  # carried forward from the last measurement
            values_RTC.masked_fill(~measured_RTC, math.inf).amin(dim=1),
            values_RTC.masked_fill(~measured_RTC, -math.inf).amax(dim=1),
            (values_RTC * measured_RTC).sum(dim=1) / steps_RC.clamp(min=1),
            torch.log1p(steps_RC.float()),
        )
        known_RCK = torch.stack([*[known_RC] * 5, torch.ones_like(known_RC)], dim=2)
        figures_RCK = torch.stack(figures, dim=2).masked_fill(~known_RCK, 0.0)
        return figures_RCK.flatten(1), known_RCK.flatten(1)


class TimeseriesShortcut(nn.Module):
    """The token that goes past fusion, made of a series' figures and of which of them are known."""

    def __init__(self, sizes: ShortcutConfig, figures: Figures, width: int) -> None:
        super().__init__()
        self.figures = figures
        self.mlp = Shortcut(sizes, 2 * figures.number, width)

    def forward(self, values_RTF: Tensor, hidden_RG: Tensor | None = None) -> Tensor:
        """Return (R, 1, W); of variables that are hidden (R, G) nothing is known."""
        figures_RK, known_RK = self.figures(values_RTF)
        if hidden_RG is not None:
            visible_RK = ~hidden_RG.index_select(1, self.figures.variables)
            figures_RK, known_RK = figures_RK * visible_RK, known_RK & visible_RK
        seen_RK = figures_RK.clamp(-EXTREME, EXTREME)
        return self.mlp.token(torch.cat([seen_RK, known_RK.float() - 0.5], dim=1))

    def flops(self, rows: int) -> int:
        """Count the floating-point operations for so many rows."""
        return self.mlp.flops(rows)


class TimeseriesEncoder(SeriesEncoder):
    """A Transformer over the steps of each series, with learned positions.

    Attributes:
        shortcut: makes the token that goes past fusion; None where none was added.
        output_layer: back from tokens to values; used by the pretext alone, but counted and
            stored with the encoder as in the mvts Transformer.

    Source: Zerveas et al. 2021, section 3.1; LayerNorm for its batch norm as in the LANISTR paper.
    """

    config: TimeseriesConfig

    def __init__(self, config: TimeseriesConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.handed_on = config.steps
        self.project_inp = nn.Linear(config.features, config.width)
        self.positions = nn.Parameter(torch.empty(config.steps, config.width).normal_(std=0.02))
        # Steps first: with rows first, torch takes a fused path in eval that does not export.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                config.feedforward,
                config.dropout,
                activation="gelu",
                batch_first=False,
            )
            for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output_layer = nn.Linear(config.width, config.features)
        self.shortcut: TimeseriesShortcut | None = None

    def add_shortcut(self, sizes: ShortcutConfig) -> None:
        """See `Encoder.add_shortcut`; without columns that say what was measured there is none."""
        figures = Figures(self.config)
        if figures.number:
            self.shortcut = TimeseriesShortcut(sizes, figures, self.width)
            self.shortcuts = 1
            self.handed_on += 1

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """See `Encoder.blocks`."""
        return list(self.layers)

    def forward(self, values: Tensor) -> Tensor:
        """Encode series.

        Args:
            values: (R, T, F) float32, as `lanistr.preprocess.timeseries` makes them.

        Returns:
            (R, N, W): one token a step, then the shortcut's, if there is one.
        """
        return self.hand_on(self.steps(values), values)

    def steps(self, values: Tensor) -> Tensor:
        """Return the tokens of the steps alone (R, T, W)."""
        hidden_RTW = self.project_inp(values) * math.sqrt(self.config.width) + self.positions
        hidden_TRW = self.dropout(hidden_RTW).transpose(0, 1)
        for layer in self.layers:
            hidden_TRW = layer(hidden_TRW)
        return hidden_TRW.transpose(0, 1)

    def hand_on(
        self, steps_RTW: Tensor, values_RTF: Tensor, hidden_RG: Tensor | None = None
    ) -> Tensor:
        """Return the tokens (R, N, W) of series: of their steps, and of the shortcut.

        Variables that are hidden (R, G) are hidden from the shortcut.
        """
        if self.shortcut is None:
            return steps_RTW
        return torch.cat([steps_RTW, self.shortcut(values_RTF, hidden_RG)], dim=1)

    def pool(self, tokens: Tensor) -> Tensor:
        """See `Encoder.pool`: the mean over the steps, none of which gathers the others."""
        return tokens[:, : self.config.steps].mean(dim=1, keepdim=True)

    def flops(self, arrays: Arrays) -> int:
        """See `Encoder.flops`."""
        config, rows = self.config, len(arrays["values"])
        entry = 2 * rows * config.steps * config.features * config.width
        if self.shortcut is not None:
            entry += self.shortcut.flops(rows)
        return entry + transformer_flops(
            torch.full((rows,), config.steps),
            width=config.width,
            feedforward=config.feedforward,
            layers=config.layers,
        )

    def reconstruct(self, tokens_RTW: Tensor) -> Tensor:
        """Return the values (R, T, F) that the tokens stand for."""
        return self.output_layer(self.dropout(functional.gelu(tokens_RTW)))


class TimeseriesPretext(Pretext):
    """Masked time-series modelling: fill in the runs that were hidden."""

    membership: Tensor

    def __init__(self, config: TimeseriesConfig) -> None:
        super().__init__()
        self.config = config
        membership_GF = torch.zeros(len(config.groups), config.features)
        for group, columns in enumerate(config.groups):
            membership_GF[group, list(columns)] = 1
        self.register_buffer("membership", membership_GF, persistent=False)
        self.figures = Figures(config)
        self.summaries = self.figures.number

    def flops(self, arrays: Arrays) -> int:
        """Count the floating-point operations of reading values from tokens."""
        config = self.config
        return 2 * len(arrays["values"]) * config.steps * config.width * config.features

    def forward(
        self, encoder: TimeseriesEncoder, arrays: Arrays, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Hide runs of each variable (set them to 0), encode what is left.

        From the shortcut, variables are hidden as a whole, the same share of them: figures of the
        steps that are left would tell those of all.

        Returns:
            the loss and the tokens (R, N, W) of the series with hidden runs.
        """
        values_RTF = arrays["values"]
        hidden_RTF = self.hide(values_RTF, generator)
        steps_RTW = encoder.steps(values_RTF.masked_fill(hidden_RTF, 0.0))
        loss = losses.masked_series(encoder.reconstruct(steps_RTW), values_RTF, hidden_RTF)
        if encoder.shortcut is None:
            return loss, steps_RTW
        rows, variables = len(values_RTF), len(self.config.groups)
        hidden_RG = masking.draw_columns(
            rows, variables, ratio=self.config.mask_ratio, generator=generator
        ).to(values_RTF.device)
        return loss, encoder.hand_on(steps_RTW, values_RTF, hidden_RG)

    def summarise(self, arrays: Arrays) -> tuple[Tensor, Tensor]:
        """See `Pretext.summarise` and `Figures`."""
        figures: tuple[Tensor, Tensor] = self.figures(arrays["values"])
        return figures

    def hide(self, values_RTF: Tensor, generator: Generator) -> Tensor:
        """Return (R, T, F) bool, True for what is hidden."""
        config = self.config
        hidden_RTG = masking.draw_runs(
            len(values_RTF),
            config.steps,
            len(config.groups),
            ratio=config.mask_ratio,
            mean_run=config.mask_run,
            generator=generator,
        ).to(values_RTF.device)
        return (hidden_RTG.float() @ self.membership).bool()
