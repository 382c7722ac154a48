"""JSON, decoded or refused with its place."""

import pytest

from lanistr.errors import InputError
from service.inputs import json
from service.settings import Settings

LIMITS = Settings().limits()


def fault(data: bytes, field: str = "") -> InputError:
    with pytest.raises(InputError) as caught:
        json.decode(data, LIMITS, field)
    return caught.value


def test_a_byte_order_mark_is_passed_over():
    assert json.decode(b'\xef\xbb\xbf{"a": 1}', LIMITS) == {"a": 1}


def test_the_place_of_a_fault_is_named():
    error = fault(b'{"a": 1,\n "b": tru}', "tabular")
    assert (error.code, error.field) == ("not_json", "tabular")
    assert "line 2, column" in error.message
    assert error.__cause__ is None


def test_the_path_of_a_number_that_is_not_finite_is_named():
    assert fault(b'{"a": [{}, {"b": -Infinity}]}').field == "a[1].b"
    assert fault(b'[{"b": 1e999}]', "timeseries").field == "timeseries[0].b"
    assert fault(b"NaN", "tabular").field == "tabular"


def test_a_word_that_only_looks_like_nan_is_a_word():
    assert json.decode(b'{"a": "NaN"}', LIMITS) == {"a": "NaN"}


def test_two_faults_at_once_are_told_as_not_json():
    assert fault(b'{"a": NaN, }').code == "not_json"


def test_a_number_that_is_not_finite_too_deep_to_be_found_is_still_refused():
    for depth in (100, 900, 990, 1020):
        data = b"[" * depth + b"NaN" + b"]" * depth
        assert fault(data).code in {"not_finite", "not_json"}


@pytest.mark.parametrize(("depth", "fits"), [(16, True), (17, False), (100_000, False)])
def test_depth(depth: int, fits: bool):
    data = b"[" * depth + b"]" * depth
    if fits:
        json.decode(data, LIMITS)
    else:
        assert fault(data).code == "too_deep"
