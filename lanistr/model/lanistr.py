"""LANISTR: encoders, projections, fusion and head as one module.

Shapes: B case, R row of one modality, N token (in all, or of one modality), D width of fusion,
E width of what fusion gathers, C output.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from torch import Generator, Tensor, nn

from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.encoder import Encoder
from lanistr.model.fusion import FusionConfig
from lanistr.model.heads import Head
from lanistr.model.release import Release
from lanistr.model.tensors import TensorBatch, TensorPart
from lanistr.model.variant import Family, Variant


@dataclass(frozen=True, slots=True)
class Output:
    """What the model says of the cases of a batch.

    Attributes:
        logits: (B, C), see `lanistr.model.heads.Head`.
        embedding: (B, E), what fusion gathers, L2-normalised: for retrieval. E is D for LANISTR,
            whose fusion gathers all in its CLS token, and 2 D with a part past fusion.
        shortcut: (B, C), what the part of the model past fusion says by itself, which it learns by;
            None where there is none or it does not learn.
        unimodal: (R, C) by modality (or by vector of it, see `Encoder.vectors`), what heads of
            their own say of its rows; empty where the model has none or does not learn.
    """

    logits: Tensor
    embedding: Tensor
    shortcut: Tensor | None = None
    unimodal: Mapping[str, Tensor] = field(default_factory=dict)


class Lanistr(nn.Module):
    """Predicts from whichever modalities a case brings.

    Attributes:
        encoders: by modality, from arrays to tokens of the encoder's own width.
        families: by modality, what the model knows of it.
        projections: by modality, from there to fusion's width.
        fusion: over the tokens of all modalities of a case.
        head: from what fusion gathers to the task's outputs; None if the config has none.
        unimodal: by modality, the heads of the encoder's vectors, where the config asks for them.

    Source: LANISTR paper, section 3 and Figure 1.
    """

    def __init__(self, config: LanistrConfig) -> None:
        super().__init__()
        self.config = config
        self.variant = _variant(config)
        self.families: dict[Modality, Family] = {
            each: self.variant.families[type(getattr(config, each))] for each in config.modalities
        }
        encoders: dict[str, Encoder] = {
            each: family.encoder(getattr(config, each)) for each, family in self.families.items()
        }
        if isinstance(config.fusion, FusionConfig) and config.fusion.shortcut:
            for encoder in encoders.values():
                encoder.add_shortcut(config.fusion.shortcut)
        fuser = self.variant.fusers[type(config.fusion)]
        self.encoders = nn.ModuleDict(encoders)
        self.projections = nn.ModuleDict(
            {each: fuser.projection(config.fusion, encoders, each) for each in config.modalities}
        )
        self.fusion = fuser(config.fusion, encoders)
        fused = self.fusion.gathered - self.fusion.shortcut
        self.head = Head(config.head, fused, self.fusion.shortcut) if config.head else None
        self.unimodal = nn.ModuleDict()
        if config.unimodal:
            assert config.head is not None, "what each modality learns is the task"
            linear = config.head.model_copy(update={"layers": 0})
            for each, encoder in encoders.items():
                heads = (Head(linear, width) for width in encoder.vectors or (encoder.width,))
                self.unimodal[each] = nn.ModuleList(heads)
        self._encoders_frozen = False

    def forward(self, batch: TensorBatch, company: Collection[Modality] = ()) -> Output:
        """Predict for every case of a batch; only what is present is encoded.

        Args:
            batch: cases with any modalities of the model, each with any others or none.
            company: modalities that other processes run right now. One that this batch lacks is
                run over an empty row, which changes no number but keeps the processes in step.
        """
        batch = self.complete(batch)
        empty = self.empty_rows(company, batch)
        encoded = self.tokens(ordered(batch.parts, empty))
        projected = self.project(encoded)
        output = self.fuse(batch, projected)
        alone = self.alone(encoded) if self.training else {}
        idle = nothing(projected[each] for each in empty)
        return Output(output.logits + idle, output.embedding, output.shortcut, alone)

    def encoder(self, modality: str) -> Encoder:
        """Return the encoder of a modality that the model has."""
        encoder = self.encoders[modality]
        assert isinstance(encoder, Encoder)
        return encoder

    def complete(self, batch: TensorBatch) -> TensorBatch:
        """Return the batch to encode: as it is, but for `compat="release"`, which fills it up."""
        return self.variant.complete(batch, dict(self.encoders.items()))

    def encode(self, parts: Mapping[Modality, TensorPart]) -> dict[Modality, Tensor]:
        """Return the projected tokens (R, N, D) of each row, by modality."""
        return self.project(self.tokens(parts))

    def tokens(self, parts: Mapping[Modality, TensorPart]) -> dict[Modality, Tensor]:
        """Return the encoder's tokens (R, N, W) of each row, by modality.

        Rows that frozen encoders have seen before bring theirs as `encoded`.
        """
        return {
            each: part.arrays["encoded"].float()
            if "encoded" in part.arrays
            else self.encoders[each](**part.arrays)
            for each, part in parts.items()
        }

    def alone(self, encoded: Mapping[Modality, Tensor]) -> dict[str, Tensor]:
        """Return what the heads of single modalities say of tokens (R, N, W): (R, C) by name."""
        said: dict[str, Tensor] = {}
        for modality, heads in self.unimodal.items():
            assert isinstance(heads, nn.ModuleList)
            if modality not in encoded:
                continue
            encoder = self.encoder(modality)
            pooled_RW = encoder.pool(encoded[Modality(modality)])[:, 0]
            vectors = pooled_RW.split(encoder.vectors or (encoder.width,), dim=-1)
            for name, head, vector_RW in zip(self.heads(modality), heads, vectors, strict=True):
                said[name] = head(vector_RW)
        return said

    def heads(self, modality: str) -> list[str]:
        """Return the names of the heads of a modality: its own, numbered where it has several."""
        heads = self.unimodal[modality]
        assert isinstance(heads, nn.ModuleList)
        several = len(heads) > 1
        return [f"{modality}_{n}" if several else f"{modality}" for n in range(len(heads))]

    def fuse(self, batch: TensorBatch, projected: Mapping[Modality, Tensor]) -> Output:
        """Predict from the projected tokens (R, N, D) of a batch's rows, by modality."""
        assert self.head is not None, "a model without a head predicts nothing"
        gathered_BE = self.fusion.gather(*self.assemble(batch, projected))
        logits_BC, alone_BC = self.head.both(gathered_BE)
        embedding_BE = self.fusion.embedding(gathered_BE)
        return Output(logits_BC, embedding_BE, alone_BC if self.training else None)

    def empty_rows(
        self, company: Collection[Modality], batch: TensorBatch
    ) -> dict[Modality, TensorPart]:
        """Return an empty row of each modality in `company` that the batch lacks.

        Processes that share a model must run the same trained modules in the same order. Frozen
        encoders are nobody's concern, so that their rows bring tokens of 0.
        """
        device = next(self.fusion.parameters()).device
        rows: dict[Modality, TensorPart] = {}
        for modality in set(company) - batch.parts.keys():
            encoder = self.encoder(modality)
            arrays = encoder.example(1)
            if self._encoders_frozen:
                arrays = {"encoded": torch.zeros(1, 1, encoder.width)}
            moved = {name: each.to(device) for name, each in arrays.items()}
            rows[modality] = TensorPart(torch.zeros(1, dtype=torch.int64, device=device), moved)
        return rows

    def project(self, encoded: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
        """Bring the encoders' tokens (R, N, W) to fusion's width: (R, N, D)."""
        return {each: self.projections[each](tokens) for each, tokens in encoded.items()}

    def assemble(
        self, batch: TensorBatch, projected: Mapping[Modality, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Put the tokens of each case, of all its modalities, into one row.

        Args:
            batch: as for `lay`.
            projected: likewise.

        Returns:
            tokens (B, N, D), 0 where absent, and mask (B, N) bool, True where present.
        """
        return self.join(batch, self.lay(batch, projected))

    def join(
        self, batch: TensorBatch, laid: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Put what `lay` returned one behind the other: tokens (B, N, D) and mask (B, N)."""
        device = next(self.fusion.parameters()).device
        blocks = [torch.zeros(batch.size, 0, self.fusion.width, device=device)]
        masks = [torch.zeros(batch.size, 0, dtype=torch.bool, device=device)]
        for tokens_BND, mask_BN in laid.values():
            blocks.append(tokens_BND)
            masks.append(mask_BN)
        return torch.cat(blocks, dim=1), torch.cat(masks, dim=1)

    def lay(
        self, batch: TensorBatch, projected: Mapping[Modality, Tensor]
    ) -> dict[Modality, tuple[Tensor, Tensor]]:
        """Put the tokens of each case into one row, modality by modality.

        Several rows of one case (notes, pictures) are averaged token by token; where the tokens of
        rows have nothing in common (the words of notes), they stand side by side. Modalities stand
        in canonical order, and one that no case of the batch brings has no entry.

        Args:
            batch: whose rows they are; of its arrays only those are read that mark padding.
            projected: (R, N, D) by modality.

        Returns:
            by modality tokens (B, N, D), 0 where absent, and mask (B, N) bool, True where present.
        """
        laid: dict[Modality, tuple[Tensor, Tensor]] = {}
        for modality, part in ordered(batch.parts, {}).items():
            tokens_RND = projected[modality]
            rows_B = part.sample.new_zeros(batch.size)
            rows_B = rows_B.index_add(0, part.sample, torch.ones_like(part.sample))
            encoder = self.encoder(modality)
            real_RN = None if self.fusion.pooled else encoder.token_mask(**part.arrays)
            if real_RN is None:
                sum_BND = tokens_RND.new_zeros(batch.size, *tokens_RND.shape[1:])
                sum_BND = sum_BND.index_add(0, part.sample, tokens_RND)
                mean_BND = sum_BND / rows_B.clamp(min=1)[:, None, None]
                mask_BN = (rows_B > 0)[:, None].expand(-1, tokens_RND.shape[1])
                laid[modality] = self.variant.normalise(modality, mean_BND), mask_BN
            else:
                laid[modality] = (
                    side_by_side(tokens_RND, part.sample, batch.size),
                    side_by_side(real_RN, part.sample, batch.size),
                )
        return laid

    def freeze_encoders(self) -> Self:
        """Train projections, fusion and head alone; encoders stay in eval mode from now on.

        Source: LANISTR paper, section 4 (fine-tuning).
        """
        self._encoders_frozen = True
        self.encoders.requires_grad_(False).eval()
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen encoders stay in evaluation."""
        super().train(mode)
        if self._encoders_frozen:
            self.encoders.eval()
        return self


Mean = Modality | Literal["cases", "compared"]
"""What a loss is a mean over: what a modality brings, cases, or tokens that SimMMM compares."""


class ForPretraining(nn.Module):
    """A model that learns from unlabelled cases; it returns its losses by name.

    Attributes:
        core: the model itself, without a head.
        complete: whether each case has to bring every modality.
        shards: whether processes may share its weights out among them.
        begun_anew: parts that no run takes over from another.
    """

    complete: bool = False
    shards: bool = True
    begun_anew: tuple[str, ...] = ()

    def __init__(self, config: LanistrConfig) -> None:
        super().__init__()
        assert config.head is None, "pretraining has no head"
        self.config = config
        self.core = Lanistr(config)

    @property
    def means(self) -> Mapping[str, Mean]:
        """The losses by name, and what each is a mean over."""
        raise NotImplementedError

    def begin(self, epochs: float) -> None:
        """Make ready for a step after so many epochs."""

    def end(self, gather: Callable[[Any], list[Any]]) -> None:
        """Note what a step has brought; `gather` gives every process's value to each."""

    def forward(
        self, batch: TensorBatch, generator: Generator, company: Collection[Modality] = ()
    ) -> dict[str, Tensor]:
        """Return the losses by name.

        Args:
            batch: cases.
            generator: where all that is drawn comes from.
            company: as for `Lanistr.forward`; the loss of such a modality is an exact 0.
        """
        raise NotImplementedError


def _variant(config: LanistrConfig) -> Variant:
    kind = Release if config.compat == "release" else Variant
    return kind(predicts=config.head is not None)


def side_by_side(rows_RN: Tensor, sample_R: Tensor, size: int) -> Tensor:
    """Put the rows of each case one behind the other.

    Args:
        rows_RN: (R, N, ...).
        sample_R: (R,) the case of each row, ascending.
        size: number of cases B.

    Returns:
        (B, K * N, ...), where K is the largest number of rows of a case; 0 where there is no row.
    """
    number_R = torch.arange(len(sample_R), device=sample_R.device)
    number_R = number_R - torch.searchsorted(sample_R, sample_R)  # within its case
    most = int(number_R.max()) + 1
    spread = rows_RN.new_zeros(size * most, *rows_RN.shape[1:])
    spread = spread.index_copy(0, sample_R * most + number_R, rows_RN)
    return spread.unflatten(0, (size, most)).flatten(1, 2)


def ordered(
    parts: Mapping[Modality, TensorPart], more: Mapping[Modality, TensorPart]
) -> dict[Modality, TensorPart]:
    """Return both in canonical order of modality."""
    every = {**parts, **more}
    return {each: every[each] for each in Modality if each in every}


def nothing(tensors: Iterable[Tensor]) -> Tensor:
    """Return a 0 that depends on all the tensors, so that a backward pass goes through them."""
    return sum((each.sum() * 0 for each in tensors), start=torch.zeros(()))


def count_parameters(model: nn.Module, *, trained: bool = False) -> dict[str, int]:
    """Count parameters by module, such as "encoders.text"; the total is the sum.

    Args:
        model: a `Lanistr` or what pretrains it.
        trained: count only those that receive gradients.
    """
    counts: dict[str, int] = {}
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleDict | Lanistr):
            inner = count_parameters(child, trained=trained)
            counts |= {f"{name}.{each}": count for each, count in inner.items()}
        else:
            counts[name] = sum(
                each.numel() for each in child.parameters() if each.requires_grad or not trained
            )
    return counts
