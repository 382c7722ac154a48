"""What is told to readers without our code makes the arrays that our code makes.

That the columns of rows and series do is shown by `tests/export/test_consumer.py`, by a reader.
"""

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tokenizers import Tokenizer

from lanistr.issues import IssueLog
from lanistr.preprocess import Preprocessor
from lanistr.preprocess.image import ImageOptions, ImagePreprocessor
from lanistr.preprocess.text import TextOptions, TextPreprocessor
from lanistr.preprocess.timeseries import TimeseriesOptions, TimeseriesPreprocessor
from lanistr.sample import Measurements
from lanistr.tasks import TaskSpec, find_task

# ---- everything ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["of_stays", "of_reviews"])
def test_it_is_json_by_modality_and_names_every_array(
    which: str, request: pytest.FixtureRequest
) -> None:
    fitted: Preprocessor = request.getfixturevalue(which)
    told = fitted.describe()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert list(told) == list(fitted.parts)
    for modality, part in fitted.parts.items():
        for name, array in part.layout().items():
            columns = told[modality][name]
            assert not isinstance(columns, list) or len(columns) == array.shape[-1]


# ---- notes --------------------------------------------------------------------------------------

WORDS = (
    "seen",
    "by",
    "___",
    "at",
    "[**Hospital 12**]",
    "[MASK]",
    "[SEP]",
    "[**",
    "___.",
    "肺炎",
    "é",
)
GAPS = (" ", "\n", "\t", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000", "")


@pytest.fixture(scope="module")
def notes() -> TextPreprocessor:
    words = [("seen by nurse at bedside, mask on. sep ruled out; é 12 a b" + " c" * 3,)] * 2
    return TextPreprocessor.fit(words, find_task("mortality"), TextOptions(max_tokens=40))


@given(pieces=st.lists(st.sampled_from([*WORDS, *GAPS]) | st.text(max_size=4), max_size=60))
def test_the_tokenizer_it_tells_of_makes_the_ids_of_a_note(
    notes: TextPreprocessor, pieces: list[str]
) -> None:
    note = "".join(pieces)
    told = json.loads(notes.tokenizer.to_str()) | notes.describe()["token_ids"]
    found = Tokenizer.from_str(json.dumps(told)).encode(note).ids
    rows = notes.apply((note,), IssueLog())
    assert found == (rows[0]["token_ids"].tolist() if rows else found[:1] + found[-1:])


# ---- pictures -----------------------------------------------------------------------------------


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(8, 40),
    crop=st.sampled_from([1.0, 0.875, 0.5]),
)
def test_the_square_it_tells_of_is_the_one_that_is_cut_out(
    width: int, height: int, size: int, crop: float
) -> None:
    drawn = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "PNG")
    pictures = ImagePreprocessor(ImageOptions(size=size, crop=crop))
    told = pictures.describe()
    assert told["resampling"] == "bicubic"  # which `fit` does unless it is asked not to
    square = ImageOps.fit(Image.fromarray(drawn), **told["pixels"])
    (row,) = pictures.apply((file.getvalue(),), IssueLog())
    wanted = row["pixels"].transpose(1, 2, 0).astype(int)
    # Where the corner is a fraction, it is reckoned in another order.
    assert np.abs(np.asarray(square, int) - wanted).max() <= (0 if crop == 1 else 1)


# ---- series -------------------------------------------------------------------------------------


def grid(step: float) -> TaskSpec:
    task = find_task("mortality").model_dump()
    changes: dict[str, Any] = {"step_hours": step, "horizon_hours": 48 * step}
    return TaskSpec.model_validate(task | {"timeseries": task["timeseries"] | changes})


@pytest.mark.parametrize("step", [0.05, 0.1, 1 / 3, 0.7, 1, 6])
def test_the_steps_it_tells_of_hold_the_hours_that_fall_into_them(step: float) -> None:
    series = TimeseriesPreprocessor.fit([], grid(step), TimeseriesOptions())
    steps = series.describe()["steps"]
    measured = list(series.cleaners).index("heart_rate") - len(series.cleaners)
    for hours in [*np.arange(0, 48 * step, step / 3).round(2).tolist(), 48 * step]:
        (row,) = series.apply((Measurements(hours, {"heart_rate": 80}),), IssueLog())
        assert [start <= hours < end for start, end in steps] == row["values"][:, measured].tolist()
