"""AutoGluon's two ways to join modalities, an MLP and a Transformer, and its table encoder.

Each encoder's pooled vector is mapped ("adapted") to the width of the widest. Of a table row there
are two vectors, one of its categories and one of its numbers, as AutoGluon has an encoder for each.

Source: autogluon/autogluon, `multimodal/src/autogluon/multimodal/models` and `configs/model`, read
for facts.

Shapes: R row, M number column, K category column, U width of a unit, B case, N token, S = N + 1
(CLS behind), P place of a vector, D width of an adapted vector, E of what is gathered, H head.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.baselines.pooled import Marked, MarkedFuser, Pooled, vectors, widest
from lanistr.model.encoder import Encoder, Fuser
from lanistr.model.flops import sum_by_case, transformer_flops
from lanistr.model.tabular import RowEncoder
from lanistr.model.tensors import Arrays
from lanistr.schema import Schema


class Unit(nn.Sequential):
    """A layer of AutoGluon's MLPs: normalised, linear, leaky ReLU."""

    def __init__(self, width_in: int, width_out: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width_in),
            nn.Linear(width_in, width_out),
            nn.LeakyReLU(),
            nn.Dropout(dropout),
        )


def start(module: nn.Module) -> None:
    """Give a linear layer or a table of embeddings the initial weights that AutoGluon gives it."""
    if isinstance(module, nn.Embedding):
        nn.init.xavier_normal_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


# ---- table rows ---------------------------------------------------------------------------------


class ColumnsConfig(Schema):
    """Sizes of the table encoder; the defaults are AutoGluon's.

    Attributes:
        numbers, categories: as in `lanistr.model.tabular.TabularConfig`.
        category_width: U of the vector of all categories, and of each column's on the way there.
        number_width: of the vector of all numbers.
    """

    kind: Literal["columns"]
    numbers: int = Field(ge=0)
    categories: tuple[Annotated[int, Field(ge=1)], ...] = ()
    category_width: int = Field(default=64, ge=1)
    number_width: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _has_columns(self) -> Self:
        if not (self.numbers or self.categories):
            raise ValueError("a table needs at least one column")
        return self


class ColumnsEncoder(RowEncoder):
    """An MLP over the embedded categories of a row, and one over its numbers."""

    config: ColumnsConfig

    def __init__(self, config: ColumnsConfig) -> None:
        super().__init__()
        self.config = config
        unit, dropout = config.category_width, config.dropout
        columns = len(config.categories)
        self.embeddings = nn.ModuleList(
            nn.Embedding(codes, embedding_width(codes)) for codes in config.categories
        )
        self.columns = nn.ModuleList(
            Unit(embedding_width(codes), unit, dropout) for codes in config.categories
        )
        self.together = nn.Sequential()
        if columns:
            self.together.append(Unit(columns * unit, columns * unit, dropout))
        if columns > 1:
            self.together.append(nn.Linear(columns * unit, unit))
        self.numbers = nn.Sequential()
        if config.numbers:
            self.numbers.append(Unit(config.numbers, config.number_width, dropout))
        self.apply(start)
        found = (bool(columns), unit), (bool(config.numbers), config.number_width)
        self.vectors = tuple(width for there, width in found if there)
        self.width = sum(self.vectors)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Encode table rows.

        Args:
            numbers: (R, M) float32, standardised; 0 where missing.
            categories: (R, K) int64 codes; 0 missing, 1 unknown.

        Returns:
            (R, 1, W): the vector of the categories, then that of the numbers.
        """
        found: list[Tensor] = []
        if len(self.embeddings):
            columns = [
                unit(embedding(categories[:, column]))
                for column, (embedding, unit) in enumerate(
                    zip(self.embeddings, self.columns, strict=True)
                )
            ]
            found.append(self.together(torch.cat(columns, dim=1)))
        if len(self.numbers):
            found.append(self.numbers(numbers))
        return torch.cat(found, dim=1)[:, None]

    def flops(self, arrays: Arrays) -> int:
        """See `Encoder.flops`."""
        layers = (each for each in self.modules() if isinstance(each, nn.Linear))
        return 2 * len(arrays["numbers"]) * sum(each.weight.numel() for each in layers)


def embedding_width(codes: int) -> int:
    """Return how long the embedding of a column of so many codes is: 2 to 100."""
    return int(max(2, min(100, 1.6 * codes**0.56)))


# ---- an MLP over all of them --------------------------------------------------------------------


class GluonMLPConfig(Schema):
    """Sizes of AutoGluon's `fusion_mlp`; the defaults are AutoGluon's.

    Attributes:
        width: D that all vectors are adapted to; None for that of the widest.
        hidden: E of the one hidden layer.
    """

    kind: Literal["autogluon-mlp"]
    width: int | None = Field(default=None, ge=1)
    hidden: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class GluonMLP(MarkedFuser):
    """The adapted vectors one after another, zeros for one that a case lacks, and a unit on top."""

    def __init__(self, config: GluonMLPConfig, encoders: Mapping[str, Encoder]) -> None:
        super().__init__(config.width or widest(encoders), encoders)
        self.gathered = config.hidden
        self.unit = Unit(self.places * self.inner, config.hidden, config.dropout)
        self.unit.apply(start)

    @staticmethod
    def projection(
        config: GluonMLPConfig, encoders: Mapping[str, Encoder], modality: Modality
    ) -> nn.Module:
        """See `Fuser.projection`."""
        return Marked(encoders, modality, _adapters(encoders, modality, config.width))

    def gather(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `Fuser.gather`."""
        vectors_BPD, _ = self.sort(tokens, mask)
        return self.unit(vectors_BPD.flatten(1))

    def flops(self, tokens: Mapping[str, Tensor]) -> int:
        """See `Fuser.flops`."""
        return 2 * len(sum_by_case(tokens)) * self.places * self.inner * self.gathered


