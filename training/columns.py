"""Cases as rows of one wide table, for methods that know nothing of modalities.

What a case lacks stays missing: nothing is filled in here. A series becomes six figures a variable,
a picture becomes a coarse one, and notes become words again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lanistr.batch import Arrays
from lanistr.modalities import Modality
from lanistr.preprocess.tabular import TabularPreprocessor
from lanistr.preprocess.text import TextPreprocessor
from lanistr.preprocess.timeseries import TimeseriesPreprocessor
from training.data.store import Dataset

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]

SUMMARIES = ("first", "last", "min", "max", "mean", "count")
"""Of each variable of a series, over the steps in which it was measured."""

THUMBNAIL = 8
"""Side of the coarse grey picture, in pixels."""

OTHER = "(other)"
"""Stands for a category that training never saw."""


@dataclass(frozen=True)
class Columns:
    """What N cases bring of one modality.

    Attributes:
        present: (N,) whether they bring it at all.
        names: of the K columns of `numbers`.
        numbers: (N, K), NaN where missing.
        categories: by name, (N,) words; None where missing.
        texts: (N,) all notes of a case, one a line, "" where there is none; None: no such modality.
        pictures: (N,) encoded pictures of a case, None where missing; None: not asked for.
    """

    present: NDArray[np.bool_]
    names: Sequence[str] = ()
    numbers: Floats = field(default_factory=lambda: np.empty((0, 0)))
    categories: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    texts: Sequence[str] | None = None
    pictures: Sequence[Sequence[bytes] | None] | None = None


Reader = Callable[[Dataset, Modality, Positions], Columns]


def read_columns(
    dataset: Dataset, positions: Positions, readers: Mapping[Modality, Reader] | None = None
) -> dict[Modality, Columns]:
    """Return what cases bring, by modality of the data set.

    Args:
        dataset: where they stand.
        positions: (N,) which they are, and in which order.
        readers: of modalities that are to be read otherwise than usual.
    """
    chosen = {**READERS, **(readers or {})}
    return {each: chosen[each](dataset, each, positions) for each in dataset.task.modalities}


# ---- one modality each --------------------------------------------------------------------------


def _notes(dataset: Dataset, modality: Modality, positions: Positions) -> Columns:
    """Put the words together again; what the vocabulary did not know is lost."""
    fitted = dataset.preprocessor.parts[modality]
    assert isinstance(fitted, TextPreprocessor)
    found = Rows(dataset, modality, positions)
    ids = [arrays["token_ids"].tolist() for arrays in found.read()]
    notes = fitted.tokenizer.decode_batch(ids, skip_special_tokens=True)
    texts = [""] * len(positions)
    for case, row in zip(found.case, found.place, strict=True):
        texts[case] += ("\n" if texts[case] else "") + notes[row]
    empty = np.empty((len(positions), 0))
    return Columns(found.present, numbers=empty, texts=texts)


def _fields(dataset: Dataset, modality: Modality, positions: Positions) -> Columns:
    """Numbers as stored, standardised; categories as words."""
    fitted = dataset.preprocessor.parts[modality]
    assert isinstance(fitted, TabularPreprocessor)
    found, names = Rows(dataset, modality, positions), list(fitted.numbers)

    def figures(arrays: Arrays) -> Floats:
        values, missing = np.split(arrays["numbers"].astype(np.float64), 2)
        return np.concatenate([np.where(missing > 0, np.nan, values), arrays["categories"]])

    values = found.means(figures, len(names) + len(fitted.categories))
    told = fitted.describe()["categories"]
    codes = values[:, len(names) :].T
    words = {each["of"]: _words(each, column) for each, column in zip(told, codes, strict=True)}
    return Columns(found.present, names, values[:, : len(names)], words)


def _words(told: Mapping[str, Any], codes: Floats) -> NDArray[np.object_]:
    """Return the words (N,) of a categorical field's codes; those of buckets are numbers."""
    known = {code: word for word, code in told.get("codes", {}).items()}
    if "codes" in told:
        known[told["other"]] = OTHER
    words = np.empty(len(codes), dtype=object)
    for case, code in enumerate(codes):
        if not np.isnan(code) and code != told["missing"]:
            words[case] = known.get(int(code), str(int(code)))
    return words


