"""Which column is what, and a row as the service takes it."""

import base64
import json
import os
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from clients import InvalidInput
from clients.answers import Model
from clients.columns import Columns, named_columns
from clients.document import Document
from clients.reading import Reading
from clients.target import Field, Target

JPEG = b"\xff\xd8\xff not much of a picture"
TARGET = Target(
    task="mortality",
    model=Model(name="m", version="1", demo=False, raw={}),
    precision="fp32",
    modalities=("text", "image", "tabular", "timeseries"),
    fields={
        "age": Field("number"),
        "gender": Field("category"),
        "heart_rate": Field("number", units=frozenset({"1/min", "bpm"})),
        "region": Field("category", frozenset({"na", "eu"})),
    },
    variables={
        "rhythm": Field("category", frozenset({"null"})),
        "temperature": Field("number", units=frozenset({"degc", "degf"})),
    },
    label="binary",
    classes=("survived", "died"),
)
BASE64 = base64.b64encode(JPEG).decode()


def columns(*names, named=None, folder=Path(), text_only=False):
    return Columns(names, TARGET, folder, named, text_only=text_only)


def record(row, **options):
    return columns(*row, **options).record(row)


def test_columns_are_what_they_are_called():
    found = columns("id", "text", "tabular.age", "gender", "site", "heartrate", "timeseries")
    assert found.sources == {
        "id": ("id",), "text": ("text",), "tabular.age": ("tabular.age",),
        "tabular.gender": ("gender",), "timeseries": ("timeseries",),
    }  # fmt: skip
    assert found.unused == {"site": "", "heartrate": "tabular.heart_rate"}
    assert found.absent == ["image", "tabular.heart_rate", "tabular.region"]
    assert found.wanted == {"id", "text", "tabular.age", "gender", "timeseries"}


def test_what_stands_in_a_value_with_its_unit_may_be_named_and_is_told_of_only_then():
    inner = {"weight.value": "weight", "weight.unit": "weight"}

    def matched(names, named=None):
        return Columns(names, TARGET, Path(), named, inner=inner)

    assert matched(["text", "weight"]).unused == {"weight": ""}
    assert matched(["text", "weight"], {"age": "weight"}).unused == {}
    found = matched(["text", "weight"], {"age": "weight.value"})
    assert found.unused == {"weight": "", "weight.unit": ""}
    assert found.wanted == {"text", "weight.value"}
    row = {"text": "a", "weight": {"value": 71, "unit": "kg"}, "weight.value": 71}
    assert found.record(row) == {"text": "a", "tabular": {"age": 71}}
    inner = {"tabular.value": "tabular", "tabular.unit": "tabular"}
    assert matched(["text", "tabular"]).unused == {"tabular": ""}


def test_columns_are_what_the_user_calls_them():
    named = {"text": ["letter", "plan"], "age": "AGE", "tabular.heart_rate": "text"}
    found = columns("letter", "plan", "AGE", "text", "age", named=named)
    assert found.sources["text"] == ("letter", "plan")
    assert found.sources["tabular.age"] == ("AGE",)
    assert found.sources["tabular.heart_rate"] == ("text",)
    assert found.unused == {"age": ""}
    assert named_columns(["text=letter", "text=plan", "age=A=B"]) == {
        "text": ["letter", "plan"], "age": ["A=B"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "named", "words"),
    [
        (
            ["text"],
            {"tekst": "text"},
            "columns.tekst: is not a modality or field.*did you mean 'text'",
        ),
        (["letter"], {"text": "leter"}, "columns.text: no column 'leter'.*did you mean 'letter'"),
        (["a", "b"], {"age": ["a", "b"]}, "columns.age: has 2 columns"),
        (["age", "tabular.age"], {}, "columns.tabular.age: could be 'age' or 'tabular.age'"),
        (["id", "site"], {}, "input: none of its columns is used by mortality: id, site"),
        ([], {}, "no columns"),
    ],
)
def test_names_that_fit_nothing_are_refused(names, named, words):
    with pytest.raises(InvalidInput, match=words):
        columns(*names, named=named)
    with pytest.raises(InvalidInput, match="such as text=letter"):
        named_columns(["letter"])


