"""Raw records with notes and pictures of the sizes of real ones, prepared as any are."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.made import Mix, draw_length
from benchmarks.sizes import Size
from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.text import SPECIAL_TOKENS, TextOptions
from lanistr.sample import Sample
from lanistr.tasks import TaskSpec
from training.data.store import Dataset
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.synthetic import SyntheticOptions, draw


def prepare_records(
    folder: Path,
    task: TaskSpec,
    size: Size,
    cases: int,
    mix: Mix | None = None,
    *,
    vocabulary: int | None = None,
) -> Dataset:
    """Prepare made-up stays of which none lacks a part of the task.

    Args:
        folder: of the data set to be.
        task: the mortality task, or one with fewer parts.
        size: of pictures and texts.
        cases: in the training split.
        mix: how long notes are; None: as long as they may be.
        vocabulary: words that the model knows, most of which nobody writes; None: those that a
            vocabulary trained on the notes has.
    """
    limit = int(str(size.model.get("model.text.max_tokens", 512)))
    samples = make_records(task, round(cases / 0.8), mix or Mix(), limit, size.picture)
    words = None
    if vocabulary is not None:
        words = folder.with_name(f"{folder.name}-vocabulary.txt")
        folder.parent.mkdir(parents=True, exist_ok=True)
        words.write_text("\n".join(_words(samples, vocabulary)) + "\n", encoding="utf-8")
    return prepare(
        lambda: iter(samples),
        task,
        folder,
        options=PreprocessOptions(
            text=TextOptions(vocabulary=words, vocabulary_size=2000, max_tokens=limit),
            image=ImageOptions(size=size.picture),
        ),
        splits=SplitOptions(),
        source={"from": "synthetic"},
    )


def make_records(task: TaskSpec, count: int, mix: Mix, limit: int, side: int) -> list[Sample]:
    """Make stays of which none lacks a part of the task.

    Args:
        task: the mortality task, or one with fewer parts.
        count: how many.
        mix: how long notes are.
        limit: tokens that a note may have.
        side: of the pictures that a model takes, in pixels; these are twice as large.
    """
    stays = draw("mortality", SyntheticOptions(samples=count, missing=0))
    return [
        _grown(sample, task, mix, limit, side, np.random.default_rng(number))
        for number, sample in enumerate(stays)
    ]


def _words(samples: Sequence[Sample], size: int) -> list[str]:
    """Return the words of the notes, their letters, and others up to so many."""
    notes = [note.lower() for each in samples for note in each.parts.get(Modality.TEXT, ())]
    letters = sorted(set("".join(notes)) - {" "})
    found = {word for note in notes for word in re.findall(r"\w+|[^\w\s]", note)}
    known = [*SPECIAL_TOKENS, *letters, *(f"##{each}" for each in letters)]
    known += sorted(found - set(known))
    return known + [f"[unused{number}]" for number in range(size - len(known))]


def _grown(
    sample: Sample, task: TaskSpec, mix: Mix, limit: int, side: int, rng: np.random.Generator
) -> Sample:
    """Give a stay a longer note and a picture full of detail."""
    grow: dict[Modality, Callable[[Any], Any]] = {
        Modality.TEXT: lambda notes: (_repeat(notes, draw_length(mix, limit, rng)),),
        Modality.IMAGE: lambda _: (_picture(side, rng),),
    }
    parts = {m: part for m, part in sample.parts.items() if m in task.modalities}
    return replace(sample, parts={m: grow.get(m, _same)(part) for m, part in parts.items()})


def _same(part: Any) -> Any:
    return part


def _repeat(notes: Sequence[str], words: int) -> str:
    """Write notes out again and again until there are so many words; a word is a token or more."""
    found = " ".join(notes).split()
    return " ".join((found * (1 + words // len(found)))[:words])


def _picture(side: int, rng: np.random.Generator) -> bytes:
    """Draw blurred noise, as dear to decode as an X-ray, larger than what is stored of it."""
    coarse = rng.integers(0, 256, (side // 4, side // 4), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((2 * side, 2 * side), Image.Resampling.BICUBIC)
    fine = np.asarray(large, dtype=np.float32) + 6 * rng.standard_normal((2 * side, 2 * side))
    out = io.BytesIO()
    Image.fromarray(fine.clip(0, 255).astype(np.uint8)).convert("RGB").save(out, "JPEG", quality=90)
    return out.getvalue()
