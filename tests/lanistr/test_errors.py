"""Errors: one clear line, nothing endless in it."""

import math

import pytest

from lanistr.errors import BundleError, InputError, LanistrError, ParityError, shorten, unknown_name


def test_an_error_reads_as_one_line_with_place_fault_and_remedy():
    error = InputError("not a number", field="tabular.age", seen="old", accepted="a number")
    assert str(error) == "tabular.age: not a number; seen 'old'; accepted: a number"
    assert str(LanistrError("alone")) == "alone"


def test_errors_are_told_apart_by_class_and_code():
    assert issubclass(ParityError, BundleError)
    assert InputError("x", code="out_of_range").code == "out_of_range"


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "short", ""])
def test_short_scalars_stay_as_they_are(value: object):
    assert shorten(value) is value


def test_long_texts_are_cut_and_their_length_is_told():
    assert shorten("x" * 5000) == "x" * 80 + "… (5000 long)"


def test_bytes_show_their_length_and_first_digits_only():
    assert shorten(b"\x89PNG\r\n\x1a\n" + bytes(1000)) == (
        "1008 bytes starting 89 50 4e 47 0d 0a 1a 0a"
    )


def test_nesting_without_end_is_shortened_like_anything_else():
    nested: object = []
    for _ in range(100_000):
        nested = [nested]
    assert len(shorten(nested)) < 100
    assert len(shorten({"deep": nested, "wide": list(range(10**6))})) < 200
    assert math.isnan(shorten(math.nan))


def test_the_nearest_name_comes_first_and_none_is_guessed_where_none_is_near():
    assert unknown_name("heartrate", ["heart_rate", "ph"]) == (
        "did you mean 'heart_rate'? one of heart_rate, ph"
    )
    assert unknown_name("zzz", ["heart_rate", "ph"]) == "one of heart_rate, ph"