def test_a_row_becomes_a_record_without_what_is_missing(tmp_path):
    (tmp_path / "cxr.jpg").write_bytes(JPEG)
    row = {
        "id": 17.0, "text": ["first", None, "second"], "image": ["cxr.jpg", JPEG],
        "age": Decimal("71.5"), "gender": None, "heart_rate": timedelta(minutes=90),
        "timeseries": [{"hours": 0.5, "fio2": None, "spo2": float("nan"), "hr": 92}],
    }  # fmt: skip
    assert record(row, folder=tmp_path) == {
        "id": "17", "text": ["first", "second"], "image": [BASE64, BASE64],
        "tabular": {"age": 71.5, "heart_rate": 1.5},
        "timeseries": [{"hours": 0.5, "hr": 92}],
    }  # fmt: skip


@pytest.mark.parametrize("missing", [None, "", "  ", "NA", "n/a", "NaN", "null", float("nan")])
def test_a_missing_value_is_none_whatever_stands_for_it(missing):
    names = ("id", "text", "image", "age", "gender", "timeseries")
    assert record(dict.fromkeys(names, missing)) == {}
    assert record(dict.fromkeys(names, missing), text_only=True) == {}


@pytest.mark.parametrize("missing", [None, "", "NA", float("nan"), Decimal("NaN")])
def test_a_value_with_its_unit_is_missing_where_the_value_is(missing):
    none, some = ({"value": value, "unit": "years"} for value in (missing, Decimal("71.5")))
    rows = [{"hours": 1, "hr": none, "weight": some}]
    assert record({"id": "a", "age": none, "heart_rate": some, "timeseries": rows}) == {
        "id": "a",
        "tabular": {"heart_rate": {"value": 71.5, "unit": "years"}},
        "timeseries": [{"hours": 1, "weight": {"value": 71.5, "unit": "years"}}],
    }


@pytest.mark.parametrize("text_only", [False, True])
def test_a_word_that_a_field_lists_is_a_value_in_it(text_only):
    rows = [{"hours": 1, "rhythm": "NULL", "hr": "null"}, {"hours": 2, "rhythm": "n/a"}]
    row = {"region": " NA", "gender": "NA", "timeseries": json.dumps(rows)}
    assert record(row, text_only=text_only) == {
        "tabular": {"region": " NA"},
        "timeseries": [{"hours": 1, "rhythm": "NULL"}, {"hours": 2}],
    }
    described = {"kind": "category", "categories": ["NA", "EU"], "synonyms": {"N/A": "NA"}}
    assert Field.read(Document(described)).words == {"na", "eu", "n/a"}


def test_text_is_a_number_only_where_all_cells_are_text():
    row = {"id": "007", "text": "12", "age": " 71 ", "gender": "1", "heart_rate": "1,5"}
    plain = {"id": "007", "text": "12", "tabular": {"age": 71, "gender": "1", "heart_rate": "1,5"}}
    assert record(row, text_only=True) == plain
    assert record(row)["tabular"]["age"] == " 71 "


@pytest.mark.parametrize("text_only", [False, True])
def test_text_of_a_number_and_a_unit_that_the_field_knows_is_a_value_with_its_unit(text_only):
    rows = [{"hours": 1, "temperature": " 101.3 degF"}, {"hours": 2, "temperature": "39degx"}]
    row = {"age": "71 years", "gender": "5 bpm", "heart_rate": "+8e1BPM", "timeseries": rows}
    assert record(row, text_only=text_only) == {
        "tabular": {
            "age": "71 years", "gender": "5 bpm", "heart_rate": {"value": 80.0, "unit": "BPM"},
        },
        "timeseries": [
            {"hours": 1, "temperature": {"value": 101.3, "unit": "degF"}},
            {"hours": 2, "temperature": "39degx"},
        ],
    }  # fmt: skip
    described = {"kind": "number", "unit": "degC", "units": {"degF": {"scale": 0.5556}}}
    assert Field.read(Document(described)).units == {"degc", "degf"}
    assert Field.read(Document({"kind": "number", "unit": ""})).units == frozenset()


