"""The strict base of what is read from files."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from lanistr.errors import ConfigError, TaskError
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions
from lanistr.schema import Schema, usual_kind


def parse(data: Any) -> PreprocessOptions:
    return PreprocessOptions.parse(data, ConfigError, "recipe.yaml")


@pytest.mark.parametrize(
    ("data", "field", "nearest"),
    [
        ({"imge": {}}, "imge", "image"),
        ({"image": {"sise": 64}}, "image.sise", "size"),
        ({"text": {"max_token": 64}}, "text.max_token", "max_tokens"),
    ],
)
def test_an_unknown_key_names_its_place_and_the_nearest_known_one(
    data: Any, field: str, nearest: str
):
    with pytest.raises(ConfigError, match=f"did you mean '{nearest}'") as caught:
        parse(data)
    assert caught.value.field == field
    assert "recipe.yaml: unknown key" in str(caught.value)


def test_keys_far_from_every_known_one_get_the_list_without_a_guess():
    with pytest.raises(ConfigError) as caught:
        parse({"zzz": 1})
    assert caught.value.accepted == "one of image, tabular, text, timeseries"


@pytest.mark.parametrize("data", [None, 3, "text", [], {"image": 3}, {"image": {"size": "big"}}])
def test_what_has_the_wrong_shape_is_refused(data: Any):
    with pytest.raises(ConfigError) as caught:
        parse(data)
    assert caught.value.code == "bad_schema"


def test_numbers_that_are_not_finite_are_refused():
    for number in (float("nan"), float("inf")):
        with pytest.raises(TaskError, match="finite"):
            ImageOptions.parse({"crop": number}, TaskError, "here")


def test_a_record_cannot_be_changed_afterwards():
    options = ImageOptions()
    with pytest.raises(ValidationError, match="frozen"):
        options.size = 3


# ---- records told apart by their kind -----------------------------------------------------------


class Round(Schema):
    kind: Literal["round"] = "round"
    radius: float = 1


class Square(Schema):
    kind: Literal["square"]
    side: float


class Drawing(Schema):
    shape: Annotated[Round | Square, Field(discriminator="kind"), usual_kind("round")] = Round()


def test_a_record_without_a_kind_is_of_the_usual_one():
    assert Drawing.parse({"shape": {"radius": 2}}, ConfigError, "file").shape == Round(radius=2)
    square = {"kind": "square", "side": 2}
    assert Drawing.parse({"shape": square}, ConfigError, "file").shape == Square(**square)


@pytest.mark.parametrize(
    ("shape", "field", "said"),
    [
        ({"kind": "squar", "side": 2}, "shape.kind", "did you mean 'square'"),
        ({"kind": "square", "sied": 2}, "shape.side", "required"),
        ({"kind": "square", "side": 2, "radius": 1}, "shape.radius", "one of kind, side"),
        ({"side": 2}, "shape.side", "one of kind, radius"),
        (3, "shape", "dictionary"),
    ],
)
def test_what_is_wrong_with_it_is_told_by_its_path_in_the_file(shape: Any, field: str, said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        Drawing.parse({"shape": shape}, ConfigError, "file")
    assert caught.value.field == field
