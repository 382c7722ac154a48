"""Text: a BERT encoder of notes, and masked language modelling to pretrain it.

Shapes: R row (one note), L token of a note, N token handed on, W width, n asked place, V word.
"""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from transformers import BertConfig, BertModel

from lanistr.model import losses, masking
from lanistr.model.encoder import Encoder, Pretext
from lanistr.model.flops import transformer_flops
from lanistr.model.tensors import Arrays, places, take
from lanistr.schema import Schema


class TextConfig(Schema):
    """Sizes of the text encoder; the defaults are BERT-base uncased.

    Attributes:
        max_tokens: longest note, in tokens with [CLS] and [SEP].
        tokens: what fusion sees of a note: its [CLS] vector, or every token.
        pooler: keep BERT's pooler, which nothing here depends on: for checkpoints that have it.
        lent: share of the layers, the last, that are not this encoder's but fusion's: see
            `lanistr.model.baselines.albef`.
        mask_ratio: share of a note's words that pretraining asks for.
        mlm_positions: the loss looks at the chosen words, or at every token that is no padding.

    Source: LANISTR paper, section 4 and Table 5.
    """

    vocab_size: int = Field(default=30522, ge=5)
    width: int = Field(default=768, ge=1)
    layers: int = Field(default=12, ge=1)
    heads: int = Field(default=12, ge=1)
    feedforward: int = Field(default=3072, ge=1)
    max_tokens: int = Field(default=512, ge=3)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    tokens: Literal["cls", "all"] = "cls"
    pooler: bool = False
    lent: float = Field(default=0.0, ge=0, lt=1)
    pad_id: int = 0
    cls_id: int = 101
    sep_id: int = 102
    mask_id: int = 103
    mask_ratio: float = Field(default=0.15, ge=0, le=1)
    mlm_positions: Literal["masked", "all"] = "masked"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if max(self.pad_id, self.cls_id, self.sep_id, self.mask_id) >= self.vocab_size:
            raise ValueError(f"a special token's id is not below vocab_size {self.vocab_size}")
        if self.lent and not 0 < self.lent_layers < self.layers:
            raise ValueError(f"lent={self.lent:g} of {self.layers} layers is none or all of them")
        return self

    @property
    def lent_layers(self) -> int:
        """How many of the layers fusion has."""
        return round(self.layers * self.lent)

    @property
    def own_layers(self) -> int:
        """How many the encoder has."""
        return self.layers - self.lent_layers


class TextEncoder(Encoder):
    """BERT over each note."""

    unused = ("bert.pooler",)

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.tokens = config.tokens
        self.averages = config.tokens == "cls"
        self.bert = BertModel(
            BertConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                num_hidden_layers=config.own_layers,
                num_attention_heads=config.heads,
                intermediate_size=config.feedforward,
                max_position_embeddings=config.max_tokens,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                pad_token_id=config.pad_id,
            ),
            add_pooling_layer=config.pooler,
        )

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """See `Encoder.blocks`."""
        return list(self.bert.encoder.layer)

    def example(self, rows: int) -> Arrays:
        """See `Encoder.example`."""
        token_ids = torch.zeros(rows, self.config.max_tokens, dtype=torch.int64)
        return {"token_ids": token_ids, "attention_mask": torch.ones_like(token_ids)}

    def drawn(self, rows: int, generator: Generator) -> Arrays:
        """See `Encoder.drawn`; no two notes are of one length, as long as there are lengths."""
        longest = min(rows + 15, self.config.max_tokens)
        lengths_R1 = torch.arange(longest, longest - rows, -1).clamp(min=1)[:, None]
        attention_mask_RL = torch.arange(longest) < lengths_R1
        shape = attention_mask_RL.shape
        token_ids_RL = torch.randint(self.config.vocab_size, shape, generator=generator)
        return {
            "token_ids": token_ids_RL.where(attention_mask_RL, self.config.pad_id),
            "attention_mask": attention_mask_RL.long(),
        }

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode notes.

        Args:
            token_ids: (R, L) int64, padded at the end.
            attention_mask: (R, L) int64, 1 for a token and 0 for padding.

        Returns:
            (R, N, W): N = 1, the vector of [CLS], or N = L.
        """
        return self.hand_on(self.hidden(token_ids, attention_mask))

    def hidden(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the vectors (R, L, W) of all tokens."""
        return self.bert(token_ids, attention_mask=attention_mask).last_hidden_state

    def hand_on(self, hidden_RLW: Tensor) -> Tensor:
        """Return the tokens (R, N, W) that fusion is to see."""
        return hidden_RLW[:, :1] if self.tokens == "cls" else hidden_RLW

    def flops(self, arrays: Arrays) -> int:
        """See `Encoder.flops`."""
        config = self.config
        return transformer_flops(
            arrays["attention_mask"].sum(dim=1),
            width=config.width,
            feedforward=config.feedforward,
            layers=config.own_layers,
        )

    def token_mask(self, **arrays: Tensor) -> Tensor | None:
        """Return (R, L) bool, False for padding, or None where only [CLS] is handed on."""
        return None if self.tokens == "cls" else arrays["attention_mask"].bool()


class TextPretext(Pretext):
    """Masked language modelling: name the words that were hidden in a note."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.transform = nn.Sequential(
            nn.Linear(config.width, config.width),
            nn.GELU(),
            nn.LayerNorm(config.width, eps=1e-12),
        )
        self.decoder = nn.Linear(config.width, config.vocab_size)

    def flops(self, arrays: Arrays) -> int:
        """Count the floating-point operations of naming words, as many as are asked on average."""
        config = self.config
        share = config.mask_ratio if config.mlm_positions == "masked" else 1.0
        asked = share * int(arrays["attention_mask"].sum())
        return round(2 * asked * config.width * (config.width + config.vocab_size))

    def forward(
        self, encoder: TextEncoder, arrays: Arrays, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Hide words, encode what is left.

        Returns:
            the loss and the tokens (R, N, W) of the spoilt notes.
        """
        token_ids_RL, attention_mask_RL = arrays["token_ids"], arrays["attention_mask"]
        spoilt_RL, chosen_RL = self.hide(arrays, generator)
        hidden_RLW = encoder.hidden(spoilt_RL, attention_mask_RL)
        # Gathered before the vocabulary, which would be the largest tensor of the whole step.
        masked_alone = self.config.mlm_positions == "masked"
        asked_n = places(chosen_RL if masked_alone else attention_mask_RL.bool())
        logits_nV = self.name(take(hidden_RLW, asked_n))
        loss = losses.masked_language(logits_nV, take(token_ids_RL, asked_n))
        return loss, encoder.hand_on(hidden_RLW)

    def name(self, hidden_nW: Tensor) -> Tensor:
        """Return the logits (n, V) of the words that vectors (n, W) stand for."""
        logits_nV: Tensor = self.decoder(self.transform(hidden_nW))
        return logits_nV

    def hide(self, arrays: Arrays, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return the spoilt ids (R, L) and the chosen places (R, L), no special token's."""
        config, token_ids_RL = self.config, arrays["token_ids"]
        special_RL = torch.zeros_like(token_ids_RL, dtype=torch.bool)
        for special in (config.pad_id, config.cls_id, config.sep_id):
            special_RL |= token_ids_RL == special
        return masking.draw_tokens(
            token_ids_RL,
            arrays["attention_mask"].bool() & ~special_RL,
            ratio=config.mask_ratio,
            mask_id=config.mask_id,
            vocab_size=config.vocab_size,
            generator=generator,
        )
