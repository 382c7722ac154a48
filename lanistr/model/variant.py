"""Where kinds of model differ: which parts they are made of, and how what the parts say is joined.

A part is of the kind that its config is of: LANISTR's, or that of a system it is compared with.

Shapes: B case, N token, D width of fusion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lanistr.modalities import Modality
from lanistr.model.baselines.albef import Albef, AlbefConfig
from lanistr.model.baselines.autogluon import (
    ColumnsConfig,
    ColumnsEncoder,
    GluonMLP,
    GluonMLPConfig,
    GluonTransformer,
    GluonTransformerConfig,
)
from lanistr.model.baselines.late_fusion import LateFusion, LateFusionConfig
from lanistr.model.baselines.medfuse import (
    LSTMConfig,
    LSTMEncoder,
    MedFuse,
    MedFuseConfig,
    ResNetConfig,
    ResNetEncoder,
)
from lanistr.model.encoder import Encoder, Fuser, Pretext
from lanistr.model.fusion import Fusion, FusionConfig
from lanistr.model.heads import Projector
from lanistr.model.image import ImageConfig, ImageEncoder, ImagePretext
from lanistr.model.tabular import TabularConfig, TabularEncoder, TabularPretext
from lanistr.model.tensors import TensorBatch
from lanistr.model.text import TextConfig, TextEncoder, TextPretext
from lanistr.model.timeseries import TimeseriesConfig, TimeseriesEncoder, TimeseriesPretext
from lanistr.schema import Schema


@dataclass(frozen=True, slots=True)
class Family:
    """What the model knows of a modality.

    Attributes:
        encoder: module from the modality's arrays to tokens.
        pretext: module that hides part of the arrays and has the encoder fill it in; None for an
            encoder that is not pretrained.
        loss: name of the pretext's loss.
    """

    encoder: Callable[[Any], Encoder]
    pretext: Callable[[Any], Pretext] | None = None
    loss: str = ""


FAMILIES: Mapping[type[Schema], Family] = {
    TextConfig: Family(TextEncoder, TextPretext, "mlm"),
    ImageConfig: Family(ImageEncoder, ImagePretext, "mim"),
    TabularConfig: Family(TabularEncoder, TabularPretext, "mfm"),
    TimeseriesConfig: Family(TimeseriesEncoder, TimeseriesPretext, "mtm"),
    ColumnsConfig: Family(ColumnsEncoder),
    ResNetConfig: Family(ResNetEncoder),
    LSTMConfig: Family(LSTMEncoder),
}
"""By kind of config."""

FUSERS: Mapping[type[Schema], type[Fuser]] = {
    FusionConfig: Fusion,
    LateFusionConfig: LateFusion,
    GluonMLPConfig: GluonMLP,
    GluonTransformerConfig: GluonTransformer,
    MedFuseConfig: MedFuse,
    AlbefConfig: Albef,
}
"""By kind of config."""


class Variant:
    """The model as the paper describes it: what is absent stays absent.

    Attributes:
        families: the parts of each modality.
        fusers, projector: the parts that all modalities share.
    """

    families: Mapping[type[Schema], Family] = FAMILIES
    fusers: Mapping[type[Schema], type[Fuser]] = FUSERS
    projector: type[Projector] = Projector

    def __init__(self, *, predicts: bool) -> None:
        self.predicts = predicts

    def complete(self, batch: TensorBatch, encoders: Mapping[str, nn.Module]) -> TensorBatch:
        """Return the batch that is encoded for a batch: itself, if nothing has to be added."""
        return batch

    def normalise(self, modality: Modality, tokens_BND: Tensor) -> Tensor:
        """Return a modality's tokens as fusion is to get them; several rows are averaged before."""
        return tokens_BND
