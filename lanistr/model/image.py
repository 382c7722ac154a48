"""Image: a vision transformer, and masked image modelling to pretrain it.

Shapes: R row (one picture), C channel, S side in pixels, P patch, N = 1 + P token, W width,
n hidden patch, Q = 3 * patch * patch value of a patch (channel, row, column).
"""

from collections.abc import Sequence
from typing import Literal, Protocol, Self

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTModel

from lanistr.model import losses, masking
from lanistr.model.encoder import Encoder, Pretext
from lanistr.model.flops import transformer_flops
from lanistr.model.tensors import Arrays, places, take
from lanistr.schema import Schema


class ImageConfig(Schema):
    """Sizes of the image encoder; the defaults are ViT-B/16 at 224 pixels.

    Attributes:
        size: side of the square picture, in pixels.
        patch: side of a patch, in pixels.
        pooler: keep ViT's pooler, which nothing here depends on: for checkpoints that have it.
        mask_ratio: share of the patches that pretraining hides.
        norm_eps: what layer norms add to the variance.
        mean, std: of the channels R, G, B from 0 to 1, which pixels are normalised by.

    Source: LANISTR paper, section 4 and Table 5.
    """

    kind: Literal["vit"] = "vit"
    size: int = Field(default=224, ge=1)
    patch: int = Field(default=16, ge=1)
    width: int = Field(default=768, ge=1)
    layers: int = Field(default=12, ge=1)
    heads: int = Field(default=12, ge=1)
    feedforward: int = Field(default=3072, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    pooler: bool = False
    mask_ratio: float = Field(default=0.5, ge=0, le=1)
    norm_eps: float = Field(default=1e-12, gt=0)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not a multiple of patch {self.patch}")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} is not positive")
        return self

    @property
    def patches(self) -> int:
        """Number of patches P of a picture."""
        return (self.size // self.patch) ** 2


class Square(Protocol):
    """What configs of encoders of pictures say of these, see `ImageConfig`."""

    @property
    def size(self) -> int:
        """Side S of a picture."""
        ...


class PictureEncoder(Encoder):
    """An encoder of pictures, whatever it makes of them."""

    config: Square

    def example(self, rows: int) -> Arrays:
        """See `Encoder.example`."""
        size = self.config.size
        return {"pixels": torch.zeros(rows, 3, size, size, dtype=torch.uint8)}

    def drawn(self, rows: int, generator: Generator) -> Arrays:
        """See `Encoder.drawn`."""
        shape = (rows, 3, self.config.size, self.config.size)
        return {"pixels": torch.randint(256, shape, generator=generator, dtype=torch.uint8)}


class ImageEncoder(PictureEncoder):
    """ViT over each picture."""

    config: ImageConfig

    unused = ("vit.pooler",)

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.handed_on = 1 + config.patches
        self.vit = ViTModel(
            ViTConfig(
                image_size=config.size,
                patch_size=config.patch,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.feedforward,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                layer_norm_eps=config.norm_eps,
            ),
            add_pooling_layer=config.pooler,
            use_mask_token=True,
        )
        # The config holds these figures, so files of weights need not.
        self.scale_C11: Tensor
        self.shift_C11: Tensor
        mean_C11, std_C11 = (
            torch.tensor(each)[:, None, None] for each in (config.mean, config.std)
        )
        self.register_buffer("scale_C11", 255 * std_C11, persistent=False)
        self.register_buffer("shift_C11", mean_C11 / std_C11, persistent=False)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """See `Encoder.blocks`."""
        return list(self.vit.layers)

    def forward(self, pixels: Tensor, hidden_RP: Tensor | None = None) -> Tensor:
        """Encode pictures.

        Args:
            pixels: (R, 3, S, S) uint8, RGB.
            hidden_RP: (R, P) bool; the mask token stands in for patches where it is True.

        Returns:
            (R, 1 + P, W): the picture's CLS, then its patches row by row.
        """
        hidden_RNW = self.vit.embeddings(self.normalise(pixels), bool_masked_pos=hidden_RP)
        # The library's own forward records a mask of ones in graphs, with which a GPU's attention
        # is several times slower.
        for layer in self.vit.layers:
            hidden_RNW = layer(hidden_RNW)
        return self.vit.layernorm(hidden_RNW)

    def flops(self, arrays: Arrays) -> int:
        """See `Encoder.flops`."""
        config, rows = self.config, len(arrays["pixels"])
        patches = 2 * rows * config.patches * 3 * config.patch**2 * config.width
        return patches + transformer_flops(
            torch.full((rows,), 1 + config.patches),
            width=config.width,
            feedforward=config.feedforward,
            layers=config.layers,
        )

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return the pixels (R, 3, S, S) as float32 of the config's mean 0 and deviation 1.

        Source: the default, from -1 to 1, is that of `google/vit-base-patch16-224`.
        """
        return pixels.float() / self.scale_C11 - self.shift_C11


class ImagePretext(Pretext):
    """Masked image modelling: paint the patches that were hidden in a picture."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        # As wide as SimMIM's 1x1 convolution followed by a pixel shuffle, and in its order.
        self.decoder = nn.Linear(config.width, 3 * config.patch**2)

    def flops(self, arrays: Arrays) -> int:
        """Count the floating-point operations of painting the hidden patches."""
        config = self.config
        hidden = len(arrays["pixels"]) * round(config.mask_ratio * config.patches)
        return 2 * hidden * config.width * 3 * config.patch**2

    def forward(
        self, encoder: ImageEncoder, arrays: Arrays, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Hide patches, encode what is left.

        Returns:
            the loss and the tokens (R, 1 + P, W) of the pictures with hidden patches.
        """
        config, pixels = self.config, arrays["pixels"]
        hidden_RP = masking.draw_patches(
            len(pixels), config.patches, ratio=config.mask_ratio, generator=generator
        ).to(pixels.device)
        tokens_RNW = encoder(pixels, hidden_RP)
        hidden_n = places(hidden_RP)
        painted_nQ = self.decoder(take(tokens_RNW[:, 1:], hidden_n))
        patches_RPQ = functional.unfold(
            encoder.normalise(pixels), kernel_size=config.patch, stride=config.patch
        ).transpose(1, 2)
        return losses.masked_image(painted_nQ, take(patches_RPQ, hidden_n)), tokens_RNW
