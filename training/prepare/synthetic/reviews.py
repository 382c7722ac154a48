"""Made-up product reviews for `tasks/rating.yaml`."""

import colorsys
import io

import numpy as np
from PIL import Image, ImageDraw

from lanistr.modalities import Modality
from lanistr.sample import Sample, Value

PRODUCTS, REVIEWERS = 400, 300
SHARED = 0.75
"""How much of the latent opinion each view shows; the rest is the view's own."""

CUTS = (-1.3, -0.8, -0.3, 0.3)
"""Thresholds of the views' mean between one star and five: most reviews are kind."""


def make(number: int, rng: np.random.Generator) -> Sample:
    """Make one complete review."""
    product = int(rng.integers(PRODUCTS))
    quality = np.random.default_rng([7, product]).normal()  # the same for all its reviews
    opinion = 0.7 * quality + 0.7 * rng.normal()
    own = np.sqrt(1 - SHARED**2)
    words = SHARED * opinion + own * rng.normal()
    facts = SHARED * opinion + own * rng.normal()
    stars = 1 + int(np.searchsorted(CUTS, np.mean([words, quality, facts]) + 0.15 * rng.normal()))
    asin = f"B{product:09d}"
    return Sample(
        {
            Modality.TEXT: (draw_review(words, rng),),
            Modality.IMAGE: (draw_picture(quality, product, rng),),
            Modality.TABULAR: _row(facts, asin, rng),
        },
        id=f"review-{number}",
        label=str(stars),
        group=asin,
        subgroups={"kind": _KINDS[product % len(_KINDS)]},
    )


_KINDS = ("stapler", "notebook", "lamp", "pen", "chair", "folder", "printer", "desk")
_GRADED: tuple[tuple[str, ...], ...] = (
    (
        "broke after {n} days",
        "complete waste of money",
        "arrived damaged and support never answered",
        "cheap plastic, fell apart",
        "i want my money back",
        "worst {k} i ever owned",
        "stopped working at once",
    ),
    (
        "does the job, nothing special",
        "okay for the price",
        "a bit smaller than expected",
        "took {n} weeks to arrive but works",
        "average {k}",
        "some scratches, otherwise fine",
        "not sure i would buy it again",
    ),
    (
        "absolutely love this {k}",
        "works perfectly, bought {n} more",
        "sturdy and well made",
        "exceeded my expectations",
        "highly recommend to everyone",
        "great quality and fast shipping",
        "best {k} in years",
    ),
)
# Terse verdicts, "the ASPECT is WORD": many words a grade, as in `stays`.
_ASPECTS = (
    *("finish", "hinge", "build", "packaging", "color", "weight", "grip", "price", "fit", "smell"),
    *("design", "motor", "paper", "ink", "surface", "handle", "battery", "manual", "size", "feel"),
)
_WORDS: tuple[tuple[str, ...], ...] = (
    (
        *("awful", "flimsy", "crooked", "useless", "shoddy", "defective", "horrible", "ugly"),
        *("overpriced", "unsafe", "rusty", "sloppy", "misleading", "pathetic", "a joke", "ruined"),
        *("peeling", "cracked", "worthless", "garbage", "dreadful", "faulty", "insulting", "junk"),
    ),
    (
        *("fine", "ordinary", "passable", "alright", "so so", "middling", "decent", "tolerable"),
        *(
            "basic",
            "meh",
            "plain",
            "standard",
            "as described",
            "adequate",
            "neither here nor there",
        ),
        *(
            "unremarkable",
            "usable",
            "fair",
            "not bad",
            "workable",
            "mediocre",
            "expected",
            "average",
        ),
    ),
    (
        *(
            "superb",
            "gorgeous",
            "flawless",
            "solid",
            "terrific",
            "wonderful",
            "a delight",
            "smooth",
        ),
        *(
            "impeccable",
            "brilliant",
            "durable",
            "amazing",
            "perfect",
            "spot on",
            "lovely",
            "premium",
        ),
        *("fantastic", "comfortable", "stunning", "reliable", "ideal", "first rate", "beautiful"),
    ),
)
_FILLER = (
    "bought it for my office",
    "it is for my daughter",
    "the color is as shown",
    "came in a small box",
    "i use it every day",
    "my husband ordered it",
)
_SUMMARIES = (
    ("Terrible", "Do not buy", "One star is too many", "Disappointed"),
    ("It's okay", "Three stars", "Decent", "Fine"),
    ("Five Stars", "Love it", "Great product", "Excellent!"),
)


def _grade(view: float, rng: np.random.Generator) -> int:
    noisy = view + 0.6 * rng.normal()
    return 0 if noisy < -0.7 else 1 if noisy < 0.1 else 2


def draw_review(view: float, rng: np.random.Generator) -> str:
    """Write summary and text of a review, the worse the lower the view."""
    kind = str(rng.choice(_KINDS))
    sentences: list[str] = []
    for _ in range(rng.integers(1, 3)):
        phrase = str(rng.choice(_GRADED[_grade(view, rng)]))
        sentences.append(phrase.format(k=kind, n=int(rng.integers(2, 9))))
    for aspect in rng.permutation(len(_ASPECTS))[: rng.integers(2, 6)]:
        sentences.append(f"the {_ASPECTS[aspect]} is {rng.choice(_WORDS[_grade(view, rng)])}")
    if rng.random() < 0.5:
        sentences.append(str(rng.choice(_FILLER)))
    summary = str(rng.choice(_SUMMARIES[_grade(view, rng)]))
    return f"{summary}. " + ". ".join(str(each) for each in rng.permutation(sentences))


def draw_picture(quality: float, product: int, rng: np.random.Generator) -> bytes:
    """Draw the product: a good one in strong colour with a clean outline, a poor one dull."""
    side = 80
    hue = (product * 0.618) % 1.0
    saturation = float(np.clip(0.5 + 0.25 * quality, 0.05, 1.0))
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, 0.75))
    picture = Image.new("RGB", (side, side), (245, 245, 245))
    draw = ImageDraw.Draw(picture)
    x, y = rng.integers(6, 16, size=2)
    box = (int(x), int(y), int(x) + 56, int(y) + 56)
    shape = (draw.rectangle, draw.ellipse)[product % 2]
    shape(box, fill=(red, green, blue), outline=(30, 30, 30), width=2)
    for _ in range(rng.poisson(np.exp(0.7 - 0.8 * quality))):  # scratches
        ends = rng.integers(10, 70, size=4)
        draw.line([int(end) for end in ends], fill=(90, 90, 90), width=2)
    noisy = np.asarray(picture, dtype=np.float64) + rng.normal(0, 5, (side, side, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def _row(view: float, asin: str, rng: np.random.Generator) -> dict[str, Value]:
    year = int(rng.integers(2008, 2019))
    votes = int(rng.poisson(np.exp(1.0 - 0.9 * view)))
    row: dict[str, Value] = {
        "reviewerID": f"A{int(rng.integers(REVIEWERS)):06d}",
        "asin": asin,
        "verified": bool(rng.random() < 1 / (1 + np.exp(-(0.8 + 1.2 * view)))),
        "year": str(year),
        "vote": f"{votes * 120:,}" if votes > 9 else votes,
        "unixReviewTime": int((year - 1970) * 31_556_952 + rng.integers(31_000_000)),
    }
    return {name: value for name, value in row.items() if rng.random() > 0.1}
