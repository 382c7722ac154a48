"""Where kinds of model differ: which parts they are made of, and how what the parts say is joined.

Shapes: B case, N token, D width of fusion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lanistr.modalities import Modality
from lanistr.model.encoder import Encoder, Pretext
from lanistr.model.fusion import Fusion
from lanistr.model.heads import Projector
from lanistr.model.image import ImageEncoder, ImagePretext
from lanistr.model.tabular import TabularEncoder, TabularPretext
from lanistr.model.tensors import TensorBatch
from lanistr.model.text import TextEncoder, TextPretext
from lanistr.model.timeseries import TimeseriesEncoder, TimeseriesPretext


@dataclass(frozen=True, slots=True)
class Family:
    """What the model knows of a modality.

    Attributes:
        encoder: module from the modality's arrays to tokens.
        pretext: module that hides part of the arrays and has the encoder fill it in.
        loss: name of the pretext's loss.
    """

    encoder: Callable[[Any], Encoder]
    pretext: Callable[[Any], Pretext]
    loss: str


FAMILIES: Mapping[Modality, Family] = {
    Modality.TEXT: Family(TextEncoder, TextPretext, "mlm"),
    Modality.IMAGE: Family(ImageEncoder, ImagePretext, "mim"),
    Modality.TABULAR: Family(TabularEncoder, TabularPretext, "mfm"),
    Modality.TIMESERIES: Family(TimeseriesEncoder, TimeseriesPretext, "mtm"),
}


class Variant:
    """The model as the paper describes it: what is absent stays absent.

    Attributes:
        families: the parts of each modality.
        fusion, projector: the parts that all modalities share.
    """

    families: Mapping[Modality, Family] = FAMILIES
    fusion: type[Fusion] = Fusion
    projector: type[Projector] = Projector

    def __init__(self, *, predicts: bool) -> None:
        self.predicts = predicts

    def complete(self, batch: TensorBatch, encoders: Mapping[str, nn.Module]) -> TensorBatch:
        """Return the batch that is encoded for a batch: itself, if nothing has to be added."""
        return batch

    def settle(self, modality: Modality, tokens_BND: Tensor) -> Tensor:
        """Return a modality's tokens as fusion is to get them; several rows are averaged before."""
        return tokens_BND
