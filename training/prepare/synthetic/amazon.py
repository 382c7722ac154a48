"""Made-up reviews in the files that Amazon Review Data (2018) has, with their gaps and their dirt.

    Synthetic.json.gz        one review a line
    meta_Synthetic.json.gz   one product a line, with the addresses of its pictures
    pictures/                what `amazon-images` would have fetched from there, with its manifest

Shares as measured in the 5-core files of Fashion and Beauty (8,445 lines): 10% of the reviews have
votes, 92% a style, 2% pictures of the reviewer, 0.2% no text, 0.06% no summary. The other shares
are ours: a line is a copy of another under a variant of the product far less often than there.
"""

import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from training.prepare.amazon.pictures import Manifest
from training.prepare.synthetic.reviews import CUTS, SHARED, draw_picture, draw_review

CATEGORY = "Synthetic"
PICTURES = "pictures"

_LINES, _LISTINGS, _REVIEWERS = 1800, 100, 1100
"""Lines in a block, and the listings and reviewers that they are about and by."""

_VARIANTS = 4
_DIRT = 1000  # of random streams, the one of what is done to a line; 0 would be that of copies
_COPY = 0.12  # a line repeats the one before under another variant of the product
_BROKEN = 0.001  # a line is cut off
_NO_TEXT, _NO_SUMMARY, _STYLE, _VOTES, _OWN_PICTURE = 0.002, 0.0006, 0.92, 0.10, 0.02
_STARS_AS_SUMMARY = 0.3  # the shop's own summary where the reviewer gives none
_USUAL = 0.05  # a text that many write
_ENTITIES = 0.01  # HTML in a text
_DEAD = 0.2  # a picture's address leads nowhere
_TWICE = 0.01  # a product stands in the metadata a second time
_WORDS = ("One Star", "Two Stars", "Three Stars", "Four Stars", "Five Stars")
_USUAL_TEXTS = (
    ("Not good", "Junk", "Did not work", "Waste of money", "Poor quality"),
    ("Ok", "It works", "As expected", "Does the job", "Not bad"),
    ("Great product", "Love it", "Perfect!", "Nice", "Works great", "good", "Excellent product"),
)
_FIRST_DAY = datetime(2006, 1, 1, tzinfo=UTC)


def write_amazon(
    folder: Path, *, samples: int, missing: float, unlabelled: float, seed: int
) -> None:
    """Write the files; memory grows with the number of pictures alone.

    Args:
        folder: exists, and is empty.
        samples: lines of the file of reviews; broken lines and copies count.
        missing: share of the products without a picture in the metadata.
        unlabelled: share of the reviews without stars.
        seed: the same seed makes the same lines, whatever their number.
    """
    with (
        _compressed(folder / f"{CATEGORY}.json.gz") as reviews,
        _compressed(folder / f"meta_{CATEGORY}.json.gz") as metadata,
        Manifest(folder / PICTURES) as manifest,
    ):
        for start in tqdm(range(0, samples, _LINES), desc="writing", unit=" blocks", disable=None):
            listings: set[int] = set()
            for number in range(start, min(start + _LINES, samples)):
                line, listing = _line(number, seed, unlabelled, manifest)
                reviews.write(line)
                listings.add(listing)
            for listing in sorted(listings):
                for record in _products(listing, seed, missing, manifest):
                    metadata.write(_encoded(record))


# ---- reviews ------------------------------------------------------------------------------------


