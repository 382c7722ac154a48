"""How ALBEF is pretrained: contrast, matching and masked words, with momentum weights.

Source: Li et al. 2021 (ALBEF), sections 3.2 and 3.3; salesforce/ALBEF, read for facts.

Shapes: R row of one modality, N token, B case, Q case in the queue, K = B + Q, L word (of all notes
of a case), D width of text, C width of the space of comparison, V word of the vocabulary, n asked
place.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from itertools import zip_longest

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from lanistr.modalities import Modality
from lanistr.model import losses, masking
from lanistr.model.baselines.albef import Albef, AlbefConfig, Sides
from lanistr.model.config import LanistrConfig
from lanistr.model.lanistr import ForPretraining, Lanistr, Mean, nothing, side_by_side
from lanistr.model.tensors import TensorBatch, places, take
from lanistr.model.text import TextEncoder, TextPretext

Seen = tuple[Tensor, Tensor, Tensor]
"""What the slow weights make of some cases: notes (B, C), pictures (B, C), their numbers (B,)."""


class AlbefForPretraining(ForPretraining):
    """Learns from pairs of notes and pictures, by three losses of equal weight.

    - itc: tell each picture's note from those of the other cases of the batch and of the queue, and
      each note's picture, before fusion;
    - itm: say of a fused note and picture whether they are a pair. For each note a wrong picture is
      drawn from the batch, and for each picture a wrong note: the more alike, the sooner;
    - mlm: name hidden words, with the picture in sight.

    Beside the weights stand slow ones, which follow them by momentum. They make what waits in the
    queue, and part of what is to be learned: of a pair that is none in the data, or a word that was
    not written, they may say that it could be.

    Attributes:
        pretexts: what hides and names words.
        spaces: by modality, from its [CLS] to the space of comparison.
        matching: from the fused [CLS] to "no pair" and "pair".
        queue: what was seen before, and the temperature of the comparison.
        slow: core, pretexts and spaces again.
        soft: share of what the slow weights say in what is to be learned now.
        fresh: what the slow weights made of the cases of this step.
    """

    complete = True
    shards = False
    begun_anew = ("queue", "slow")  # cases of other data, and what follows from the first step on

    def __init__(self, config: LanistrConfig) -> None:
        super().__init__(config)
        assert isinstance(config.fusion, AlbefConfig)
        assert config.text is not None
        self.sizes = config.fusion
        self.pretexts = nn.ModuleDict({Modality.TEXT: TextPretext(config.text)})
        width = self.core.fusion.gathered
        self.spaces = nn.ModuleDict(
            {each: nn.Linear(width, self.sizes.space) for each in config.modalities}
        )
        self.matching = nn.Linear(width, 2)
        self.queue = Queue(self.sizes)
        self.slow = Slow(core=self.core, pretexts=self.pretexts, spaces=self.spaces)
        self.soft = 0.0
        self.fresh: list[Seen] = []

    @property
    def means(self) -> Mapping[str, Mean]:
        """See `ForPretraining.means`."""
        return {"itc": "cases", "itm": "cases", "mlm": Modality.TEXT}

    def begin(self, epochs: float) -> None:
        """Have the slow weights follow; at the very beginning they are the weights themselves."""
        fast = {"core": self.core, "pretexts": self.pretexts, "spaces": self.spaces}
        self.slow.follow(fast, self.sizes.momentum if epochs else 0.0)
        self.soft = self.sizes.soft * min(1.0, epochs)
        self.queue.keep_in_bounds()
        self.fresh.clear()

    def end(self, gather: Callable[[list[Seen]], list[list[Seen]]]) -> None:
        """Put what all processes saw into the queue, in the order in which one would see it."""
        moved = [(text.cpu(), image.cpu(), cases.cpu()) for text, image, cases in self.fresh]
        for turn in zip_longest(*gather(moved)):
            for seen in turn:
                if seen is not None:
                    self.queue.push(*seen)
        self.fresh.clear()

    def forward(
        self, batch: TensorBatch, generator: Generator, company: Collection[Modality] = ()
    ) -> dict[str, Tensor]:
        """Return the losses by name.

        Args:
            batch: cases that each bring a note and a picture.
            generator: where masks and wrong pairs come from.
            company: as for `Lanistr.forward`; here nobody lacks anything.
        """
        assert bool(batch.presence(self.config.modalities, _device(batch)).all()), "pairs alone"
        sides = _sides(self.core, batch)
        with torch.no_grad():
            slow_sides = _sides(self.slow.core, batch)
            slow_text, slow_image = _compared(self.slow.spaces, slow_sides)
        if batch.cases is not None:
            self.fresh.append((slow_text, slow_image, batch.cases))
        by_text, by_image, itc = self.compare(
            _compared(self.spaces, sides), (slow_text, slow_image), batch.cases
        )
        return {
            "itc": itc,
            "itm": self.match(sides, by_text, by_image, generator),
            "mlm": self.name(batch, sides, slow_sides, generator),
        }

    def compare(
        self, fast: Sequence[Tensor], slow: Sequence[Tensor], cases: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compare each note with all pictures, and each picture with all notes.

        Args:
            fast: notes and pictures (B, C).
            slow: the same of the slow weights.
            cases: (B,), their numbers: none is compared with what it was in an earlier epoch.

        Returns:
            how alike each note is to each picture of the batch (B, B), each picture to each note,
            and the loss.
        """
        # In float32 whatever the rest is: a temperature of 0.07 leaves bf16 one digit and a half.
        with torch.autocast(fast[0].device.type, enabled=False):
            text, image = (each.float() for each in fast)
            slow_text, slow_image = (each.float() for each in slow)
            hidden_BQ = self.queue.hidden(len(text), cases)
            hidden_BK = functional.pad(hidden_BQ, (len(text), 0))
            all_text, all_image = self.queue.behind(slow_text, slow_image)
            temperature = self.queue.temperature

            def alike(asking_BC: Tensor, asked_KC: Tensor) -> Tensor:
                return (asking_BC @ asked_KC.T / temperature).masked_fill(hidden_BK, _NEVER)

            by_text, by_image = alike(text, all_image), alike(image, all_text)
            with torch.no_grad():
                slowly = alike(slow_text, all_image), alike(slow_image, all_text)
            itc = sum(
                losses.contrast(found_BK, slowly_BK, soft=self.soft) / 2
                for found_BK, slowly_BK in zip((by_text, by_image), slowly, strict=True)
            )
        assert isinstance(itc, Tensor)
        own = slice(len(text))
        return by_text[:, own].detach(), by_image[:, own].detach(), itc

    def match(
        self, sides: Sides, by_text_BB: Tensor, by_image_BB: Tensor, generator: Generator
    ) -> Tensor:
        """Return the loss of telling pairs from others; 0 of one case alone, which has no other."""
        cases, device = len(by_text_BB), by_text_BB.device
        own_B = torch.arange(cases, device=device)
        if cases == 1:
            return nothing([self.matching(self._fused(sides))])
        wrong_pictures_B = masking.draw_others(by_text_BB, generator=generator)
        wrong_notes_B = masking.draw_others(by_image_BB, generator=generator)
        tried = sides.paired(
            torch.cat([own_B, own_B, wrong_notes_B]), torch.cat([own_B, wrong_pictures_B, own_B])
        )
        truth_n = (torch.arange(3 * cases, device=device) < cases).long()
        return functional.cross_entropy(self.matching(self._fused(tried)).float(), truth_n)

    def name(
        self, batch: TensorBatch, sides: Sides, slow_sides: Sides, generator: Generator
    ) -> Tensor:
        """Return the loss of naming words that are hidden."""
        pretext, part = self.pretexts[Modality.TEXT], batch.parts[Modality.TEXT]
        assert isinstance(pretext, TextPretext)
        token_ids_RL, real_RL = part.arrays["token_ids"], part.arrays["attention_mask"].bool()
        spoilt_RL, chosen_RL = pretext.hide(part.arrays, generator)
        asked_RL = chosen_RL if pretext.config.mlm_positions == "masked" else real_RL
        ids_BL, asked_BL = (
            side_by_side(each, part.sample, batch.size) for each in (token_ids_RL, asked_RL)
        )
        asked_n = places(asked_BL)

        def said(core: Lanistr, pretexts: nn.ModuleDict, pictures: Sides) -> Tensor:
            spoilt = {"token_ids": spoilt_RL, "attention_mask": part.arrays["attention_mask"]}
            encoder, pretext = core.encoders[Modality.TEXT], pretexts[Modality.TEXT]
            assert isinstance(encoder, TextEncoder)
            assert isinstance(pretext, TextPretext)
            words_RND = core.projections[Modality.TEXT](encoder(**spoilt))
            words_BLD = side_by_side(words_RND, part.sample, batch.size)
            hidden_BSD = _fusion(core)(
                pictures._replace(words=words_BLD[..., : _fusion(core).inner])
            )
            return pretext.name(take(hidden_BSD[:, 1:], asked_n))

        with torch.no_grad():
            slowly_nV = said(self.slow.core, self.slow.pretexts, slow_sides)
        found_nV = said(self.core, self.pretexts, sides)
        return losses.softly_named(found_nV, slowly_nV, take(ids_BL, asked_n), soft=self.soft)

    def _fused(self, sides: Sides) -> Tensor:
        fusion = _fusion(self.core)
        return fusion.speak(sides, fusion(sides))