def test_how_a_table_is_written_may_be_told():
    asked = Reading(
        decimal=",", missing="k.A.", missing_in={"age": ["-1"], "gender": "?", "temperature": "0"}
    )
    row = {
        "id": "k.a.", "text": "NA", "age": "-1,0", "gender": " ? ", "heart_rate": "62,9 bpm",
        "timeseries": '[{"hours": 0, "temperature": 0.0}, {"hours": 1, "temperature": 38.5}]',
    }  # fmt: skip
    found = Columns(list(row), TARGET, Path(), text_only=True, reading=asked)
    assert found.id(row) is None
    assert found.record(row) == {
        "text": "NA", "tabular": {"heart_rate": {"value": 62.9, "unit": "bpm"}},
        "timeseries": [{"hours": 0}, {"hours": 1, "temperature": 38.5}],
    }  # fmt: skip
    with pytest.raises(InvalidInput, match=r"tabular\.age: is '62\.9', with a decimal point"):
        found.record({"age": "62.9"})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"decimal": ";"}, "decimal: is ';'; accepted: '.' or ','"),
        ({"encoding": "cp850"}, "encoding: is 'cp850'; accepted: 'utf-8' or"),
        ({"missing_in": {"aeg": ["-1"]}}, "missing_in: no column 'aeg'.*did you mean 'age'"),
    ],
)
def test_what_no_table_is_written_like_is_refused(asked, words):
    with pytest.raises(InvalidInput, match=words):
        Columns(["id", "age"], TARGET, Path(), reading=Reading(**asked))


@pytest.mark.parametrize("place", ["field", "variable"])
def test_a_duration_is_its_hours_and_says_so_where_another_unit_counts(place):
    described = {"plain": {}, "h": {"unit": "Hours"}, "days": {"unit": "days"}, "word": {}}
    kinds = {"word": "category"}
    fields = {
        name: Field.read(Document({"kind": kinds.get(name, "number")} | each))
        for name, each in described.items()
    }
    told = {"value": 72.0, "unit": "h"}
    wanted = {"plain": 72.0, "h": 72.0, "days": told, "word": 72.0}
    row = dict.fromkeys(fields, timedelta(days=3))
    if place == "variable":
        target = replace(TARGET, variables=fields)
        found = Columns(["timeseries"], target, Path())
        rows = [{"hours": timedelta(minutes=90)} | row]
        assert found.record({"timeseries": rows}) == {"timeseries": [{"hours": 1.5} | wanted]}
    else:
        found = Columns(list(row), replace(TARGET, fields=fields), Path())
        assert found.record(row) == {"tabular": wanted}
        with pytest.raises(InvalidInput, match=r"tabular\.days\.value: is of type timedelta"):
            found.record({"days": {"value": timedelta(days=3), "unit": "days"}})


def test_a_picture_may_be_a_data_url_and_a_series_json():
    row = {"image": f"data:image/jpeg;base64,{BASE64}", "timeseries": '[{"hours": 1, "hr": null}]'}
    assert record(row) == {"image": [BASE64], "timeseries": [{"hours": 1}]}


def test_a_data_url_may_be_broken_into_lines_and_shouted():
    lines = "\n".join(BASE64[i : i + 8] for i in range(0, len(BASE64), 8))
    assert record({"image": f"DATA:image/jpeg;BASE64,{lines}\n"}) == {"image": [BASE64]}


@pytest.mark.parametrize("nothing", [b"", [b"", None], "data:image/jpeg;base64,"])
def test_a_picture_of_no_bytes_is_missing(nothing):
    assert record({"text": "a", "image": nothing}) == {"text": "a"}
    assert record({"image": [JPEG, b""]}) == {"image": [BASE64]}


