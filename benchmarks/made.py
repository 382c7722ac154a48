"""Cases made by chance in memory, as long and as incomplete as real ones, and a naive way to batch.

Only sizes count here: what stands in the arrays is noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.batch import PADDED, RAGGED, Arrays, Batch, Features, Part, collate
from lanistr.modalities import Modality
from lanistr.model.lanistr import Lanistr
from training.data.store import Dataset, EncodedRows

USUAL_LIMIT = 512
"""Tokens of a note that the figures of `Mix` are meant for; other limits scale them."""

_FIRST_WORD = 104  # behind the special tokens of BERT's vocabulary


@dataclass(frozen=True)
class Mix:
    """What cases bring.

    Attributes:
        median: of the log-normal length of a text in tokens; None: every text is as long as it may.
        sigma: deviation of the length's logarithm.
        longest: tokens at which texts are cut.
        missing: chance by modality that a case lacks it, each by itself; a case of nothing is
            drawn again.
    """

    median: float | None = None
    sigma: float = 0.0
    longest: int = USUAL_LIMIT
    missing: Mapping[Modality, float] | None = None


class MadeCases(Dataset):
    """Reads as a prepared data set does, from memory."""

    def __init__(self, cases: Sequence[Features]) -> None:
        self.cases = cases
        self.labels = np.full(len(cases), np.nan, dtype=np.float32)
        self.tokens = np.array([_tokens(each) for each in cases])
        self.amounts = {
            m: self.tokens if ragged else np.array([len(c.rows.get(m, ())) for c in cases])
            for m, ragged in {
                m: bool(RAGGED & rows[0].keys()) for c in cases for m, rows in c.rows.items()
            }.items()
        }

    def row_counts(self, modality: Modality) -> NDArray[np.int64]:
        """See `Dataset.row_counts`."""
        return np.array([len(each.rows.get(modality, ())) for each in self.cases])

    def batch(
        self,
        positions: Sequence[int],
        *,
        seed: int | None = None,
        encoded: EncodedRows | None = None,
    ) -> Batch:
        """See `Dataset.batch`; nothing varies."""
        chosen = [self.cases[int(i)] for i in positions]
        return collate(chosen, self.labels[np.asarray(positions)], [str(i) for i in positions])


class NaiveCases(MadeCases):
    """The same cases with nothing absent and every text as long as the longest may be.

    What a case lacks is made up of zeros, as the release does. Padding counts as words, so that the
    loss over all positions runs over it too.

    Args:
        cases: as they are.
        blank: a row of zeros of every modality.
        limit: tokens that every text is padded to.
    """

    def __init__(
        self, cases: Sequence[Features], blank: Mapping[Modality, Arrays], limit: int
    ) -> None:
        super().__init__(
            [Features({m: each.rows.get(m, (row,)) for m, row in blank.items()}) for each in cases]
        )
        self.limit = limit
        self.tokens[:] = limit  # in place: `amounts` refers to it

    def batch(
        self,
        positions: Sequence[int],
        *,
        seed: int | None = None,
        encoded: EncodedRows | None = None,
    ) -> Batch:
        """See `MadeCases.batch`."""
        tight = super().batch(positions)
        parts = {
            m: Part(part.sample, {name: self._pad(name, a) for name, a in part.arrays.items()})
            for m, part in tight.parts.items()
        }
        return Batch(tight.size, parts, tight.labels, tight.ids)

    def _pad(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        if name not in PADDED:
            return array
        if name not in RAGGED:
            return np.ones((len(array), self.limit), dtype=array.dtype)
        return np.pad(array, ((0, 0), (0, self.limit - array.shape[1])))


def make_cases(model: Lanistr, mix: Mix, count: int, seed: int) -> list[Features]:
    """Make cases for a model, each modality of the sizes that its encoder takes."""
    rng = np.random.default_rng(seed)
    blank = blank_rows(model)
    missing = mix.missing or {}
    cases: list[Features] = []
    while len(cases) < count:
        kept = [m for m in blank if rng.random() >= missing.get(m, 0.0)]
        if kept:
            rows = {m: (_fill(model, blank[m], mix, rng),) for m in kept}
            cases.append(Features(rows))
    return cases


def blank_rows(model: Lanistr) -> dict[Modality, Arrays]:
    """Return a row of zeros of every modality of a model; a text of two tokens."""
    blank: dict[Modality, Arrays] = {}
    for modality in model.config.modalities:
        encoder = model.encoder(modality)
        arrays = {name: each[0].numpy() for name, each in encoder.example(1).items()}
        blank[modality] = {
            name: array[:2] if name in RAGGED else array
            for name, array in arrays.items()
            if name not in PADDED - RAGGED
        }
    return blank


def text_limit(model: Lanistr) -> int:
    """Return the tokens that a text may have."""
    assert model.config.text is not None
    return model.config.text.max_tokens


def draw_length(mix: Mix, limit: int, rng: np.random.Generator) -> int:
    """Draw the length of a text in tokens, special ones included."""
    if mix.median is None:
        return limit
    scale = limit / USUAL_LIMIT
    drawn = mix.median * scale * np.exp(mix.sigma * rng.standard_normal())
    return int(np.clip(round(drawn), 3, mix.longest * scale))


def _fill(model: Lanistr, blank: Arrays, mix: Mix, rng: np.random.Generator) -> Arrays:
    filled: dict[str, NDArray[Any]] = {}
    for name, array in blank.items():
        if name in RAGGED:
            assert model.config.text is not None
            length = draw_length(mix, text_limit(model), rng)
            filled[name] = rng.integers(_FIRST_WORD, model.config.text.vocab_size, length)
        elif array.dtype == np.uint8:
            filled[name] = rng.integers(0, 256, array.shape, dtype=np.uint8)
        elif array.dtype == np.float32:
            filled[name] = rng.standard_normal(array.shape, dtype=np.float32)
        else:
            filled[name] = array
    return filled


def _tokens(case: Features) -> int:
    return sum(
        len(row[name])
        for rows in case.rows.values()
        for row in rows
        for name in RAGGED & row.keys()
    )