# ---- what was seen before -----------------------------------------------------------------------

_NEVER = -1e6
"""Of a pair that is not compared: no number is added to a sum of exponentials, none is not one."""

_COLDEST, _WARMEST = 0.001, 0.5
"""Bounds of the temperature, as in the authors' code."""


class Queue(nn.Module):
    """The last cases as the slow weights saw them, and the temperature that all are compared at.

    Attributes:
        temperature: learned.
        text, image: (Q, C) float32.
        cases: (Q,) int64, their numbers in the data set; -1 where nobody is yet.
        last: () int64, how many have come so far.
    """

    text: Tensor
    image: Tensor
    cases: Tensor
    last: Tensor

    def __init__(self, config: AlbefConfig) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(config.temperature))
        self.register_buffer("text", torch.zeros(config.queue, config.space))
        self.register_buffer("image", torch.zeros(config.queue, config.space))
        self.register_buffer("cases", torch.full((config.queue,), -1))
        self.register_buffer("last", torch.zeros((), dtype=torch.int64))

    def behind(self, text_BC: Tensor, image_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Return notes and pictures, each (K, C), with those of the queue behind them."""
        # Copied: the queue goes on before the backward pass of what was compared with it.
        return torch.cat([text_BC, self.text]), torch.cat([image_BC, self.image])

    def hidden(self, size: int, cases_B: Tensor | None) -> Tensor:
        """Return (B, Q) bool, True where a place is empty or holds the case itself."""
        empty_BQ = (self.cases < 0).expand(size, -1)
        return empty_BQ if cases_B is None else empty_BQ | (self.cases == cases_B[:, None])

    @torch.no_grad()
    def push(self, text_BC: Tensor, image_BC: Tensor, cases_B: Tensor) -> None:
        """Put cases in the places of those that have waited longest."""
        size, coming = len(self.cases), len(cases_B)
        kept = slice(max(0, coming - size), coming)  # of more than there are places, the last
        if not size:
            return
        number_n = torch.arange(coming)[kept].to(self.last.device)
        places_n = (self.last + number_n) % size
        for own, came in ((self.text, text_BC), (self.image, image_BC), (self.cases, cases_B)):
            own.index_copy_(0, places_n, came[kept].to(own))
        self.last += coming

    @torch.no_grad()
    def keep_in_bounds(self) -> None:
        """Bring the temperature back to where it may be."""
        self.temperature.clamp_(_COLDEST, _WARMEST)


class Slow(nn.Module):
    """Modules whose weights follow those of others; they are stored, but no parameters."""

    core: Lanistr
    pretexts: nn.ModuleDict
    spaces: nn.ModuleDict

    def __init__(self, **fast: nn.Module) -> None:
        super().__init__()
        for name, module in fast.items():
            own = deepcopy(module)
            for inner in own.modules():
                for weight in list(inner._parameters):
                    value = inner._parameters.pop(weight)
                    inner.register_buffer(weight, None if value is None else value.detach())
            self.add_module(name, own)

    @torch.no_grad()
    def follow(self, fast: Mapping[str, nn.Module], momentum: float) -> None:
        """Move towards the weights of others, all but a share of `momentum`."""
        for name, module in fast.items():
            own = dict(self.get_submodule(name).named_buffers())
            for weight, value in module.named_parameters():
                own[weight].lerp_(value, 1 - momentum)


# ---- sides --------------------------------------------------------------------------------------


def _fusion(core: Lanistr) -> Albef:
    assert isinstance(core.fusion, Albef)
    return core.fusion


def _sides(core: Lanistr, batch: TensorBatch) -> Sides:
    """Encode notes and pictures, and bring them to where they meet."""
    laid = core.lay(batch, core.encode(batch.parts))
    return _fusion(core).sides(*laid[Modality.TEXT], *laid[Modality.IMAGE])


def _compared(spaces: nn.ModuleDict, sides: Sides) -> tuple[Tensor, Tensor]:
    """Return notes and pictures in the space of comparison, each (B, C) of length 1.

    Of several notes the mean of their [CLS] counts.
    """
    shares_BL = sides.first.to(sides.words)
    shares_BL = shares_BL / shares_BL.sum(dim=1, keepdim=True)
    text_BD = (shares_BL[:, None] @ sides.words)[:, 0]
    found = {Modality.TEXT: text_BD, Modality.IMAGE: sides.patches[:, 0]}
    text, image = (
        functional.normalize(spaces[each](vector).float(), dim=-1) for each, vector in found.items()
    )
    return text, image


def _device(batch: TensorBatch) -> torch.device:
    return next(part.sample.device for part in batch.parts.values())
