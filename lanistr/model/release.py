"""The computation of the research release, `compat="release"`: for checkpoints that it made.

The release departs from the paper, and weights that were trained with its departures give their
numbers only with them. They all stand in this file; everything else of the model is shared:

- what a case lacks is encoded all the same: an empty note, a picture and a series of zeros;
- the several notes or pictures of a case are averaged, then normalised over axis 1 of whatever
  tensor they make, which is the features for some modalities and the tokens for others;
- fusion gets these tokens as they are and sees them all;
- a step of a series is the values that the encoder reconstructs, not the encoder's hidden state;
- masked words always become [MASK], and MLM asks for every place, padding among them;
- MFM hides entries after embedding, not columns, and averages row by row; MTM hides each column
  by itself, those that say "observed" among them;
- SimMMM's projector ends without a ReLU.

Source: google-research/lanistr, read for facts.

Shapes: R row of one modality, L token of a note, E entry of a table row, T step, F column of
values, B case, N token, D width of fusion, W width of an encoder.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from lanistr.modalities import Modality
from lanistr.model import losses, masking
from lanistr.model.encoder import Encoder
from lanistr.model.fusion import Fusion, FusionConfig
from lanistr.model.heads import Projector, SimMMMConfig
from lanistr.model.image import ImageConfig, ImageEncoder
from lanistr.model.tabular import TabularConfig, TabularEncoder, TabularPretext
from lanistr.model.tensors import Arrays, TensorBatch, TensorPart
from lanistr.model.text import TextConfig, TextEncoder, TextPretext
from lanistr.model.timeseries import TimeseriesConfig, TimeseriesEncoder, TimeseriesPretext
from lanistr.model.variant import FAMILIES, Variant


class FillingEncoder(Encoder):
    """An encoder that knows what the release feeds it for a case that lacks its modality."""

    def fill(self, arrays: Arrays | None, rows: int) -> Arrays:
        """Return the arrays (None: there are none yet) with so many blank rows behind them.

        A blank row is all zeros, unless the modality overrides this.
        """
        blank = {name: each.to(self._device) for name, each in self.example(rows).items()}
        return _append(arrays, blank)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


# ---- text ---------------------------------------------------------------------------------------


class ReleaseTextEncoder(TextEncoder, FillingEncoder):
    """BERT; the blank row is a note without words."""

    def fill(self, arrays: Arrays | None, rows: int) -> Arrays:
        """See `FillingEncoder.fill`: [CLS], [SEP] and padding, as long as the other notes."""
        config = self.config
        length = config.max_tokens if arrays is None else arrays["token_ids"].shape[1]
        token_ids_RL = torch.full((rows, length), config.pad_id, device=self._device)
        token_ids_RL[:, 0], token_ids_RL[:, 1] = config.cls_id, config.sep_id
        mask_RL = torch.zeros_like(token_ids_RL)
        mask_RL[:, :2] = 1
        return _append(arrays, {"token_ids": token_ids_RL, "attention_mask": mask_RL})


class ReleaseTextPretext(TextPretext):
    """Masked language modelling that asks for every place of the batch."""

    def forward(
        self, encoder: TextEncoder, arrays: Arrays, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """See `TextPretext.forward`."""
        token_ids_RL = arrays["token_ids"]
        _, chosen_RL = self.hide(arrays, generator)
        spoilt_RL = torch.where(chosen_RL, self.config.mask_id, token_ids_RL)
        hidden_RLW = encoder.hidden(spoilt_RL, arrays["attention_mask"])
        logits_nV = self.decoder(self.transform(hidden_RLW.flatten(0, 1)))
        loss = losses.masked_language(logits_nV, token_ids_RL.flatten())
        return loss, encoder.hand_on(hidden_RLW)


# ---- image --------------------------------------------------------------------------------------


class ReleaseImageEncoder(ImageEncoder, FillingEncoder):
    """ViT; the blank row is zeros after normalisation, as no picture of bytes is."""

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return pixels as float32: uint8 normalised, float32 as it is, since it was before."""
        return pixels if pixels.is_floating_point() else super().normalise(pixels)

    def fill(self, arrays: Arrays | None, rows: int) -> Arrays:
        """See `FillingEncoder.fill`."""
        size = self.config.size
        normal = None if arrays is None else {"pixels": self.normalise(arrays["pixels"])}
        return _append(normal, {"pixels": torch.zeros(rows, 3, size, size, device=self._device)})


# ---- tabular ------------------------------------------------------------------------------------


class ReleaseTabularEncoder(TabularEncoder, FillingEncoder):
    """TabNet; the blank row is zeros, although the release's data had a row for every case."""


class ReleaseTabularPretext(TabularPretext):
    """Masked feature modelling over the entries that columns become by embedding."""

    def hide(self, entries_RE: Tensor, generator: Generator) -> Tensor:
        """Return (R, E) bool: each entry of each row by itself."""
        rows, entries = entries_RE.shape
        return masking.draw_columns(
            rows, entries, ratio=self.config.mask_ratio, generator=generator
        ).to(entries_RE.device)

    def error(self, predicted_RE: Tensor, entries_RE: Tensor, hidden_RE: Tensor) -> Tensor:
        """Return the mean over rows of each row's mean error, in units of an entry's variance.

        An entry that does not vary in the batch is measured in its mean, or in 1 if that is 0.
        """
        entries_RE = entries_RE.detach()
        mean_E = entries_RE.mean(dim=0)
        # One row has no variance; the release's loss would not be a number.
        variance_E = entries_RE.var(dim=0) if len(entries_RE) > 1 else torch.zeros_like(mean_E)
        usual_E = torch.where(mean_E == 0, 1.0, mean_E)
        scale_E = torch.where(variance_E == 0, usual_E, variance_E)
        error_RE = (predicted_RE.float() - entries_RE).square() * hidden_RE / scale_E
        return (error_RE.sum(dim=1) / (hidden_RE.sum(dim=1) + 1e-9)).mean()


