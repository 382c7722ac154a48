"""Cases as rows of a wide table: what a practitioner would make of them by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.text import TextOptions
from lanistr.sample import Measurements, Sample
from lanistr.tasks import TaskSpec
from training.columns import OTHER, SUMMARIES, Columns, read_columns, summarise
from training.data.store import Dataset
from training.prepare.prepared import SplitOptions, prepare

TASK = TaskSpec.model_validate(
    {
        "name": "visit",
        "title": "A visit",
        "metric": "auroc",
        "label": {"kind": "binary", "name": "back", "classes": ["no", "yes"]},
        "text": {},
        "image": {},
        "tabular": {
            "fields": {
                "age": {"kind": "number"},
                "height": {"kind": "number"},
                "ward": {"kind": "category"},
                "doctor": {"kind": "category", "buckets": 7},
            }
        },
        "timeseries": {
            "horizon_hours": 4,
            "step_hours": 1,
            "variables": {
                "pulse": {"kind": "number"},
                "mood": {
                    "kind": "category",
                    "categories": ["low", "fair", "high"],
                    "normal": "low",
                },
            },
        },
    }
)


def picture(red: int, right: int) -> bytes:
    """A picture whose left half is red and whose right half is grey."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16, 0], pixels[:, 16:] = red, right
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


SERIES = (
    Measurements(0.5, {"pulse": 70, "mood": "fair"}),
    Measurements(1.5, {"pulse": 90}),
    Measurements(3.5, {"pulse": 50, "mood": "high"}),
)
WHOLE = {
    Modality.TEXT: ("Unable to sleep, unable to eat.", "Slept at last."),
    Modality.IMAGE: (picture(200, 100), picture(100, 100)),
    Modality.TABULAR: {"age": 60, "ward": "east", "doctor": "Ames"},
    Modality.TIMESERIES: SERIES,
}
OTHERS = {Modality.TABULAR: {"age": 40, "height": 170, "ward": "east", "doctor": "Ames"}}
RARE = {Modality.TABULAR: {"age": 50, "ward": "west"}}


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    samples = [
        Sample(parts, id=name, label="yes", group=name)
        for name, parts in {"whole": WHOLE, "other": OTHERS, "rare": RARE}.items()
    ]
    options = PreprocessOptions(text=TextOptions(vocabulary_size=100), image=ImageOptions(size=32))
    return prepare(
        lambda: samples,
        TASK,
        tmp_path_factory.mktemp("visits") / "data",
        options=options,
        splits=SplitOptions(),
        source={"from": "synthetic"},
        split_of={"whole": "train", "other": "train", "rare": "test"},
    )


@pytest.fixture(scope="module")
def found(visits: Dataset) -> dict[Modality, Columns]:
    place = {name: at for at, name in enumerate(visits.ids(range(3)))}
    order = np.array([place[each] for each in ("rare", "whole", "other")])
    return read_columns(visits, order)


def test_notes_are_words_again_one_a_line_and_nothing_where_there_is_none(
    found: dict[Modality, Columns],
) -> None:
    text = found[Modality.TEXT]
    assert text.present.tolist() == [False, True, False]
    assert text.texts is not None
    none, words, nothing = text.texts
    assert (none, nothing) == ("", "")
    assert [line.replace(" ", "") for line in words.split("\n")] == [
        "unabletosleep,unabletoeat.",
        "sleptatlast.",
    ]


def test_fields_are_numbers_and_words_and_missing_where_they_are(
    found: dict[Modality, Columns],
) -> None:
    row = found[Modality.TABULAR]
    assert row.present.all()
    assert row.names == ["age", "height"]
    assert row.numbers[:, 0] == pytest.approx([0, 1, -1])  # of the mean and deviation of training
    assert np.isnan(row.numbers[:, 1]).tolist() == [True, True, False]
    assert row.categories["ward"].tolist() == [OTHER, "east", "east"]
    nobody, one, same = row.categories["doctor"]
    assert nobody is None
    assert one == same


def test_of_a_variable_there_is_what_was_measured_and_not_what_was_carried_on(
    found: dict[Modality, Columns],
) -> None:
    series = found[Modality.TIMESERIES]
    assert np.isnan(series.numbers[[0, 2]]).all()
    assert list(series.names[:3]) == ["first pulse", "first mood", "last pulse"]
    figures = series.numbers[1].reshape(len(SUMMARIES), 2)
    pulse = (np.array([70, 50, 50, 90, 70]) - 70) / np.std([70, 90, 50])
    assert figures[:-1, 0] == pytest.approx(pulse, abs=1e-6)
    assert figures[:-1, 1] == pytest.approx([1, 2, 1, 2, 1.5])
    assert figures[-1].tolist() == [3, 2]


def test_a_picture_is_its_colours_and_a_thumbnail_and_several_are_averaged(
    found: dict[Modality, Columns],
) -> None:
    image = found[Modality.IMAGE]
    assert np.isnan(image.numbers[[0, 2]]).all()
    figures = dict(zip(image.names, image.numbers[1] * 255, strict=True))
    assert figures["mean r"] == pytest.approx((150 + 100) / 2, abs=3)
    assert figures["mean g"] == pytest.approx(50, abs=3)
    assert figures["deviation r"] == pytest.approx(25, abs=5)  # 50 and 0
    assert figures["grey 0 0"] == pytest.approx(50, abs=3)
    assert figures["grey 7 7"] == pytest.approx(100, abs=3)


def test_a_variable_that_was_never_measured_has_no_figures_but_a_count_of_none() -> None:
    found = summarise(np.array([[np.nan, 2.0], [np.nan, np.nan], [np.nan, 1.0]]))
    assert np.isnan(found[:-1, 0]).all()
    assert found[:, 1].tolist() == [2, 1, 1, 2, 1.5, 2]
    assert found[-1, 0] == 0
