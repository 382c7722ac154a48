"""JSON, decoded or refused with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_the_place_of_what_is_no_utf8_is_named():
    error = fault(b'{"text": "caf\xe9 au lait"}')
    assert (error.code, error.field) == ("not_json", "body")
    assert error.message == "not JSON: not UTF-8: invalid continuation byte at byte 13"
    assert error.seen == "8 bytes starting e9 20 61 75 20 6c 61 69"
    assert fault('{"text": "a"}'.encode("utf-16"), "tabular").field == "tabular"
    assert "UTF-8" in fault(b'{"hours": NaN, "text": "\xff"}').message


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


def test_lists_that_are_never_closed_are_nested_too_deep():
    for depth in (348, 500, 1000, 1025, 3000):
        assert fault(b"[" * depth, "tabular").code == "too_deep"


# ---- large bodies -------------------------------------------------------------------------------

MANY = b'{"timeseries": [' + b'{"hours": 1},' * 30_000


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999", b"-1e999"])
def test_in_a_large_body_a_number_that_is_not_finite_is_named_by_its_position(
    monkeypatch: pytest.MonkeyPatch, number: bytes
):
    monkeypatch.setattr(json.json, "loads", None)  # a second parse would cost the others
    error = fault(MANY + b'{"hours": ' + number + b"}]}")
    assert (error.code, error.field, error.seen) == ("not_finite", "body", number.decode())
    assert "line 1, column 390" in error.message
    assert fault(MANY + b'{"hours": ' + number + b"}]}", "timeseries").field == "timeseries"


def test_a_large_body_that_only_breaks_off_is_not_json():
    assert fault(MANY).code == "not_json"
    assert fault(MANY + b"nan").code == "not_json"


@pytest.mark.parametrize("kind", [b"[]", b"{}"])
def test_more_lists_than_anyone_has_rows_are_refused_before_they_are_made(
    monkeypatch: pytest.MonkeyPatch, kind: bytes
):
    monkeypatch.setattr(json.orjson, "loads", None)
    error = fault(b"[" + b",".join([kind] * 1_300_000) + b"]")
    assert (error.code, error.field) == ("too_many", "body")
    assert error.seen == "1,300,001 lists and objects"
    assert error.accepted == "at most 1,251,000"


def test_a_body_may_be_full_of_the_shortest_rows():
    limits = Settings(body_bytes=1_000_000).limits()
    rows = b'[{"timeseries":[' + b",".join([b'{"hours":1,"a":2}'] * 55_553) + b"]}]"
    assert len(rows) > 999_970
    (record,) = json.decode(rows, limits)
    assert len(record["timeseries"]) == 55_553


# ---- names that stand twice ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b'{"age": 50, "age": 90}', "age"),
        (b'{"tabular": {"age": 50, "age": 90}}', "tabular.age"),
        (b'{"a": [{"b": 1}, {"c": "x:y", "c": "z"}]}', "a[1].c"),
        (b'{"a": {"x": 1, "x": 2}, "a": 3}', "a"),
        (b'{"a": {"x": ":", "x": ":::"}, "b": "::"}', "a.x"),
        (b'{"a": null, "a": null}', "a"),
        (b'{"a:b": 1, "a:b": 2}', "a:b"),
    ],
)
def test_a_name_that_stands_twice_is_refused(data: bytes, field: str):
    error = fault(data)
    assert (error.code, error.field) == ("repeated_field", field)
    assert error.seen
    assert error.accepted


def test_in_a_large_body_a_name_that_stands_twice_is_refused_without_its_path():
    error = fault(MANY + b'{"hours": 1, "hours": 2}]}')
    assert (error.code, error.field) == ("repeated_field", "body")


words = st.text(st.sampled_from('a:"\\\u00e9{},'), max_size=4)
values = st.recursive(
    st.none() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(values, st.booleans())
def test_names_that_stand_once_are_never_refused(value: object, escaped: bool):
    data = json.json.dumps(value, ensure_ascii=escaped).encode()
    assert json.decode(data, LIMITS) == value


def test_every_fault_says_what_was_seen_and_what_is_accepted():
    for data in (b"", b"{", b"\xff", b'{"a": tru}', b"[" * 20 + b"]" * 20, b"NaN"):
        error = fault(data)
        assert error.field == "body"
        assert error.seen
        assert error.accepted
