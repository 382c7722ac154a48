"""Cases as arrays: `Features` for one case, `Batch` for several, only with the parts present.

Arrays of one row, by modality (a case has one row per note, per picture, and one table row and
one series):

    text        token_ids       (L,)       int64    WordPiece ids, [CLS] ... [SEP]
    image       pixels          (3, S, S)  uint8    RGB, 0 to 255
    tabular     numbers         (M,)       float32  standardised; 0 where missing
                categories      (K,)       int64    code; 0 missing, 1 unknown, 2... known
    timeseries  values          (T, F)     float32  see `lanistr.preprocess.timeseries`
    any         encoded         (N, W)     float16  in place of these, where a frozen encoder has
                                                    run before: the tokens that it yielded

In a `Batch` every array has one more axis in front, the rows R of that modality; text is padded
to the longest row and gets `attention_mask` (R, L) int64, 1 for a token and 0 for padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanistr.issues import InputIssue
from lanistr.modalities import Modality

RAGGED = frozenset({"token_ids", "encoded"})
"""Names of the arrays whose rows differ in length."""

PADDED = RAGGED | {"attention_mask"}
"""Names of the arrays whose second axis is as long as the longest row of the batch."""

Arrays = Mapping[str, NDArray[Any]]
"""Named arrays of one row (in `Features`) or of R rows (in `Batch`)."""


@dataclass(frozen=True, slots=True)
class Features:
    """One preprocessed case.

    Attributes:
        rows: the rows of each modality that is present; a modality that is absent has no key.
        issues: what was dropped, clipped, converted or kept although unusual on the way here.
    """

    rows: Mapping[Modality, tuple[Arrays, ...]]
    issues: tuple[InputIssue, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one modality in a batch.

    Attributes:
        sample: (R,) int64, ascending: the case in the batch that each row belongs to. A case that
            lacks the modality is not named; one with several pictures or notes is named again.
        arrays: the arrays of the module's table, with R rows.
    """

    sample: NDArray[np.int64]
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class Batch:
    """Several cases.

    Attributes:
        size: number of cases B.
        parts: rows by modality; a modality that no case brings has no key.
        labels: (B,) float32, class index or number; NaN where unlabelled. None if not asked for.
        ids: the cases' names, for reports.
    """

    size: int
    parts: Mapping[Modality, Part]
    labels: NDArray[np.float32] | None = None
    ids: Sequence[str] = ()

    def presence(self) -> NDArray[np.bool_]:
        """Return (B, 4) bool: which case brings which modality, in canonical order."""
        present = np.zeros((self.size, len(Modality)), dtype=np.bool_)
        for column, modality in enumerate(Modality):
            if modality in self.parts:
                present[self.parts[modality].sample, column] = True
        return present


def collate(
    cases: Sequence[Features],
    labels: NDArray[np.float32] | None = None,
    ids: Sequence[str] = (),
) -> Batch:
    """Put cases into one batch, padding only along text length."""
    parts: dict[Modality, Part] = {}
    for modality in Modality:
        owners = [i for i, case in enumerate(cases) for _ in case.rows.get(modality, ())]
        if owners:
            rows = [row for case in cases for row in case.rows.get(modality, ())]
            parts[modality] = Part(np.asarray(owners, dtype=np.int64), stack(rows))
    return Batch(len(cases), parts, labels, ids)


def stack(rows: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Stack the rows of one modality; ragged arrays are padded with 0 and get a mask.

    The mask stands beside the padded array under the name ``attention_mask``, also when all rows
    are of one length, so that a graph always has the same inputs.
    """
    stacked: dict[str, NDArray[Any]] = {}
    for name in rows[0]:
        arrays = [row[name] for row in rows]
        if name in RAGGED:
            lengths = np.array([len(array) for array in arrays])
            shape = (len(rows), lengths.max(), *arrays[0].shape[1:])
            padded = np.zeros(shape, dtype=arrays[0].dtype)
            for i, array in enumerate(arrays):
                padded[i, : len(array)] = array
            stacked[name] = padded
            mask = np.arange(lengths.max())[None, :] < lengths[:, None]
            stacked["attention_mask"] = mask.astype(np.int64)
        else:
            stacked[name] = np.stack(arrays)
    return stacked