def test_a_path_written_on_windows_is_found_as_by_preparing(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.jpg").write_bytes(JPEG)
    assert record({"image": r"scans\a.jpg"}, folder=tmp_path) == {"image": [BASE64]}


def test_what_would_never_be_read_or_fill_the_memory_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "film.jpg").open("wb") as file:
        file.truncate(3_000_000_000)
    for name, words in [
        ("pipe.jpg", "image: .*pipe.jpg is not a regular file"),
        ("/dev/zero", "image: /dev/zero is not a regular file"),
        ("film.jpg", "image: .*has 3,000,000,000 bytes; accepted: at most 200,000,000"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            record({"image": name}, folder=tmp_path)


def test_a_picture_in_base64_alone_is_told_to_be_one_and_stands_in_no_message():
    with pytest.raises(InvalidInput, match="is bare base64; accepted: a path, or a data URL"):
        record({"image": 90 * BASE64.rstrip("=")})
    with pytest.raises(InvalidInput) as caught:  # what that is, nobody knows
        record({"image": 90 * f"{BASE64}."})
    assert "cannot read" in str(caught.value)
    assert str(caught.value).endswith("No such file or directory")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"image": "gone.jpg"}, "image.*cannot read .*gone.jpg"),
        ({"image": ["https://a.example/b.jpg"]}, "image: https://a.example/b.jpg is a URL"),
        ({"image": b"%PDF-1.7"}, r"image\[0\]: is not an image; accepted: JPEG"),
        ({"image": "data:image/png;base64,?"}, "without valid base64"),
        ({"image": "data:image/png;base64,ä"}, "without valid base64"),
        ({"image": "data:"}, "without valid base64"),
        ({"image": "data:image/png;base64"}, "without valid base64"),
        ({"image": "data:image/png,"}, "without valid base64"),
        ({"image": "data:image/svg+xml,<svg xmlns='http://a.example'>"}, "without valid base64"),
        ({"timeseries": "[{"}, "timeseries: is not JSON"),
        ({"timeseries": '[{"hours": 1, "hr": 80, "hr": 180}]'}, "timeseries.*'hr' appears twice"),
        ({"timeseries": 5}, "timeseries: is of type int"),
        ({"text": 5}, "text.*is of type int"),
        ({"id": True, "text": "a"}, "id: is of type bool"),
        ({"age": date(2020, 1, 1)}, "tabular.age: is of type date"),
        ({"age": float("inf")}, "tabular.age: inf cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_named_by_its_part(tmp_path, row, words):
    with pytest.raises(InvalidInput, match=words):
        record(row, folder=tmp_path)


def test_a_long_name_that_is_a_decimal_is_kept_to_its_last_digit():
    names = [Decimal(10**19 + 1), Decimal(10**37 + 1), Decimal("7.00"), Decimal("7.5")]
    found = columns("id", "age")
    assert [found.id({"id": each}) for each in names] == [
        "10000000000000000001", "1" + 36 * "0" + "1", "7", "7.5",
    ]  # fmt: skip
    assert found.id({"id": Decimal("NaN")}) is None


def test_a_row_whose_fields_are_in_no_object_where_others_are_fails_for_itself():
    found = columns("text", "tabular", "tabular.age")
    assert found.wanted == {"text", "tabular", "tabular.age"}
    for nothing in (None, "", float("nan"), {}):
        assert found.record({"text": "a", "tabular": nothing}) == {"text": "a"}
    for wrong in ('{"age": 71}', [71], 71, {"value": 71}):
        with pytest.raises(InvalidInput, match="tabular: is not an object"):
            found.record({"text": "a", "tabular": wrong})
    named = columns("tabular", "tabular.gender", named={"age": "tabular"})
    assert named.record({"tabular": 71, "tabular.gender": "F"}) == {
        "tabular": {"age": 71, "gender": "F"}
    }


def test_a_row_has_its_name_even_where_the_rest_is_of_no_use():
    found = columns("id", "age")
    assert found.id({"id": "stay-17", "age": date(2020, 1, 1)}) == "stay-17"
    assert found.id({"id": True}) is None
    assert found.id({}) is None