def _series(dataset: Dataset, modality: Modality, positions: Positions) -> Columns:
    """Six figures of each variable; words count by their place in the task's list."""
    fitted = dataset.preprocessor.parts[modality]
    assert isinstance(fitted, TimeseriesPreprocessor)
    sizes, told = fitted.dimensions(), fitted.describe()["values"]
    variables = [told[group[0]]["of"] for group in sizes["groups"]]
    words = ["codes" in told[group[0]] for group in sizes["groups"]]

    def figures(arrays: Arrays) -> Floats:
        values = arrays["values"].astype(np.float64)
        grid = np.empty((len(values), len(variables)))
        for column, (group, worded) in enumerate(zip(sizes["groups"], words, strict=True)):
            block = values[:, group]
            grid[:, column] = block[:, 0]
            if worded:  # a word that is none of the list is all zero
                grid[:, column] = np.where(block.any(axis=1), block.argmax(axis=1), np.nan)
        grid[values[:, sizes["measured"]] == 0] = np.nan
        return summarise(grid).reshape(-1)

    found = Rows(dataset, modality, positions)
    numbers = found.means(figures, len(SUMMARIES) * len(variables))
    names = [f"{each} {variable}" for each in SUMMARIES for variable in variables]
    return Columns(found.present, names, numbers)


def summarise(grid: Floats) -> Floats:
    """Return `SUMMARIES` of each variable, (6, V), NaN where it was never measured (0 for count).

    Args:
        grid: (T, V), NaN where a step was not measured.
    """
    known = ~np.isnan(grid)
    count, variables = known.sum(axis=0), np.arange(grid.shape[1])
    first, last = known.argmax(axis=0), len(grid) - 1 - known[::-1].argmax(axis=0)
    mean = np.full(grid.shape[1], np.nan)
    np.divide(np.where(known, grid, 0).sum(axis=0), count, out=mean, where=count > 0)
    return np.stack(
        [
            *(grid[first, variables], grid[last, variables]),
            *(np.fmin.reduce(grid), np.fmax.reduce(grid), mean, count),
        ]
    )


def _pictures(dataset: Dataset, modality: Modality, positions: Positions) -> Columns:
    """Mean and deviation of each colour and a thumbnail in grey; of several pictures their mean."""
    names = [f"{each} {colour}" for each in ("mean", "deviation") for colour in ("r", "g", "b")]
    names += [f"grey {y} {x}" for y in range(THUMBNAIL) for x in range(THUMBNAIL)]

    def figures(arrays: Arrays) -> Floats:
        pixels = arrays["pixels"] / 255
        grey, edges = pixels.mean(axis=0), np.arange(THUMBNAIL) * pixels.shape[1] // THUMBNAIL
        cells = np.add.reduceat(np.add.reduceat(grey, edges, axis=0), edges, axis=1)
        sides = np.diff(edges, append=pixels.shape[1])
        thumbnail = cells / np.outer(sides, sides)
        colours = pixels.mean(axis=(1, 2)), pixels.std(axis=(1, 2))
        return np.concatenate([*colours, thumbnail.reshape(-1)])

    found = Rows(dataset, modality, positions)
    return Columns(found.present, names, found.means(figures, len(names)))


READERS: Mapping[Modality, Reader] = {
    Modality.TEXT: _notes,
    Modality.IMAGE: _pictures,
    Modality.TABULAR: _fields,
    Modality.TIMESERIES: _series,
}


# ---- rows of a table, each read once ------------------------------------------------------------


class Rows:
    """The rows of a modality's table that some cases refer to.

    Attributes:
        present: (N,) whether a case refers to any.
        case: (P,) for each reference, its case, from 0.
        place: (P,) and its row, as a place among those that `read` yields.
    """

    def __init__(self, dataset: Dataset, modality: Modality, positions: Positions) -> None:
        self._dataset, self._modality = dataset, modality
        counts = dataset.row_counts(modality)[positions]
        self.present = counts > 0
        self.case = np.repeat(np.arange(len(positions)), counts)
        references = dataset.references(modality, positions)
        self._rows, self.place = np.unique(references, return_inverse=True)

    def read(self) -> Iterator[Arrays]:
        """Yield the arrays of every row once."""
        rows = self._rows.tolist()
        for row in tqdm(rows, desc=f"reading {self._modality}", leave=False, disable=None):
            yield self._dataset.arrays(self._modality, row)

    def means(self, figures: Callable[[Arrays], Floats], count: int) -> Floats:
        """Return the mean over a case's rows of so many figures of each: (N, K), NaN for none."""
        by_row = np.array([figures(each) for each in self.read()]).reshape(-1, count)
        means = np.full((len(self.present), count), np.nan)
        means[self.present] = 0
        np.add.at(means, self.case, by_row[self.place])
        return means / np.maximum(np.bincount(self.case, minlength=len(means)), 1)[:, None]
