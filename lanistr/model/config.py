"""The sizes of the whole model, and of what kind each part is."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lanistr.modalities import Modality
from lanistr.model.baselines.albef import AlbefConfig
from lanistr.model.baselines.autogluon import (
    ColumnsConfig,
    GluonMLPConfig,
    GluonTransformerConfig,
)
from lanistr.model.baselines.late_fusion import LateFusionConfig
from lanistr.model.baselines.medfuse import LSTMConfig, MedFuseConfig, ResNetConfig
from lanistr.model.fusion import FusionConfig
from lanistr.model.heads import HeadConfig, SimMMMConfig, SummaryConfig
from lanistr.model.image import ImageConfig
from lanistr.model.tabular import TabularConfig
from lanistr.model.text import TextConfig
from lanistr.model.timeseries import TimeseriesConfig
from lanistr.schema import Schema, usual_kind


class LanistrConfig(Schema):
    """The whole model.

    Attributes:
        text, image, tabular, timeseries: sizes of the encoders; None where the model has none.
        fusion: of what joins them. The baselines of the paper have kinds of their own, here and
            among the encoders; where no `kind` is said it is LANISTR's.
        head: None for a model that is pretrained or only embeds.
        unimodal: whether each encoder has a linear head of its own, which learns the task from its
            pooled token alone.
        simmmm: None for pretraining without it, which spares the unmasked pass.
        summary: None for pretraining without summary modelling, as in the paper.
        compat: "release" computes as the research release did, see `lanistr.model.release`; for
            checkpoints that were trained with it (`training.convert`), not for new models.
    """

    text: TextConfig | None = None
    image: (
        Annotated[ImageConfig | ResNetConfig, Field(discriminator="kind"), usual_kind("vit")] | None
    ) = None
    tabular: (
        Annotated[TabularConfig | ColumnsConfig, Field(discriminator="kind"), usual_kind("tabnet")]
        | None
    ) = None
    timeseries: (
        Annotated[
            TimeseriesConfig | LSTMConfig, Field(discriminator="kind"), usual_kind("transformer")
        ]
        | None
    ) = None
    fusion: Annotated[
        FusionConfig
        | LateFusionConfig
        | GluonMLPConfig
        | GluonTransformerConfig
        | MedFuseConfig
        | AlbefConfig,
        Field(discriminator="kind"),
        usual_kind("transformer"),
    ] = FusionConfig()
    head: HeadConfig | None = None
    unimodal: bool = False
    simmmm: SimMMMConfig | None = SimMMMConfig()
    summary: SummaryConfig | None = None
    compat: Literal["release"] | None = None

    @model_validator(mode="after")
    def _has_encoders(self) -> Self:
        if not self.modalities:
            raise ValueError("a model needs at least one of " + ", ".join(Modality))
        return self

    @model_validator(mode="after")
    def _has_what_albef_fuses(self) -> Self:
        text = self.text
        if isinstance(self.fusion, AlbefConfig):
            given = ", ".join(self.modalities)
            if text is None or self.image is None or len(self.modalities) > 2:
                raise ValueError(f"ALBEF fuses text and image, but this model has {given}")
            if not text.lent or text.tokens != "all":
                raise ValueError(
                    "ALBEF needs layers of the text encoder (text.lent) and text.tokens=all"
                )
        elif text and text.lent:
            raise ValueError(
                "this fusion does not use layers of the text encoder: text.lent must be 0"
            )
        return self

    @model_validator(mode="after")
    def _is_what_the_release_had(self) -> Self:
        if self.compat == "release":
            if not isinstance(self.fusion, FusionConfig):
                raise ValueError("the release fuses with a Transformer")
            if self.fusion.shortcut:
                raise ValueError("in the release nothing goes past fusion: no fusion.shortcut")
            if self.text and self.text.tokens != "cls":
                raise ValueError("the release fuses only a note's [CLS]")
            simmmm = self.simmmm
            usual = simmmm and SimMMMConfig(width=simmmm.width, bottleneck=simmmm.bottleneck)
            if simmmm != usual:
                raise ValueError(
                    "the release's SimMMM loss compares every token of every case, "
                    "without normalization"
                )
        return self

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that the model has an encoder for, in canonical order."""
        return tuple(each for each in Modality if getattr(self, each) is not None)
