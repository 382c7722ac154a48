"""ALBEF: BERT's last layers look at the picture too.

Source: Li et al. 2021 (ALBEF), sections 3 and 4; salesforce/ALBEF, read for facts.

Shapes: R row of one modality, N token, W width of an encoder, B case, L word (of all notes of a
case), P token of a picture, D width of text, S = 1 + L.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertAttention, BertLayer

from lanistr.modalities import Modality
from lanistr.model.encoder import Encoder, Fuser
from lanistr.model.flops import transformer_flops
from lanistr.model.text import TextEncoder
from lanistr.schema import Schema


class AlbefConfig(Schema):
    """How ALBEF is pretrained; its layers are those that `TextConfig.lent` takes from BERT.

    Attributes:
        space: width of the vectors by which pictures and notes are compared.
        queue: cases before those of a step that these are compared with, too.
        momentum: share of the slow weights that a step leaves as it is.
        soft: share of what the slow weights say in what is to be learned; rises from 0 over the
            first epoch.
        temperature: of the comparison, at first: it is learned.

    Source: Li et al. 2021 (ALBEF), sections 3.3 and 4.
    """

    kind: Literal["albef"]
    space: int = Field(default=256, ge=1)
    queue: int = Field(default=65_536, ge=0)
    momentum: float = Field(default=0.995, ge=0, le=1)
    soft: float = Field(default=0.4, ge=0, le=1)
    temperature: float = Field(default=0.07, ge=0.001, le=0.5)


class Sides(NamedTuple):
    """What meets in fusion.

    Attributes:
        words: (B, L, D), the words of a case's notes, one note behind the other.
        there: (B, L) bool, False for padding.
        first: (B, L) bool, True for the [CLS] of each note.
        patches: (B, P, D), the picture's tokens.
        seen: (B, P) bool, False where there is no picture.
    """

    words: Tensor
    there: Tensor
    first: Tensor
    patches: Tensor
    seen: Tensor

    def paired(self, notes_n: Tensor, pictures_n: Tensor) -> Self:
        """Return the notes of some cases with the pictures of others, both by number (n,)."""
        words, pictures = self[:3], self[3:]
        return type(self)(
            *(each.index_select(0, notes_n) for each in words),
            *(each.index_select(0, pictures_n) for each in pictures),
        )


class Albef(Fuser):
    """The last layers of BERT, each with attention to the picture after that to the words.

    What a case lacks takes no part. Without a picture the layers are BERT's own, as if they had no
    second attention. Without a note zeros stand in the place of its [CLS]: what they become is what
    attention to the picture puts there, and nothing has to be learned for it.

    A fuser is given tokens and not told whose they are; so words carry a mark behind them, and the
    [CLS] of each note a second one.
    """

    def __init__(self, config: AlbefConfig, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.config = config
        sizes = _text(encoders).config
        self.inner = self.gathered = sizes.width
        self.width = sizes.width + _MARKS
        self.feedforward = sizes.feedforward
        bert = BertModel(
            BertConfig(
                vocab_size=1,  # its layers are all that is kept
                max_position_embeddings=1,
                hidden_size=sizes.width,
                num_hidden_layers=sizes.lent_layers,
                num_attention_heads=sizes.heads,
                intermediate_size=sizes.feedforward,
                hidden_dropout_prob=sizes.dropout,
                attention_probs_dropout_prob=sizes.dropout,
                is_decoder=True,  # the library's word for a second attention
                add_cross_attention=True,
            ),
            add_pooling_layer=False,
        )
        self.layers = bert.encoder.layer
        for layer in self.layers:
            layer.__class__ = AlbefLayer  # with the weights that the library gave it
        self._first = sizes.own_layers

    @staticmethod
    def projection(
        config: AlbefConfig, encoders: Mapping[str, Encoder], modality: Modality
    ) -> nn.Module:
        """See `Fuser.projection`: nothing but marks, unless the picture's width is another."""
        encoder, width = encoders[modality], _text(encoders).width
        mapped = nn.Identity() if encoder.width == width else nn.Linear(encoder.width, width)
        return nn.Sequential(mapped, (Words if isinstance(encoder, TextEncoder) else Patches)())

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The Transformer layers, as `Encoder.blocks`."""
        return list(self.layers)

    def continued(self, part: str) -> Mapping[str, str]:
        """See `Fuser.continued`: the layers of BERT that the text encoder has not."""
        last = {
            f"layers.{number}.{inner}": f"encoder.layer.{self._first + number}.{inner}"
            for number, layer in enumerate(self.layers)
            for inner, _ in layer.named_parameters()
            if not inner.startswith("crossattention.")
        }
        return {str(Modality.TEXT): last}.get(part, {})

    def gather(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `Fuser.gather`: the fused [CLS], the mean of them where there are several notes."""
        word_BN = mask & (tokens[..., self.inner] > 0.5)
        seen_BN = mask & ~word_BN
        # Places where no case has a word, or a patch: each side is as long as its longest case.
        words, patches = (each.any(dim=0).nonzero()[:, 0] for each in (word_BN, seen_BN))
        sides = self.sides(
            tokens.index_select(1, words),
            word_BN.index_select(1, words),
            tokens.index_select(1, patches),
            seen_BN.index_select(1, patches),
        )
        return self.speak(sides, self(sides))

    def sides(self, words: Tensor, there: Tensor, patches: Tensor, seen: Tensor) -> Sides:
        """Take the marks off words (B, L, D + 2) and patches (B, P, D + 2); masks as in `Sides`."""
        words_BLD = torch.where(there[..., None], words[..., : self.inner], 0.0)
        patches_BPD = torch.where(seen[..., None], patches[..., : self.inner], 0.0)
        first_BL = there & (words[..., self.inner + 1] > 0.5)
        return Sides(words_BLD, there, first_BL, patches_BPD, seen)

    def forward(self, sides: Sides) -> Tensor:
        """Return (B, 1 + L, D): what stands in for a note that is not there, then the words."""
        words_BLD, there_BL, first_BL, patches_BPD, seen_BP = sides
        nothing_B1D = words_BLD.new_zeros(words_BLD.shape[0], 1, self.inner)
        hidden_BSD = torch.cat([nothing_B1D, words_BLD], dim=1)
        visible_BS = torch.cat([_none(first_BL), there_BL], dim=1)
        # Attention to nothing is no number; its outcome is not looked at.
        patches_BPD = torch.cat([nothing_B1D.to(patches_BPD), patches_BPD], dim=1)
        blind_B1 = _none(seen_BP)
        seen_BP = torch.cat([blind_B1, seen_BP], dim=1)
        # Expanded, since onnxruntime's CPU attention takes no mask that it has to broadcast.
        asking = hidden_BSD.shape[1]
        visible_B1SS = visible_BS[:, None, None, :].expand(-1, 1, asking, -1)
        seen_B1SP = seen_BP[:, None, None, :].expand(-1, 1, asking, -1)
        for layer in self.layers:
            hidden_BSD = layer(
                hidden_BSD, visible_B1SS, patches_BPD, seen_B1SP, blind_B1[..., None]
            )
        return hidden_BSD

    def speak(self, sides: Sides, hidden_BSD: Tensor) -> Tensor:
        """Return (B, D), what stands for each case of what `forward` returned."""
        speaks_BS = torch.cat([_none(sides.first), sides.first], dim=1).to(hidden_BSD)
        shares_BS = speaks_BS / speaks_BS.sum(dim=1, keepdim=True)
        return (shares_BS[:, None] @ hidden_BSD)[:, 0]

    def flops(self, tokens: Mapping[str, Tensor]) -> int:
        """See `Fuser.flops`."""
        words_B, patches_B = tokens[Modality.TEXT], tokens[Modality.IMAGE]
        layers, width = len(self.layers), self.inner
        asking_B = words_B + (words_B == 0)
        alone = transformer_flops(
            asking_B, width=width, feedforward=self.feedforward, layers=layers
        )
        queries, keys = int(asking_B[patches_B > 0].sum()), int(patches_B.sum())
        pairs = int((asking_B * patches_B).sum())
        return alone + layers * (4 * width * width * (queries + keys) + 4 * width * pairs)


