"""The first reading of the raw files: what is wrong, which reviews count, and their splits.

Of each review a few numbers are kept, some 30 bytes; the reviews themselves are read again from the
files whenever they are needed.
"""

import logging
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from lanistr.errors import ConfigError, DataError
from lanistr.schema import Schema
from training.data.store import SPLITS
from training.prepare.amazon.files import RawFiles, read_lines
from training.prepare.amazon.groups import (
    SplitBy,
    check_dealt,
    deal,
    first_of_each,
    group_numbers,
    hash_of,
    keep_texts_in_one_split,
)
from training.prepare.amazon.pictures import Pictures
from training.prepare.amazon.reviews import (
    NO_PRODUCT,
    Report,
    Review,
    first_address,
    read_review,
    read_word,
)
from training.prepare.prepared import SplitOptions
from training.prepare.problems import Problems

log = logging.getLogger(__name__)

BROKEN_LINES = 0.01
"""The largest share of broken lines that a run goes on with."""

_GIVE_UP_AFTER = 1000
"""Broken lines after which a file that is broken by half is not read to its end."""

PICTURE_COLUMNS = ("imageURLHighRes", "imageURL")
"""Of the metadata, the better first."""

Flags = NDArray[np.bool_]
_Count = Annotated[int, Field(ge=0)]


class AmazonOptions(Schema):
    """Which reviews, and what must not cross splits.

    Attributes:
        max_text_characters: a longer text is cut; None: only at the token limit.
        duplicates: whether the copies of a review are dropped but for the first.
        split_by: what must not cross splits.
        complete_only: drop reviews that lack text or picture.
        rows: how many labelled reviews each split is to have, drawn by chance; None: all.
        most_problems: stop when more values cannot be used.
    """

    max_text_characters: int | None = Field(default=None, ge=1)
    duplicates: Literal["drop", "keep"] = "drop"
    split_by: SplitBy = "product-and-text"
    complete_only: bool = False
    rows: tuple[_Count, _Count, _Count] | None = None
    most_problems: int = Field(default=1000, ge=0)


@dataclass(frozen=True, slots=True)
class Scan:
    """What the first reading found; N reviews could be read.

    Attributes:
        chosen: (N,) whether a review is prepared.
        groups: (N,) number of its group.
        splits: (G,) the split of each group, by its place in `SPLITS`.
        counts: numbers for the provenance.
    """

    chosen: Flags
    groups: NDArray[np.int64]
    splits: NDArray[np.int8]
    counts: dict[str, int]


def reviews(files: RawFiles, report: "Reporter | None" = None) -> Iterator[tuple[str, Review]]:
    """Yield every review that can be read, with its name: file and line.

    Args:
        files: the raw files.
        report: takes what is wrong; None: it was reported before.
    """
    for path in files.reviews:
        name = files.name(path)
        for number, record in read_lines(path):
            found: Review | str
            if isinstance(record, str):
                found = record
            else:
                found = read_review(record, report.at(name, number) if report else _ignore)
            if report:
                report.line(name, number, found if isinstance(found, str) else None)
            if not isinstance(found, str):
                yield f"{name}:{number}", found


class Reporter:
    """Lists what is wrong with lines and values, and stops the run when it is too much."""

    def __init__(self, problems: Problems, most_values: int) -> None:
        """Begin; values that cannot be used are counted together with those of other reporters."""
        self.lines = self.broken = 0
        self._problems = problems
        self._most_values = most_values

    def at(self, file: str, number: int) -> Report:
        """Return what takes the problems of one line's columns."""

        def report(column: str, seen: Any, accepted: str) -> None:
            message = f"cannot be used and counts as missing; accepted: {accepted}"
            self._problems.add(
                "bad_value", message, file=file, row=number, column=column, seen=seen
            )
            values = self._problems.counts["bad_value"]
            if values > self._most_values:
                raise DataError(
                    f"too many values that cannot be used, the last in line {number} of {file}",
                    code="too_many_problems",
                    field=column,
                    seen=seen,
                    accepted=f"at most {self._most_values} (--most-problems); {accepted}",
                )

        return report

    def line(self, file: str, number: int, wrong: str | None) -> None:
        """Count a line, and list it if something is wrong with it.

        Raises:
            DataError: so many are broken that this is no file of reviews.
        """
        self.lines += 1
        if wrong is not None:
            self.broken += 1
            self._problems.add("broken_line", wrong, file=file, row=number)
            if self.broken > max(_GIVE_UP_AFTER, self.lines / 2):
                self.end()

    def end(self) -> None:
        """Hold the broken lines against the limit.

        Raises:
            DataError: there are too many.
        """
        if self.broken > BROKEN_LINES * self.lines:
            raise DataError(
                "too many broken lines",
                code="too_many_broken_lines",
                field="--source",
                seen=f"{self.broken:,} of {self.lines:,} lines",
                accepted=f"at most {BROKEN_LINES:.0%}; the problems file lists them",
            )


