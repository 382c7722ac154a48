"""LateFusion: each modality is pooled by itself, only then are all of them looked at together.

Shapes: B case, P place of a modality, D width of a projected vector, E of what is gathered.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from lanistr.modalities import Modality
from lanistr.model.baselines.pooled import Marked, MarkedFuser, vectors, widest
from lanistr.model.encoder import Encoder
from lanistr.model.flops import sum_by_case
from lanistr.model.heads import Projection
from lanistr.schema import Schema


class LateFusionConfig(Schema):
    """Sizes of LateFusion.

    Attributes:
        width: of each modality's projection; None for that of the widest encoder.
        hidden: of the vector made of all of them; None for `width`.

    Source: LANISTR paper, section 5 (baselines), which gives no sizes but the encoders'.
    """

    kind: Literal["late-fusion"]
    width: int | None = Field(default=None, ge=1)
    hidden: int | None = Field(default=None, ge=1)


class LateFusion(MarkedFuser):
    """The pooled vectors of all modalities, one after another, and a layer over them.

    In the place of a modality that a case lacks stand zeros: the layer then has what it makes of
    the others, and nothing has to be learned for what is not there.
    """

    def __init__(self, config: LateFusionConfig, encoders: Mapping[str, Encoder]) -> None:
        super().__init__(config.width or widest(encoders), encoders)
        self.gathered = config.hidden or self.inner
        self.layer = nn.Sequential(nn.Linear(self.places * self.inner, self.gathered), nn.ReLU())

    @staticmethod
    def projection(
        config: LateFusionConfig, encoders: Mapping[str, Encoder], modality: Modality
    ) -> nn.Module:
        """See `Fuser.projection`: the same layer as LANISTR's, after pooling."""
        width = config.width or widest(encoders)
        maps = [Projection(each, width) for each in vectors(encoders[modality])]
        return Marked(encoders, modality, maps)

    def gather(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `Fuser.gather`."""
        vectors_BPD, _ = self.sort(tokens, mask)
        return self.layer(vectors_BPD.flatten(1))

    def flops(self, tokens: Mapping[str, Tensor]) -> int:
        """See `Fuser.flops`."""
        return 2 * len(sum_by_case(tokens)) * self.places * self.inner * self.gathered
