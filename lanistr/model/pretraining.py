"""The pretraining form of LANISTR: what hides parts of each modality, and SimMMM over all of them.

Shapes: B case, R row of one modality, N token (in all, or of one modality), D width of fusion,
M modality, K figure, n compared token.
"""

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Generator, Tensor, nn

from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model import losses, masking
from lanistr.model.baselines.albef import AlbefConfig
from lanistr.model.baselines.albef_pretraining import AlbefForPretraining
from lanistr.model.config import LanistrConfig
from lanistr.model.encoder import Pretext
from lanistr.model.fusion import Fusion, FusionConfig
from lanistr.model.heads import Predictor, Summary
from lanistr.model.lanistr import ForPretraining, Mean, nothing, ordered
from lanistr.model.tensors import TensorBatch, TensorPart, places, take
from lanistr.schema import Schema


class LanistrForPretraining(ForPretraining):
    """Learns from unlabelled cases: each modality's pretext, and SimMMM over all of them.

    Attributes:
        pretexts: by modality, what hides and reconstructs.
        projector, predictor: SimMMM's; None if the config has none.
        summaries: by modality that has any, what predicts its figures from fusion's CLS token.
        shortcuts: by the same modalities, what predicts them from what goes past fusion; empty
            where the encoders have none.

    Source: LANISTR paper, section 3.3.
    """

    def __init__(self, config: LanistrConfig) -> None:
        super().__init__(config)
        fusion = self.core.fusion
        if not isinstance(fusion, Fusion):
            raise _not_pretrained("fusion", config.fusion.kind)
        pretexts: dict[str, Pretext] = {}
        for each, family in self.core.families.items():
            if family.pretext is None:
                raise _not_pretrained(each, getattr(config, each).kind)
            pretexts[each] = family.pretext(getattr(config, each))
        self.pretexts = nn.ModuleDict(pretexts)
        simmmm, width = config.simmmm, fusion.config.width
        projector = self.core.variant.projector
        self.projector = projector(simmmm, width) if simmmm else None
        self.predictor = Predictor(simmmm) if simmmm else None
        self.summaries, self.shortcuts = nn.ModuleDict(), nn.ModuleDict()
        if config.summary:
            figures: dict[str, int] = {}
            for modality, pretext in self.pretexts.items():
                assert isinstance(pretext, Pretext)
                if pretext.summaries:
                    figures[modality] = pretext.summaries
            if not figures:
                raise ConfigError(
                    "none of this model's modalities can be summarized",
                    field="model.summary",
                    accepted="null; or data with a time series",
                )
            for predictors in (
                (self.summaries, self.shortcuts) if fusion.shortcut else (self.summaries,)
            ):
                predictors.update(
                    {m: Summary(config.summary, width, n) for m, n in figures.items()}
                )

    @property
    def means(self) -> Mapping[str, Mean]:
        """See `ForPretraining.means`."""
        own: dict[str, Mean] = {family.loss: each for each, family in self.core.families.items()}
        own |= {"simmmm": "compared"} if self.config.simmmm else {}
        return own | {summary_loss(each): each for each in map(Modality, self.summaries)}

    def forward(
        self, batch: TensorBatch, generator: Generator, company: Collection[Modality] = ()
    ) -> dict[str, Tensor]:
        """Return the losses by name: of each modality that the batch brings, and of all together.

        Args:
            batch: cases with any of the modalities; one without any has no part in a loss.
            generator: where the masks come from.
            company: as for `Lanistr.forward`; the loss of such a modality is an exact 0.
        """
        core = self.core
        batch = core.complete(batch)
        empty = core.empty_rows(company, batch)
        parts = ordered(batch.parts, empty)
        named: dict[str, Tensor] = {}
        masked: dict[Modality, Tensor] = {}
        for modality, part in parts.items():
            pretext, encoder = self.pretexts[modality], core.encoders[modality]
            loss, masked[modality] = pretext(encoder, part.arrays, generator)
            if core.encoder(modality).shortcuts:
                # No loss may ask for it, and processes would wait for one another's gradient.
                loss = loss + nothing([masked[modality]])
            named[core.families[modality].loss] = nothing([loss]) if modality in empty else loss
        if self.projector is not None:
            views = core.encode(parts), core.project(masked)
            idle = nothing(view[each] for view in views for each in empty)
            named["simmmm"] = idle + self.compare(batch, *views, generator)
        if len(self.summaries):
            projected = core.project(masked)
            idle = nothing(projected[each] for each in empty)
            gathered_BE = core.fusion.gather(*core.assemble(batch, projected))
            for name, loss in self.sum_up(parts, empty, gathered_BE):
                named[name] = idle + loss
        return named

    def sum_up(
        self, parts: Mapping[Modality, TensorPart], empty: Collection[Modality], gathered_BE: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses of summary modelling from what is gathered of the masked cases.

        Fusion's CLS token and what goes past fusion predict the figures each by itself, so that
        neither leaves them to the other.
        """
        halves_BD = gathered_BE.chunk(1 + bool(self.shortcuts), dim=1)
        heads = [(self.summaries, halves_BD[0])]
        if self.shortcuts:
            heads.append((self.shortcuts, halves_BD[1]))
        for modality in self.summaries:
            pretext = self.pretexts[modality]
            assert isinstance(pretext, Pretext)
            name = summary_loss(Modality(modality))
            if modality not in parts or modality in empty:
                yield name, nothing(head[modality](half_BD[:1]) for head, half_BD in heads)
                continue
            part = parts[Modality(modality)]
            figures = pretext.summarise(part.arrays)
            predicted = (
                head[modality](half_BD.index_select(0, part.sample)) for head, half_BD in heads
            )
            errors = [losses.summary(each_RK, *figures) for each_RK in predicted]
            yield name, torch.stack(errors).sum()

    def compare(
        self,
        batch: TensorBatch,
        plain: Mapping[Modality, Tensor],
        masked: Mapping[Modality, Tensor],
        generator: Generator,
    ) -> Tensor:
        """Return the SimMMM loss of two views, each (R, N, D) by modality."""
        simmmm = self.config.simmmm
        assert simmmm is not None
        assert self.projector is not None
        assert self.predictor is not None
        fusion = self.core.fusion
        assert isinstance(fusion, Fusion)
        plain_BND, mask_BN = self.core.assemble(batch, plain)
        laid = self.core.lay(batch, masked)
        masked_BND, _ = self.core.join(batch, laid)
        presence_BM = batch.presence(self.config.modalities, mask_BN.device)
        kept_BM = masking.draw_modalities(presence_BM, ratio=simmmm.hidden, generator=generator)
        # By the numbers of tokens, which are known here: a GPU would have to be asked for its own.
        columns = zip(self.config.modalities, kept_BM.split(1, dim=1), strict=True)
        kept_BN = mask_BN & torch.cat(
            [
                kept_B1.expand(-1, laid[each][1].shape[1] if each in laid else 0)
                for each, kept_B1 in columns
            ],
            dim=1,
        )
        chosen_n = places(
            losses.simmmm_tokens(
                fusion.fused(plain_BND, kept_BN), presence_BM, on=simmmm.on, tokens=simmmm.tokens
            )
        )
        z1_nD = self.projector(take(fusion(plain_BND, mask_BN), chosen_n))
        z2_nD = self.projector(take(fusion(masked_BND, kept_BN), chosen_n))
        return losses.simmmm(self.predictor(z1_nD), self.predictor(z2_nD), z1_nD, z2_nD)


PRETRAINED: Mapping[type[Schema], type[ForPretraining]] = {
    FusionConfig: LanistrForPretraining,
    AlbefConfig: AlbefForPretraining,
}
"""By kind of fusion, the model's form for pretraining."""


def for_pretraining(config: LanistrConfig) -> ForPretraining:
    """Return a model that is to be pretrained.

    Raises:
        ConfigError: a part of it is of a baseline that is not pretrained.
    """
    kind = PRETRAINED.get(type(config.fusion))
    if kind is None:
        raise _not_pretrained("fusion", config.fusion.kind)
    return kind(config)


def summary_loss(modality: Modality) -> str:
    """Return the name of the loss of a modality's summaries."""
    return f"summary_{modality}"


def _not_pretrained(part: str, kind: str) -> ConfigError:
    return ConfigError(
        "this component belongs to a baseline and is not pretrained",
        field=f"model.{part}.kind",
        seen=kind,
        accepted="LANISTR's own components; or use `training.finetune`",
    )
