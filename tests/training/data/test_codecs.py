"""Codecs: rows on disk are small, and come back as they were."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lanistr.errors import InputError
from lanistr.issues import IssueLog
from lanistr.preprocess.image import ImageOptions, ImagePreprocessor
from lanistr.preprocess.tabular import TabularOptions, TabularPreprocessor
from lanistr.preprocess.text import SPECIAL_TOKENS, TextOptions, TextPreprocessor
from lanistr.preprocess.timeseries import TimeseriesOptions, TimeseriesPreprocessor
from lanistr.sample import Measurements
from lanistr.tasks import find_task
from training.data.codecs import Codec, codec

TASK = find_task("mortality")
TEXT = TextPreprocessor.fit([("one two three",) * 2], TASK, TextOptions(vocabulary_size=100))
TABULAR = TabularPreprocessor.fit([{"age": 50}, {"age": 70}], TASK, TabularOptions())
SERIES = TimeseriesPreprocessor.fit([], TASK, TimeseriesOptions())
PICTURES = ImagePreprocessor(ImageOptions(size=56))


def stored(codec: Codec, part: Any) -> list[dict[str, Any]]:
    """Return the part's rows as they come out of an Arrow table."""
    rows = codec.write(part, IssueLog())
    columns = {name: [row[name] for row in rows] for name in codec.schema.names}
    table = pa.table(pa.RecordBatch.from_pydict(columns, schema=codec.schema))
    return [{name: table[name][i] for name in table.column_names} for i in range(len(table))]


@pytest.mark.parametrize(
    ("preprocessor", "part"),
    [
        (TEXT, ("one two", "three four five")),
        (TABULAR, {"age": 61, "gender": "F"}),
        (SERIES, (Measurements(1, {"heart_rate": 80, "gcs_eye": 3}),)),
    ],
)
def test_arrays_come_back_bit_by_bit(preprocessor: Any, part: Any):
    arrays = codec(preprocessor)
    fresh = preprocessor.apply(part, IssueLog())
    back = [arrays.read(record) for record in stored(arrays, part)]
    assert len(back) == len(fresh)
    for now, then in zip(fresh, back, strict=True):
        for name, array in now.items():
            assert (then[name].dtype, then[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(then[name], array)


def test_whole_numbers_are_stored_in_the_narrowest_type_that_holds_them():
    def kept(words: int) -> pa.DataType:
        vocabulary = {word: i for i, word in enumerate(SPECIAL_TOKENS)}
        vocabulary |= {f"w{i}": i for i in range(len(vocabulary), words)}
        tokenizer = TEXT.tokenizer.__class__(TEXT.tokenizer.model.__class__(vocabulary))
        return codec(TextPreprocessor(tokenizer, 8)).schema.field("token_ids").type.value_type

    assert kept(256) == pa.uint8()
    assert kept(257) == pa.uint16()
    assert kept(65_536) == pa.uint16()
    assert kept(65_537) == pa.uint32()
    assert codec(TABULAR).schema.field("categories").type.value_type == pa.uint8()
    assert codec(TABULAR).schema.field("numbers").type.value_type == pa.float32()


def test_a_part_of_which_nothing_is_usable_gives_no_rows():
    assert list(codec(TEXT).write(("", "___"), IssueLog())) == []
    assert list(codec(TABULAR).write({"age": 3}, IssueLog())) == []


# ---- pictures -----------------------------------------------------------------------------------


def encoded(size: tuple[int, int], format: str = "PNG") -> bytes:
    wide, high = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([wide, high, np.full_like(wide, 100)], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def picture_size(data: bytes) -> tuple[int, int]:
    (record,) = codec(PICTURES).write((data,), IssueLog())
    with Image.open(io.BytesIO(record["jpeg"])) as picture:
        assert picture.format == "JPEG"
        return picture.size


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((300, 200), (96, 64)),  # the shorter side keeps a margin of 256 / 224
        ((200, 300), (64, 96)),
        ((64, 64), (64, 64)),
        ((40, 30), (40, 30)),  # never enlarged
        ((5000, 100), (256, 64)),  # only the middle is ever looked at
        ((100_000, 1), (4, 1)),
        ((1, 100_000), (1, 4)),
    ],
)
def test_pictures_are_shrunk_to_what_training_needs(given: tuple[int, int], kept: tuple[int, int]):
    assert picture_size(encoded(given)) == kept


@pytest.mark.parametrize(
    "size", [(300, 200), (200, 300), (64, 64), (40, 30), (57, 91), (1000, 70), (70, 1000), (1, 999)]
)
def test_a_stored_picture_looks_as_the_raw_one_does(size: tuple[int, int]):
    data = encoded(size)
    pictures = codec(PICTURES)
    (record,) = stored(pictures, (data,))
    then = pictures.read(record)["pixels"].astype(int)
    (now,) = PICTURES.apply((data,), IssueLog())
    assert then.shape == now["pixels"].shape
    assert np.abs(then - now["pixels"]).mean() < 4


def test_a_broken_picture_is_refused_with_its_place():
    with pytest.raises(InputError) as caught:
        codec(PICTURES).write((encoded((9, 9)), b"nothing"), IssueLog())
    assert caught.value.field == "image[1]"


def test_pictures_that_have_too_many_pixels_together_are_refused_as_the_service_does():
    pictures = ImagePreprocessor(ImageOptions(size=56, max_pixels=5_000))
    part = (encoded((60, 50)), encoded((50, 60)))
    for made in (codec(pictures).write, pictures.apply):
        assert len(made(part[:1], IssueLog())) == 1
        with pytest.raises(InputError) as caught:
            made(part, IssueLog())
        assert (caught.value.code, caught.value.field) == ("image_too_large", "image")
