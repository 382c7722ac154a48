"""`python -m training.prepare amazon`: product reviews, with or without metadata and pictures."""

import argparse
import sys
from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import Any

from lanistr import __version__
from lanistr.modalities import Modality
from lanistr.sample import Sample
from lanistr.tasks import find_task
from training.data.store import Dataset
from training.prepare.amazon.files import ENDINGS, METADATA, find_files
from training.prepare.amazon.groups import SPLIT_BY, DealtGroups
from training.prepare.amazon.pictures import MANIFEST, Pictures
from training.prepare.amazon.reviews import Review
from training.prepare.amazon.scan import AmazonOptions, Reporter, products, reviews, scan
from training.prepare.kind import begin, options
from training.prepare.lazy import Shared
from training.prepare.prepared import Place
from training.prepare.sources import file_hashes

HELP = "product reviews of the Amazon Review Data (2018)"
EXAMPLE = (
    "python -m training.prepare amazon --source raw/amazon --pictures raw/pictures"
    " --out data/reviews"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the raw files, which reviews of them, and what must not cross splits."""
    parser.add_argument(
        "--source",
        required=True,
        type=Path,
        nargs="+",
        help=f"files ({', '.join(ENDINGS)}) or folders of them; {METADATA}... hold metadata",
    )
    parser.add_argument("--pictures", type=Path, help="folder written by `amazon-images`")
    parser.add_argument(
        "--max-text-characters", type=int, help="cut longer texts (default: only at --max-tokens)"
    )
    parser.add_argument(
        "--duplicates",
        choices=("drop", "keep"),
        default="drop",
        help="drop or keep copies of a review under variants of a product (drop)",
    )
    parser.add_argument(
        "--split-by",
        choices=SPLIT_BY,
        default=SPLIT_BY[0],
        help=f"what must not occur in more than one split ({SPLIT_BY[0]})",
    )
    parser.add_argument(
        "--complete-only", action="store_true", help="use only reviews with text and image"
    )
    parser.add_argument(
        "--rows",
        type=int,
        nargs=3,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="number of labelled reviews to draw for each split (default: all)",
    )


def prepare(arguments: argparse.Namespace) -> Dataset:
    """Read the files once to choose and split, then prepare the chosen reviews."""
    wanted = options(
        AmazonOptions,
        max_text_characters=arguments.max_text_characters,
        duplicates=arguments.duplicates,
        split_by=arguments.split_by,
        complete_only=arguments.complete_only,
        rows=tuple(arguments.rows) if arguments.rows else None,
        most_problems=arguments.most_problems,
    )
    task = find_task("rating")
    files = find_files(arguments.source)
    # The reporter has the limits: broken lines may be a share, which no number of them is.
    preparation = begin(arguments, task, most_problems=sys.maxsize)
    problems, splits = preparation.problems, preparation.splits

    # ---- what there is -------------------------------------------------------------------------
    pictures = Pictures.open(arguments.pictures, problems, wanted.most_problems)
    if pictures:
        pictures.name_products(products(files, Reporter(problems, wanted.most_problems)))
    found = scan(files, pictures, problems, wanted, splits)

    # ---- the data set --------------------------------------------------------------------------
    def samples() -> Iterator[Sample]:
        groups = found.groups[found.chosen]
        chosen = compress(reviews(files), found.chosen)
        for (name, review), group in zip(chosen, groups, strict=True):
            yield _sample(name, review, str(group), pictures, wanted.max_text_characters)

    hashes = file_hashes(files.root, (*files.reviews, *files.metadata))
    if arguments.pictures:
        manifest = file_hashes(arguments.pictures, [arguments.pictures / MANIFEST])
        hashes |= {f"pictures/{name}": each for name, each in manifest.items()}
    return preparation.run(
        samples,
        place_of=_place_of,
        split_of=DealtGroups(found.splits),
        source={
            "from": "amazon",
            "version": __version__,
            "files": hashes,
            "options": wanted.model_dump(mode="json"),
            "counts": found.counts,
        },
    )


def _sample(
    name: str, review: Review, group: str, pictures: Pictures, longest: int | None
) -> Sample:
    parts: dict[Modality, Any] = {Modality.TABULAR: review.row}
    if text := review.text(longest):
        parts[Modality.TEXT] = (text,)
    if file := pictures.find(review.product, review.picture):
        parts[Modality.IMAGE] = Shared(str(file), lambda: (pictures.read(file),))
    return Sample(
        parts,
        id=name,
        label=review.stars,
        group=group,
        subgroups={
            "category": _category(name),
            "verified": str(review.row.get("verified", "unknown")).lower(),
        },
    )


def _place_of(case: Sample) -> Place:
    """Return what a review's name, FILE:LINE, tells."""
    file, _, line = str(case.id).rpartition(":")
    return file, int(line)


def _category(name: str) -> str:
    """Return the category that a review's name, FILE:LINE, tells: the file without endings."""
    file = Path(name.rpartition(":")[0]).name
    return file.partition(".")[0].removesuffix("_5")