# ---- a Transformer over all of them -------------------------------------------------------------


class GluonTransformerConfig(Schema):
    """Sizes of AutoGluon's `fusion_transformer`; the defaults are AutoGluon's.

    Attributes:
        width: D of a token, which all vectors are adapted to; None for that of the widest.
        feedforward: width of the gated layer.
    """

    kind: Literal["autogluon-transformer"]
    width: int | None = Field(default=None, ge=1)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=8, ge=1)
    feedforward: int = Field(default=192, ge=1)
    attention_dropout: float = Field(default=0.2, ge=0, lt=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class GluonTransformer(Fuser):
    """Lets the adapted vectors see one another and gathers them in a CLS token behind them.

    A vector that a case lacks is no token, so that nobody sees it.

    Raises:
        ConfigError: the width, which the encoders may decide, is not a multiple of heads.

    Source: Gorishniy et al. 2021 (FT-Transformer), which AutoGluon takes its blocks from.
    """

    pooled = True

    def __init__(self, config: GluonTransformerConfig, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.config = config
        self.width = self.gathered = config.width or widest(encoders)
        if self.width % config.heads:
            raise ConfigError(
                f"the token width, {self.width}, is not a multiple of heads",
                field="model.fusion.heads",
                seen=config.heads,
                accepted=f"a divisor of {self.width}, or another model.fusion.width",
            )
        self.cls_token = nn.Parameter(torch.empty(self.width))
        nn.init.uniform_(self.cls_token, -(self.width**-0.5), self.width**-0.5)
        self.layers = nn.ModuleList(
            GluonLayer(config, self.width, first=place == 0) for place in range(config.layers)
        )
        self.norm = nn.LayerNorm(self.width)

    @staticmethod
    def projection(
        config: GluonTransformerConfig, encoders: Mapping[str, Encoder], modality: Modality
    ) -> nn.Module:
        """See `Fuser.projection`."""
        return Pooled(encoders[modality], _adapters(encoders, modality, config.width))

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """See `Encoder.blocks`."""
        return list(self.layers)

    def gather(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `Fuser.gather`: the CLS token, normalised, without what is below 0."""
        cases = mask.shape[0]
        tokens_BND = torch.where(mask[..., None], tokens, 0.0)
        hidden_BSD = torch.cat([tokens_BND, self.cls_token.expand(cases, 1, -1)], dim=1)
        visible_BS = torch.cat([mask, mask.new_ones(cases, 1)], dim=1)
        visible_B1SS = visible_BS[:, None, None, :].expand(-1, 1, visible_BS.shape[1], -1)
        for layer in self.layers:
            hidden_BSD = layer(hidden_BSD, visible_B1SS)
        return functional.relu(self.norm(hidden_BSD[:, -1]))

    def flops(self, tokens: Mapping[str, Tensor]) -> int:
        """See `Fuser.flops`; the gated layer has a third matrix."""
        config, own = self.config, 1 + sum_by_case(tokens)
        plain = transformer_flops(
            own, width=self.width, feedforward=config.feedforward, layers=config.layers
        )
        gate = 2 * int(own.sum()) * self.width * config.feedforward
        return plain + config.layers * gate


class GluonLayer(nn.Module):
    """A Transformer layer: normalised before, gated; the first does not normalise for attention."""

    def __init__(self, config: GluonTransformerConfig, width: int, *, first: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_dropout = config.attention_dropout
        self.attention_norm = nn.Identity() if first else nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for each in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(each.bias)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = nn.Linear(width, 2 * config.feedforward)
        self.dropout = nn.Dropout(config.dropout)
        self.back = nn.Linear(config.feedforward, width)

    def forward(self, hidden_BSD: Tensor, visible_B1SS: Tensor) -> Tensor:
        """Return (B, S, D)."""
        normal_BSD = self.attention_norm(hidden_BSD)
        query_BHSE, key_BHSE, value_BHSE = (
            each(normal_BSD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        )
        context_BHSE = functional.scaled_dot_product_attention(
            query_BHSE,
            key_BHSE,
            value_BHSE,
            attn_mask=visible_B1SS,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        hidden_BSD = hidden_BSD + self.out(context_BHSE.transpose(1, 2).flatten(2))
        plain, gate = self.feed(self.feed_norm(hidden_BSD)).chunk(2, dim=-1)
        return hidden_BSD + self.back(self.dropout(plain * functional.gelu(gate)))


def _adapters(
    encoders: Mapping[str, Encoder], modality: Modality, width: int | None
) -> list[nn.Module]:
    """Return the linear maps of a modality's vectors to the common width."""
    common = width or widest(encoders)
    maps = [nn.Linear(each, common) for each in vectors(encoders[modality])]
    for each in maps:
        start(each)
    return [*maps]