# ---- time series --------------------------------------------------------------------------------


class ReleaseTimeseriesEncoder(TimeseriesEncoder, FillingEncoder):
    """The mvts Transformer with its output layer; the blank row is zeros, none of them padding."""

    def __init__(self, config: TimeseriesConfig) -> None:
        super().__init__(config)
        self.width = config.features

    def forward(self, values: Tensor) -> Tensor:
        """Return (R, T, F): one token a step, its values reconstructed."""
        return self.reconstruct(super().forward(values))


class ReleaseTimeseriesPretext(TimeseriesPretext):
    """Masked time-series modelling whose reconstruction is the tokens themselves."""

    def forward(
        self, encoder: TimeseriesEncoder, arrays: Arrays, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """See `TimeseriesPretext.forward`; the tokens are (R, T, F)."""
        values_RTF = arrays["values"]
        hidden_RTF = self.hide(values_RTF, generator)
        tokens_RTF = encoder(values_RTF.masked_fill(hidden_RTF, 0.0))
        return losses.masked_series(tokens_RTF, values_RTF, hidden_RTF), tokens_RTF


# ---- all modalities together --------------------------------------------------------------------


class ReleaseFusion(Fusion):
    """FLAVA over every token, normalised before."""

    def forward(self, tokens: Tensor, mask: Tensor, *, cls_only: bool = False) -> Tensor:
        """Fuse (B, N, D) to (B, 1 + N, D), whatever is asked for; the mask is not looked at."""
        return self.flava(tokens).last_hidden_state


class ReleaseProjector(Projector):
    """Three layers, the last of them without a ReLU."""

    def __init__(self, config: SimMMMConfig, width_in: int) -> None:
        super().__init__(config, width_in)
        del self[-1]


class Release(Variant):
    """The release's model: every case brings every modality, even if it is blank."""

    families = {
        TextConfig: replace(
            FAMILIES[TextConfig], encoder=ReleaseTextEncoder, pretext=ReleaseTextPretext
        ),
        ImageConfig: replace(FAMILIES[ImageConfig], encoder=ReleaseImageEncoder),
        TabularConfig: replace(
            FAMILIES[TabularConfig], encoder=ReleaseTabularEncoder, pretext=ReleaseTabularPretext
        ),
        TimeseriesConfig: replace(
            FAMILIES[TimeseriesConfig],
            encoder=ReleaseTimeseriesEncoder,
            pretext=ReleaseTimeseriesPretext,
        ),
    }
    fusers = {FusionConfig: ReleaseFusion}
    projector = ReleaseProjector

    def complete(self, batch: TensorBatch, encoders: Mapping[str, nn.Module]) -> TensorBatch:
        """Give every case a row of every modality of the model, in the order of the cases."""
        assert batch.parts.keys() <= encoders.keys(), "the batch brings what the model has not"
        parts = {
            Modality(each): _complete(batch, Modality(each), encoder)
            for each, encoder in encoders.items()
        }
        if all(part is batch.parts.get(each) for each, part in parts.items()):
            return batch
        return TensorBatch(batch.size, parts, batch.labels)

    def normalise(self, modality: Modality, tokens_BND: Tensor) -> Tensor:
        """Normalise over axis 1 of the tensor as the release has it: (B, D), or (B, N, D)."""
        over_features = _FEATURES_IN_PREDICTING if self.predicts else _FEATURES_IN_PRETRAINING
        return functional.normalize(tokens_BND, dim=-1 if modality in over_features else 1)


_FEATURES_IN_PRETRAINING = frozenset({Modality.TEXT, Modality.TABULAR})
_FEATURES_IN_PREDICTING = frozenset({Modality.TABULAR})
"""The modalities whose tensor is (B, D); that of text is (B, 1, D) when it predicts, so that every
feature but 0 becomes 1."""


def _complete(batch: TensorBatch, modality: Modality, encoder: nn.Module) -> TensorPart:
    """Return a batch's part of a modality, with a blank row for each case that lacks it."""
    assert isinstance(encoder, FillingEncoder)
    part = batch.parts.get(modality)
    device = next(encoder.parameters()).device
    lacks_B = ~batch.presence([modality], device)[:, 0]
    lacking_R = lacks_B.nonzero()[:, 0]
    if part is not None and not len(lacking_R):
        return part
    arrays = encoder.fill(None if part is None else part.arrays, len(lacking_R))
    sample_R = lacking_R if part is None else torch.cat([part.sample, lacking_R])
    order_R = sample_R.argsort(stable=True)
    return TensorPart(sample_R[order_R], {name: each[order_R] for name, each in arrays.items()})


def _append(arrays: Arrays | None, more: Arrays) -> Arrays:
    if arrays is None:
        return more
    return {name: torch.cat([arrays[name], each]) for name, each in more.items()}
