"""MedFuse: a ResNet, an LSTM over the series, and an LSTM over whatever vectors a case brings.

Source: Hayat et al. 2022 (MedFuse), sections 3 and 4; sizes as in nyuad-cai/MedFuse.

Shapes: R row of one modality, S side in pixels, T step, F column of values, B case, P place
of a vector, D width of a projected vector, E of what is gathered.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet

from lanistr.modalities import Modality
from lanistr.model.baselines.pooled import Marked, MarkedFuser, vectors
from lanistr.model.encoder import Encoder
from lanistr.model.flops import sum_by_case
from lanistr.model.image import PictureEncoder
from lanistr.model.tensors import Arrays
from lanistr.model.timeseries import SeriesEncoder
from lanistr.schema import Schema

Blocks = Annotated[int, Field(ge=1)]


# ---- pictures -----------------------------------------------------------------------------------


class ResNetConfig(Schema):
    """Sizes of the picture encoder; the defaults are ResNet-34's.

    Attributes:
        size: side of the square picture, in pixels.
        layers: residual blocks of each of the four stages.
        mean, std: of the channels R, G, B from 0 to 1, which pixels are normalised by.
    """

    kind: Literal["resnet"]
    size: int = Field(default=224, ge=1)
    layers: tuple[Blocks, Blocks, Blocks, Blocks] = (3, 4, 6, 3)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class ResNetEncoder(PictureEncoder):
    """torchvision's ResNet without its classifier: one vector a picture."""

    config: ResNetConfig
    width = 512

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = ResNet(BasicBlock, list(config.layers), norm_layer=BatchNorm)
        self.trunk.fc = nn.Identity()
        mean_C11, std_C11 = (
            255 * torch.tensor(each)[:, None, None] for each in (config.mean, config.std)
        )
        self.mean_C11: Tensor
        self.std_C11: Tensor
        self.register_buffer("mean_C11", mean_C11, persistent=False)
        self.register_buffer("std_C11", std_C11, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pictures (R, 3, S, S) uint8, RGB; return (R, 1, 512)."""
        return self.trunk((pixels.float() - self.mean_C11) / self.std_C11)[:, None]

    def flops(self, arrays: Arrays) -> int:
        """See `Encoder.flops`: of the convolutions, by the sides of what they make."""
        side, total = -(-self.config.size // 2), 2 * 64 * 3 * 49  # the stem's, by place
        total *= side * side
        side = -(-side // 2)
        for number, stage in enumerate(f"layer{n}" for n in (1, 2, 3, 4)):
            side = -(-side // 2) if number else side
            kernels = (
                each.weight.numel()
                for each in self.trunk.get_submodule(stage).modules()
                if isinstance(each, nn.Conv2d)
            )
            total += 2 * side * side * sum(kernels)
        return len(arrays["pixels"]) * total


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes a single picture too, whose spread is not that of pictures.

    In training it is then normalised by the running statistics, and leaves them as they are: it may
    be an empty one, see `Lanistr.empty_rows`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (R, C, H, W) by channel."""
        if not self.training or len(x) > 1:
            return super().forward(x)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


# ---- series -------------------------------------------------------------------------------------


class LSTMConfig(Schema):
    """Sizes of the series encoder; the defaults are MedFuse's.

    Attributes:
        features, steps: as in `lanistr.model.timeseries.TimeseriesConfig`.
        groups, measured: likewise, and not looked at here.
        width: of each layer's state.
    """

    kind: Literal["lstm"]
    features: int = Field(ge=1)
    steps: int = Field(ge=1)
    groups: tuple[tuple[int, ...], ...] = ()
    measured: tuple[int, ...] = ()
    width: int = Field(default=256, ge=1)
    layers: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)


class LSTMEncoder(SeriesEncoder):
    """What an LSTM remembers after the last step of a series."""

    config: LSTMConfig

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(
            config.features, config.width, config.layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Encode series (R, T, F) float32; return (R, 1, W)."""
        remembered_RTW, _ = self.lstm(values)
        return self.dropout(remembered_RTW[:, -1:])

    def flops(self, arrays: Arrays) -> int:
        """See `Encoder.flops`."""
        matrices = sum(each.numel() for each in self.lstm.parameters() if each.ndim == 2)
        return 2 * len(arrays["values"]) * self.config.steps * matrices


# ---- all of them --------------------------------------------------------------------------------


class MedFuseConfig(Schema):
    """Sizes of MedFuse's fusion; the defaults are the published ones.

    Attributes:
        width: D of the vectors that the LSTM takes; an encoder of this width needs no projection.
        hidden: E, the width of the LSTM's state.
    """

    kind: Literal["medfuse"]
    width: int = Field(default=256, ge=1)
    hidden: int = Field(default=512, ge=1)


class MedFuse(MarkedFuser):
    """An LSTM over the vectors that a case brings: the series first, then the picture.

    As many steps are taken as there are vectors, so that nothing stands in for what is lacking. Of
    a case that brings nothing the state is 0.
    """

    def __init__(self, config: MedFuseConfig, encoders: Mapping[str, Encoder]) -> None:
        super().__init__(config.width, encoders)
        self.gathered = config.hidden
        self.cell = nn.LSTMCell(config.width, config.hidden)

    @staticmethod
    def projection(
        config: MedFuseConfig, encoders: Mapping[str, Encoder], modality: Modality
    ) -> nn.Module:
        """See `Fuser.projection`."""
        maps = [
            nn.Identity() if each == config.width else nn.Linear(each, config.width)
            for each in vectors(encoders[modality])
        ]
        return Marked(encoders, modality, maps)

    def gather(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `Fuser.gather`: the state after the last vector."""
        vectors_BPD, there_BP = self.sort(tokens, mask)
        # Not `len`, which a recording takes for a constant.
        hidden_BE = memory_BE = vectors_BPD.new_zeros(vectors_BPD.shape[0], self.gathered)
        # What stands last in canonical order comes first.
        for vector_BD, there_B in zip(
            reversed(vectors_BPD.unbind(1)), reversed(there_BP.unbind(1)), strict=True
        ):
            before = hidden_BE, memory_BE
            after = self.cell(vector_BD, before)
            hidden_BE, memory_BE = (
                torch.where(there_B[:, None], new, old)
                for new, old in zip(after, before, strict=True)
            )
        return hidden_BE

    def flops(self, tokens: Mapping[str, Tensor]) -> int:
        """See `Fuser.flops`."""
        matrices = sum(each.numel() for each in self.cell.parameters() if each.ndim == 2)
        return 2 * int(sum_by_case(tokens).sum()) * matrices
