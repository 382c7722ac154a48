"""Fusion: one Transformer over the tokens of every modality a case brings.

FLAVA's multimodal encoder as transformers has it (pre-norm, its own CLS), with torch's fused
attention put in: the library's builds a B x heads x S x S matrix in every layer.

Shapes: B case, N token, S = 1 + N (CLS in front), D width, H head, E = D / H.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from transformers import FlavaMultimodalConfig, FlavaMultimodalModel
from transformers.models.flava.modeling_flava import FlavaLayer, FlavaSelfAttention

from lanistr.modalities import Modality
from lanistr.model.encoder import Encoder, Fuser
from lanistr.model.flops import sum_by_case, transformer_flops
from lanistr.model.heads import MarkedProjection, Projection
from lanistr.model.shortcut import ShortcutConfig
from lanistr.schema import Schema

_MARKED = 0.5
"""Between the marks 0 and 1, see `MarkedProjection`, whatever narrow numbers make of them."""


class FusionConfig(Schema):
    """Sizes of fusion; the defaults are FLAVA's.

    Attributes:
        width: D of the tokens, which every modality is projected to.
        pooler: keep FLAVA's pooler, which nothing here depends on: for checkpoints that have it.
        shortcut: of what leads figures of rows and series past fusion to the head; None for the
            paper's model.

    Source: LANISTR paper, section 4.
    """

    kind: Literal["transformer"] = "transformer"
    width: int = Field(default=768, ge=1)
    layers: int = Field(default=6, ge=1)
    heads: int = Field(default=12, ge=1)
    feedforward: int = Field(default=3072, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    pooler: bool = False
    shortcut: ShortcutConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Fusion(Fuser):
    """Lets the tokens of a case see one another and gathers them in a CLS token.

    Where encoders have shortcuts, tokens have one feature more, which marks those that go past
    fusion (`MarkedProjection`); what is gathered is then the CLS token and the sum of these.
    """

    unused = ("flava.pooler",)

    def __init__(self, config: FusionConfig, encoders: Mapping[str, Encoder] = {}) -> None:
        super().__init__()
        self.config = config
        self.shortcut = config.width if _have_shortcuts(encoders) else 0
        self.width = config.width + 1 if self.shortcut else config.width
        self.gathered = config.width + self.shortcut
        flava = FlavaMultimodalConfig(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.feedforward,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
        self.flava = FlavaMultimodalModel(flava, add_pooling_layer=config.pooler)
        # The library starts it at 0, where the first layer norm's slope is 1e6: one step's
        # gradient would be all the CLS token's.
        nn.init.normal_(self.flava.cls_token, std=flava.initializer_range)
        for layer in self.flava.encoder.layer:
            fused = FusedAttention(flava)
            fused.load_state_dict(layer.attention.attention.state_dict())
            layer.attention.attention = fused
            layer.__class__ = FusionLayer  # with the weights that the library gave it

    @staticmethod
    def projection(
        config: FusionConfig, encoders: Mapping[str, Encoder], modality: Modality
    ) -> nn.Module:
        """See `Fuser.projection`."""
        own = encoders[modality]
        if _have_shortcuts(encoders):
            return MarkedProjection(own.width, config.width, own.shortcuts)
        return Projection(own.width, config.width)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The Transformer layers, as `Encoder.blocks`."""
        return list(self.flava.encoder.layer)

    def gather(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `Fuser.gather`: the CLS token (B, D), and what goes past fusion (B, D)."""
        cls_BD = self(tokens, mask, cls_only=True)[:, 0]
        if not self.shortcut:
            return cls_BD
        marked_BN1 = (mask & ~self.fused(tokens, mask))[..., None]
        marked_BD = torch.where(marked_BN1, tokens[..., :-1], 0.0).sum(dim=1)
        return torch.cat([cls_BD, marked_BD], dim=1)

    def embedding(self, gathered_BE: Tensor) -> Tensor:
        """See `Fuser.embedding`; both parts count alike, whatever their units."""
        if not self.shortcut:
            return super().embedding(gathered_BE)
        parts = (functional.normalize(each, dim=-1) for each in gathered_BE.chunk(2, dim=-1))
        return super().embedding(torch.cat(list(parts), dim=-1))

    def fused(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (B, N) bool, True for a token that is there and does not go past fusion."""
        return mask & (tokens[..., -1] < _MARKED) if self.shortcut else mask

    def flops(self, tokens: Mapping[str, Tensor], *, cls_only: bool = True) -> int:
        """See `Fuser.flops`; without `cls_only` the last layer is computed for all tokens."""
        config = self.config
        return transformer_flops(
            1 + sum_by_case(tokens),
            width=config.width,
            feedforward=config.feedforward,
            layers=config.layers,
            cls_only=cls_only,
        )

    def forward(self, tokens: Tensor, mask: Tensor, *, cls_only: bool = False) -> Tensor:
        """Fuse the tokens of each case.

        Args:
            tokens: (B, N, D) in canonical order of modality, or (B, N, D + 1) where they are
                marked; N may be 0. Any length of vector: each is L2-normalised over its D features
                here.
            mask: (B, N) bool, True for a token that is there. What stands at other places
                changes nothing.
            cls_only: compute the last layer for the CLS token alone.

        Returns:
            (B, 1 + N, D): CLS, then the tokens; what stands at masked places means nothing. With
            `cls_only` (B, 1, D).

        Source: LANISTR paper, section 3.2.
        """
        if self.shortcut:
            mask = self.fused(tokens, mask)
            tokens = tokens[..., :-1]
        tokens_BND = functional.normalize(torch.where(mask[..., None], tokens, 0.0), dim=-1)
        cls_B1D = self.flava.cls_token.expand(mask.shape[0], -1, -1)
        hidden_BSD = torch.cat([cls_B1D, tokens_BND], dim=1)
        visible_BS = torch.cat([mask.new_ones(mask.shape[0], 1), mask], dim=1)
        # Expanded, since onnxruntime's CPU attention takes no mask that it has to broadcast.
        visible_B1SS = visible_BS[:, None, None, :].expand(-1, 1, visible_BS.shape[1], -1)
        *layers, last = self.flava.encoder.layer
        for layer in layers:
            (hidden_BSD,) = layer(hidden_BSD, visible_B1SS)
        (hidden_BSD,) = last(hidden_BSD, visible_B1SS, cls_only=cls_only)
        return self.flava.layernorm(hidden_BSD)


def _have_shortcuts(encoders: Mapping[str, Encoder]) -> bool:
    return any(each.shortcuts for each in encoders.values())


class FusionLayer(FlavaLayer):
    """A layer of FLAVA that can be computed for the CLS token alone."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
        *,
        cls_only: bool = False,
    ) -> tuple[Tensor]:
        """Return (B, S, D), or (B, 1, D) for `cls_only`; arguments as in `FusedAttention`."""
        if not cls_only:
            (hidden_BSD,) = super().forward(hidden_states, attention_mask, output_attentions)
            return (hidden_BSD,)
        visible_B11S = None if attention_mask is None else attention_mask[:, :, :1]
        cls_B1D = hidden_states[:, :1]
        context_B1D = self.attention.attention.attend(
            self.layernorm_before(hidden_states), visible_B11S, queries=1
        )
        cls_B1D = self.attention.output(context_B1D, cls_B1D) + cls_B1D
        return (self.output(self.intermediate(self.layernorm_after(cls_B1D)), cls_B1D),)


class FusedAttention(FlavaSelfAttention):
    """FLAVA's self-attention, computed by torch's fused operator."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor]:
        """Attend.

        Args:
            hidden_states: (B, S, D).
            attention_mask: (B, 1, S, S) bool, True where a token may be looked at.
            output_attentions: not to be had: the weights are never formed.
        """
        assert not output_attentions
        return (self.attend(hidden_states, attention_mask),)

    def attend(
        self, hidden_BSD: Tensor, visible_B1QS: Tensor | None, queries: int | None = None
    ) -> Tensor:
        """Return (B, Q, D), what the first `queries` of the tokens, or all, find in all of them."""
        query_BHQE = self._heads(self.query(hidden_BSD[:, :queries]))
        key_BHSE, value_BHSE = (self._heads(each(hidden_BSD)) for each in (self.key, self.value))
        context_BHQE = functional.scaled_dot_product_attention(
            query_BHQE,
            key_BHSE,
            value_BHSE,
            attn_mask=visible_B1QS,
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return context_BHQE.transpose(1, 2).flatten(2)

    def _heads(self, given_BSD: Tensor) -> Tensor:
        split = (*given_BSD.shape[:-1], self.num_attention_heads, self.attention_head_size)
        return given_BSD.view(split).transpose(1, 2)