class AlbefLayer(BertLayer):
    """A layer of BERT with a second attention, which a case without a picture does not have."""

    def forward(
        self,
        hidden_BSD: Tensor,
        visible_B1SS: Tensor,
        patches_BPD: Tensor,
        seen_B1SP: Tensor,
        blind_B11: Tensor,
    ) -> Tensor:
        """Return (B, S, D); masks are True for what may be looked at, and for who sees nothing."""
        hidden_BSD = self._attend(self.attention, hidden_BSD, hidden_BSD, visible_B1SS)
        looked_BSD = self._attend(self.crossattention, hidden_BSD, patches_BPD, seen_B1SP)
        hidden_BSD = torch.where(blind_B11, hidden_BSD, looked_BSD)
        out_BSD: Tensor = self.feed_forward_chunk(hidden_BSD)
        return out_BSD

    def _attend(
        self, attention: BertAttention, asking_BSD: Tensor, asked_BKD: Tensor, mask_B1SK: Tensor
    ) -> Tensor:
        """Attend and add, as the library's module does, whose own way no graph can be made of.

        It asks for the number of words, which a graph does not know.
        """
        inner = attention.self
        query, key, value = (
            layer(given).unflatten(-1, (inner.num_attention_heads, -1)).transpose(1, 2)
            for layer, given in (
                (inner.query, asking_BSD),
                (inner.key, asked_BKD),
                (inner.value, asked_BKD),
            )
        )
        dropout = inner.dropout.p if self.training else 0.0
        found_BHSE = functional.scaled_dot_product_attention(query, key, value, mask_B1SK, dropout)
        out_BSD: Tensor = attention.output(found_BHSE.transpose(1, 2).flatten(2), asking_BSD)
        return out_BSD


# ---- marks --------------------------------------------------------------------------------------

_MARKS = 2


class Words(nn.Module):
    """Marks words."""

    def forward(self, tokens_RND: Tensor) -> Tensor:
        """Return (R, N, D + 2)."""
        first_N = torch.arange(tokens_RND.shape[1], device=tokens_RND.device) == 0
        marks_N2 = torch.stack([torch.ones_like(first_N), first_N], dim=1).to(tokens_RND)
        marks_RN2 = marks_N2[None].expand(tokens_RND.shape[0], -1, -1)
        return torch.cat([tokens_RND, marks_RN2], dim=-1)


class Patches(nn.Module):
    """Leaves the places of marks empty."""

    def forward(self, tokens_RND: Tensor) -> Tensor:
        """Return (R, N, D + 2)."""
        return functional.pad(tokens_RND, (0, _MARKS))


def _text(encoders: Mapping[str, Encoder]) -> TextEncoder:
    text = encoders[Modality.TEXT]
    assert isinstance(text, TextEncoder)
    return text


def _none(there: Tensor) -> Tensor:
    """Return (B, 1) bool, True where a row of (B, N) has nothing."""
    # Not by `any`, of which onnxruntime makes something where N is 0.
    return there.sum(dim=1, keepdim=True) == 0