def _line(number: int, seed: int, unlabelled: float, manifest: Manifest) -> tuple[bytes, int]:
    """Make one line of reviews, and say which listing it is about."""
    origin = number
    while origin % _LINES and _rng(seed, origin).random() < _COPY:
        origin -= 1
    record, listing = _review(origin, seed, unlabelled, manifest)
    rng = _rng(seed, number, _DIRT)
    if origin != number:
        record["asin"] = _asin(listing, int(rng.integers(_VARIANTS)))
    line = _encoded(record)
    if rng.random() < _BROKEN:
        line = line[: len(line) // 2] + b"\n"
    return line, listing


def _review(
    number: int, seed: int, unlabelled: float, manifest: Manifest
) -> tuple[dict[str, Any], int]:
    """Make a review; what is drawn does not depend on what is left out."""
    rng = _rng(seed, number, 1)
    block = number // _LINES
    listing = block * _LISTINGS + int(rng.integers(_LISTINGS))
    quality = _quality(listing, seed)
    opinion = 0.7 * quality + 0.7 * rng.normal()
    own = np.sqrt(1 - SHARED**2)
    words, facts = (SHARED * opinion + own * rng.normal() for _ in range(2))
    score = np.mean([words, quality, facts]) + 0.15 * rng.normal()
    stars = 1 + int(np.searchsorted(CUTS, score))
    summary, _, text = draw_review(words, rng).partition(". ")
    if rng.random() < _STARS_AS_SUMMARY:
        summary = _WORDS[stars - 1]
    if rng.random() < _USUAL:
        text = str(rng.choice(_USUAL_TEXTS[min(max(stars - 2, 0), 2)]))
    if rng.random() < _ENTITIES:
        text = text.replace(" is ", " &amp;  is\n", 1)
    day = _FIRST_DAY + timedelta(days=int(4600 * rng.beta(3, 1)))
    votes = 2 + int(rng.exponential(4 * np.exp(-facts)))
    record: dict[str, Any] = {
        "overall": float(stars),
        "vote": f"{votes if rng.random() < 0.99 else 300 * votes:,}",
        "verified": bool(rng.random() < 1 / (1 + np.exp(-(1.8 + 1.2 * facts)))),
        "reviewTime": f"{day:%m} {day.day}, {day:%Y}",
        "reviewerID": f"A{block:07d}{int(rng.integers(_REVIEWERS)):05d}",
        "asin": _asin(listing, int(rng.integers(_VARIANTS))),
        "style": {"Color:": f" {rng.choice(['Black', 'White', 'Blue', 'Red'])}"},
        "reviewerName": f"Customer {int(rng.integers(1_000_000))}",
        "reviewText": text,
        "summary": summary,
        "unixReviewTime": int(day.timestamp()),
        "image": [_address(f"R{number}")],
    }
    kept = {
        "overall": 1 - unlabelled,
        "vote": _VOTES,
        "style": _STYLE,
        "reviewText": 1 - _NO_TEXT,
        "summary": 1 - _NO_SUMMARY,
        "image": _OWN_PICTURE,
    }
    for column, share in kept.items():
        if rng.random() >= share:
            del record[column]
    if "image" in record:
        _put_picture(manifest, record["image"][0], quality, listing, rng)
    return record, listing


# ---- products -----------------------------------------------------------------------------------


def _products(
    listing: int, seed: int, missing: float, manifest: Manifest
) -> Iterator[dict[str, Any]]:
    """Yield the variants of a listing as the metadata has them."""
    for variant in range(_VARIANTS):
        rng = _rng(seed, listing, 2 + variant)
        asin = _asin(listing, variant)
        high, low = _address(f"{asin}._SL1500_"), _address(f"{asin}._SS40_")
        pictured = rng.random() >= missing
        small_only = rng.random() < 0.1
        record = {
            "category": ["Made up"],
            "title": f"Item {listing}",
            "asin": asin,
            "imageURL": [low] if pictured else [],
            "imageURLHighRes": [high] if pictured and not small_only else [],
        }
        if pictured:
            quality = _quality(listing, seed)
            given = not small_only and _put_picture(manifest, high, quality, listing, rng)
            if not given:
                _put_picture(manifest, low, quality, listing, rng)
        yield record
        if rng.random() < _TWICE:
            yield record


def _put_picture(
    manifest: Manifest, address: str, quality: float, listing: int, rng: np.random.Generator
) -> bool:
    """Put what an address leads to into the manifest; return whether it is a picture."""
    if rng.random() < _DEAD:
        manifest.fail(address, "http_404", "Not Found", True, 1)
        return False
    manifest.keep(address, draw_picture(quality, listing, rng), "JPEG")
    return True


def _quality(listing: int, seed: int) -> float:
    return float(_rng(seed, listing, 6 + _VARIANTS).normal())


def _asin(listing: int, variant: int) -> str:
    return f"B{listing:08d}{variant}"


def _address(name: str) -> str:
    return f"https://pictures.example/I/{name}.jpg"


# ---- files --------------------------------------------------------------------------------------


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _encoded(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


@contextmanager
def _compressed(path: Path) -> Iterator[IO[bytes]]:
    """Open a .gz file for writing, without name and time in it: the same lines, the same bytes."""
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        io.BufferedWriter(packed) as lines,
    ):
        yield lines
