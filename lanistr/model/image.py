"""Image: a vision transformer, and masked image modelling to pretrain it.

Shapes: R row (one picture), S side in pixels, P patch, N = 1 + P token, W width, n hidden patch,
Q = 3 * patch * patch value of a patch (channel, row, column).
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTModel

from lanistr.model import losses, masking
from lanistr.model.encoder import Encoder
from lanistr.model.tensors import Arrays
from lanistr.schema import Schema


class ImageConfig(Schema):
    """Sizes of the image encoder; the defaults are ViT-B/16 at 224 pixels.

    Attributes:
        size: side of the square picture, in pixels.
        patch: side of a patch, in pixels.
        pooler: keep ViT's pooler, which nothing here depends on: for checkpoints that have it.
        mask_ratio: share of the patches that pretraining hides.
        scale: how bytes become numbers: "half" from -1 to 1, as google/vit-base-patch16-224 takes
            them, or "imagenet" by ImageNet's means and deviations, as the release took Amazon's.

    Source: LANISTR paper, section 4 and Table 5.
    """

    size: int = Field(default=224, ge=1)
    patch: int = Field(default=16, ge=1)
    width: int = Field(default=768, ge=1)
    layers: int = Field(default=12, ge=1)
    heads: int = Field(default=12, ge=1)
    feedforward: int = Field(default=3072, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    pooler: bool = False
    mask_ratio: float = Field(default=0.5, ge=0, le=1)
    scale: Literal["half", "imagenet"] = "half"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not a multiple of patch {self.patch}")
        return self

    @property
    def patches(self) -> int:
        """Number of patches P of a picture."""
        return (self.size // self.patch) ** 2


class ImageEncoder(Encoder):
    """ViT over each picture."""

    unused = ("vit.pooler",)

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
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
            ),
            add_pooling_layer=config.pooler,
            use_mask_token=True,
        )

    def example(self, rows: int) -> Arrays:
        """See `Encoder.example`."""
        size = self.config.size
        return {"pixels": torch.zeros(rows, 3, size, size, dtype=torch.uint8)}

    def forward(self, pixels: Tensor, hidden_RP: Tensor | None = None) -> Tensor:
        """Encode pictures.

        Args:
            pixels: (R, 3, S, S) uint8, RGB.
            hidden_RP: (R, P) bool; the mask token stands in for patches where it is True.

        Returns:
            (R, 1 + P, W): the picture's CLS, then its patches row by row.
        """
        normal = self.normalise(pixels)
        return self.vit(normal, bool_masked_pos=hidden_RP).last_hidden_state

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return the pixels (..., 3, S, S) as float32, scaled as the config says.

        Source: the image processor of `google/vit-base-patch16-224`, from -1 to 1; for
        "imagenet", torchvision's constants.
        """
        if self.config.scale == "half":
            return pixels.float() / 127.5 - 1
        mean, deviation = (
            torch.tensor(each, device=pixels.device)[:, None, None] for each in _IMAGENET
        )
        return (pixels.float() / 255 - mean) / deviation


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue."""


class ImagePretext(nn.Module):
    """Masked image modelling: paint the patches that were hidden in a picture."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.config = config
        # As wide as SimMIM's 1x1 convolution followed by a pixel shuffle, and in its order.
        self.decoder = nn.Linear(config.width, 3 * config.patch**2)

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
        painted_nQ = self.decoder(tokens_RNW[:, 1:][hidden_RP])
        patches_RPQ = functional.unfold(
            encoder.normalise(pixels), kernel_size=config.patch, stride=config.patch
        ).transpose(1, 2)
        return losses.masked_image(painted_nQ, patches_RPQ[hidden_RP]), tokens_RNW
