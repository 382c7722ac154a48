"""The strict base of what is read from files."""

from typing import Any

import pytest
from pydantic import ValidationError

from lanistr.errors import ConfigError, TaskError
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions


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