def products(files: RawFiles, reporter: Reporter) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every product of the metadata with the addresses of its pictures, the best first.

    Raises:
        DataError: too many lines are broken.
    """
    for path in files.metadata:
        name = files.name(path)
        for number, record in read_lines(path):
            if isinstance(record, str):
                reporter.line(name, number, record)
                continue
            report = reporter.at(name, number)
            product = read_word(record, "asin", report)
            reporter.line(name, number, None if product else NO_PRODUCT)
            if product:
                found = [first_address(record, each, report) for each in PICTURE_COLUMNS]
                yield product, tuple(each for each in found if each)
    reporter.end()


def scan(
    files: RawFiles,
    pictures: Pictures,
    problems: Problems,
    options: AmazonOptions,
    splits: SplitOptions,
) -> Scan:
    """Read every review once.

    Raises:
        DataError: too many lines or values are broken, or no reviews are left.
        ConfigError: the groups are too large for the splits, or there are too few reviews.
    """
    reporter = Reporter(problems, options.most_problems)
    asins, texts, contents = array("Q"), array("Q"), array("Q")
    named, has_words, complete, labelled = (bytearray() for _ in range(4))
    counts = Counter({"text_cut": 0, "picture_not_there": 0})
    for _, review in tqdm(reviews(files, reporter), desc="reading", unit=" reviews", disable=None):
        asins.append(hash_of("product", review.product))
        texts.append(_text_key(review))
        contents.append(hash_of(*review.content))
        named.append(bool(review.reviewer))
        text = review.text()
        picture = pictures.find(review.product, review.picture)
        has_words.append(bool(review.words))
        complete.append(bool(text and picture))
        labelled.append(review.stars is not None)
        counts["text_cut"] += len(text) > (options.max_text_characters or len(text))
        counts["picture_not_there"] += bool(review.picture) and not picture
    reporter.end()

    # ---- which count ---------------------------------------------------------------------------
    chosen = np.ones(len(asins), dtype=bool)
    if options.complete_only:
        chosen &= _flags(complete)
        counts["incomplete"] = int((~chosen).sum())
    # Of reviews whose writer is not named, none can be told to be another's copy.
    first = np.zeros_like(chosen)
    first[chosen] = first_of_each(_hashes(contents)[chosen], exempt=~_flags(named)[chosen])
    counts["copies"] = int((chosen & ~first).sum())
    if options.duplicates == "drop":
        chosen &= first
    if not chosen.any():
        raise DataError(
            "no reviews are left",
            code="no_records",
            field="--source",
            seen=dict(counts),
            accepted="with --complete-only: reviews with text whose image is in --pictures"
            if options.complete_only
            else "files that contain reviews",
        )

    # ---- where they stand ----------------------------------------------------------------------
    joins, shared = _flags(has_words), _hashes(texts)
    if options.duplicates == "keep" and options.split_by == "product-and-text":
        # Copies without a text are joined by what makes them copies.
        joins, shared = joins | _flags(named), np.where(joins, shared, _hashes(contents))
    groups = group_numbers(_hashes(asins), shared, joins, options.split_by)
    sizes = np.bincount(groups, chosen).astype(np.int64)
    dealt = deal(sizes, splits)
    if options.split_by == "product-cut-text":
        stands = keep_texts_in_one_split(_hashes(texts), dealt[groups], chosen)
        counts["text_in_two_splits"] = int((chosen & ~stands).sum())
        chosen &= stands
        sizes = np.bincount(groups, chosen).astype(np.int64)
    check_dealt(sizes, dealt, splits, options.split_by)
    if options.rows:
        chosen &= _flags(labelled)
        chosen = _draw(chosen, dealt[groups], options.rows, splits.seed)
    return Scan(
        chosen,
        groups,
        dealt,
        {
            "lines": reporter.lines,
            "broken_lines": reporter.broken,
            **dict(sorted(counts.items())),
            "groups": int((sizes > 0).sum()),
            "largest_group": int(sizes.max()),
            "prepared": int(chosen.sum()),
        },
    )


def _text_key(review: Review) -> int:
    """Return what tells a text; a review without stands for its writer, else for its product."""
    if review.words:
        return hash_of("text", review.words)
    if review.reviewer:
        return hash_of("reviewer", review.reviewer)
    return hash_of("product", review.product)


def _draw(chosen: Flags, splits: NDArray[np.int8], rows: tuple[int, ...], seed: int) -> Flags:
    """Keep so many of each split, drawn by chance."""
    kept = np.zeros_like(chosen)
    rng = np.random.default_rng([seed, 1])
    for code, (name, wanted) in enumerate(zip(SPLITS, rows, strict=True)):
        there = np.flatnonzero(chosen & (splits == code))
        if len(there) < wanted:
            raise ConfigError(
                f"the {name} split has too few labelled reviews",
                code="too_few_records",
                field="--rows",
                seen=wanted,
                accepted=f"at most {len(there)}; or other --splits",
            )
        kept[rng.permutation(there)[:wanted]] = True
    return kept


def _flags(values: bytearray) -> Flags:
    return np.array(values, dtype=np.bool_) if not values else np.frombuffer(values, np.bool_)


def _hashes(values: "array[int]") -> NDArray[np.uint64]:
    return np.asarray(values, dtype=np.uint64)


def _ignore(column: str, seen: Any, accepted: str) -> None:
    """Pass over what was reported before."""
