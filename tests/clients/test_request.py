"""What goes over the wire, as a server reads it."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clients import Client, InvalidInput
from clients.request import record

JPEG = b"\xff\xd8\xff\xe0 not much of a picture \r\n--\x00\xff"
PNG = b"\x89PNG\r\n\x1a\n neither is this"
CSV = b"hours,heart_rate\n0.5,92\n1.5,\n"
ROWS = [{"hours": 0.5, "heart_rate": 92, "temperature": {"value": 101.2, "unit": "degF"}}]


@pytest.fixture
def client(service, mortality):
    service.answers(mortality)
    with Client(service.url) as client:
        yield client


def test_a_case_without_files_goes_as_json(client, service):
    client.predict(
        "mortality",
        id="stay-17",
        text=["first", "zweite Notiz: 38 °C"],
        tabular={"age": 71, "gender": "F", "verified": True, "weight": None},
        timeseries=ROWS,
    )
    assert (service.last.method, service.last.path) == ("POST", "/predict/mortality")
    assert service.last.json == {
        "id": "stay-17",
        "text": ["first", "zweite Notiz: 38 °C"],
        "tabular": {"age": 71, "gender": "F", "verified": True, "weight": None},
        "timeseries": ROWS,
    }


def test_parts_given_as_none_are_not_sent(client, service):
    client.predict("mortality", text="only a note")
    assert service.last.json == {"text": "only a note"}
    assert service.last.query == {}

    client.predict("mortality", image=JPEG)
    assert [part.name for part in service.last.parts] == ["image"]


def test_a_case_with_a_picture_goes_as_a_form(client, service, tmp_path):
    picture = tmp_path / "Jane Doe.jpg"
    picture.write_bytes(JPEG)
    client.predict(
        "mortality",
        id="stay-17",
        text=["first", "zweite °C"],
        image=[picture, PNG, b"DICM"],
        tabular={"age": 71},
        timeseries=ROWS,
    )
    sent = [(part.name, part.content_type, part.content) for part in service.last.parts]
    assert sent[:6] == [
        ("id", None, b"stay-17"),
        ("text", None, b"first"),
        ("text", None, "zweite °C".encode()),
        ("image", "image/jpeg", JPEG),
        ("image", "image/png", PNG),
        ("image", "application/octet-stream", b"DICM"),
    ]
    rest = [(name, kind, json.loads(content)) for name, kind, content in sent[6:]]
    assert rest == [
        ("tabular", "application/json", {"age": 71}),
        ("timeseries", "application/json", ROWS),
    ]


def test_files_travel_as_files_and_without_their_names_on_disk(client, service, tmp_path):
    picture = tmp_path / "Jane Doe.jpg"
    picture.write_bytes(JPEG)
    client.predict("mortality", text="note", image=str(picture), tabular={"age": 71})
    named = {part.name: part.filename for part in service.last.parts}
    assert named == {"text": None, "image": "image", "tabular": "tabular"}
    assert b"Jane" not in service.last.body


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"II*\x00 intel", "image/tiff"),
        (b"MM\x00* motorola", "image/tiff"),
        (b"II+\x00 big", "image/tiff"),
        (b"MM\x00+ big", "image/tiff"),
        (b"BM bitmap", "image/bmp"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_a_picture_is_named_by_what_it_holds(client, service, content, kind):
    client.predict("mortality", image=content)
    (part,) = service.last.parts
    assert (part.content_type, part.content) == (kind, content)


def test_a_csv_is_sent_as_it_is_for_the_service_to_read(client, service, tmp_path):
    vitals = tmp_path / "vitals.CSV"
    vitals.write_bytes(CSV)
    client.predict("mortality", text="note", timeseries=vitals)
    text, series = service.last.parts
    assert (text.name, text.content) == ("text", b"note")
    assert (series.name, series.content_type, series.content) == ("timeseries", "text/csv", CSV)


def test_a_json_file_of_rows_goes_like_the_rows_in_it(client, service, tmp_path):
    vitals = tmp_path / "vitals.json"
    vitals.write_text(json.dumps(ROWS), encoding="utf-8-sig")
    client.predict("mortality", timeseries=str(vitals))
    assert service.last.json == {"timeseries": ROWS}


def test_explain_and_coverage_stand_in_the_query(client, service):
    client.predict("mortality", text="note", explain=True, coverage=0.9)
    assert service.last.query == {"explain": ["true"], "coverage": ["0.9"]}


def test_a_task_name_is_one_segment_of_the_path(client, service):
    client.predict("my task/é", text="note")
    assert service.last.path == "/predict/my%20task%2F%C3%A9"


def test_a_service_may_stand_under_a_prefix_and_want_a_header(service, mortality):
    service.answers(mortality)
    with Client(f"{service.url}/lanistr/", headers={"X-API-Key": "k"}) as client:
        client.predict("mortality", text="note")
    assert service.last.path == "/lanistr/predict/mortality"
    assert service.last.headers["X-API-Key"] == "k"


def test_every_request_carries_its_own_id(client, service):
    client.predict("mortality", text="note")
    client.predict("mortality", text="note")
    first, second = (each.headers["X-Request-ID"] for each in service.received)
    assert first != second


def test_numbers_of_numpy_are_sent_as_numbers(client, service):
    client.predict("mortality", tabular={"age": np.int64(71), "hours": np.float32(0.5)})
    assert service.last.json == {"tabular": {"age": 71, "hours": 0.5}}


def test_decimals_are_sent_as_numbers_as_tables_have_them(client, service):
    numbers = {"age": "71", "sodium": "140.10", "count": "12345678901234567890123", "low": "-1E+3"}
    client.predict("mortality", tabular={name: Decimal(each) for name, each in numbers.items()})
    assert b'"tabular":{"age":71,"sodium":140.1,' in service.last.body
    assert service.last.json["tabular"]["count"] == 12345678901234567890123
    assert service.last.json["tabular"]["low"] == -1000


def test_true_and_false_of_numpy_are_sent_as_such_and_a_list_of_them_is_not(client, service):
    client.predict("mortality", tabular={"verified": np.bool_(True), "seen": np.bool_(False)})
    assert service.last.json == {"tabular": {"verified": True, "seen": False}}
    with pytest.raises(InvalidInput, match="is of type ndarray"):
        client.predict("mortality", tabular={"verified": np.array([True])})


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_picture_may_be_bytes_of_any_kind(client, service, kind):
    client.predict("mortality", image=kind(JPEG))
    client.predict("mortality", image=[kind(PNG), kind(JPEG)])
    sent = [[part.content for part in each.parts] for each in service.received]
    assert sent == [[JPEG], [PNG, JPEG]]
    assert record({"image": kind(JPEG)}) == record({"image": JPEG})


class TestRefusedBeforeAnythingIsSent:
    @pytest.fixture(autouse=True)
    def nothing_arrives(self, client, service):
        yield
        assert service.received == []

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float32("nan")])
    def test_numbers_that_are_not_finite(self, client, number):
        with pytest.raises(InvalidInput, match="finite") as caught:
            client.predict("mortality", tabular={"age": number})
        assert caught.value.field == "tabular.age"

        rows = [{"hours": 0, "temperature": {"value": number, "unit": "degF"}}]
        with pytest.raises(InvalidInput) as caught:
            client.predict("mortality", image=JPEG, timeseries=rows)
        assert caught.value.field == "timeseries[0].temperature.value"

        with pytest.raises(InvalidInput) as caught:
            client.predict("mortality", text="note", coverage=number)
        assert caught.value.field == "coverage"

    @pytest.mark.parametrize("token", ["NaN", "-Infinity", "1e999"])
    def test_numbers_that_are_not_finite_in_a_file(self, client, tmp_path, token):
        vitals = tmp_path / "vitals.json"
        vitals.write_text(f'[{{"hours": 0}}, {{"hours": 1, "heart_rate": {token}}}]')
        with pytest.raises(InvalidInput) as caught:
            client.predict("mortality", timeseries=vitals)
        assert caught.value.field == "timeseries[1].heart_rate"

    @pytest.mark.parametrize(
        ("part", "field"),
        [
            ({"id": 17}, "id"),
            ({"text": 5}, "text"),
            ({"text": []}, "text"),
            ({"text": ["note", None]}, "text[1]"),
            ({"text": "half an emoji \ud83d"}, "text"),
            ({"image": []}, "image"),
            ({"image": 5}, "image"),
            ({"image": [JPEG, None]}, "image[1]"),
            ({"tabular": [1]}, "tabular"),
            ({"tabular": {"age": Decimal("NaN")}}, "tabular.age"),
            ({"tabular": {"age": Decimal("1E+999999999")}}, "tabular.age"),
            ({"tabular": {"age": b"71"}}, "tabular.age"),
            ({"tabular": {71: "age"}}, "tabular, name 71"),
            ({"tabular": {"age": 10**5000}}, "tabular.age"),
            ({"tabular": {"age": Fraction(10**400)}}, "tabular.age"),
            ({"timeseries": {"hours": 1}}, "timeseries"),
            ({"timeseries": [[0.5, 92]]}, "timeseries[0]"),
            ({"timeseries": "vitals.parquet"}, "timeseries"),
        ],
    )
    def test_what_json_cannot_say_or_is_no_such_part(self, client, part, field):
        with pytest.raises(InvalidInput, match=r"accepted|Unicode") as caught:
            client.predict("mortality", **part)
        assert caught.value.field == field

    @pytest.mark.parametrize(
        "part", [{"image": ["gone.jpg"]}, {"timeseries": Path("gone.csv")}, {"image": "."}]
    )
    def test_files_that_cannot_be_read(self, client, part):
        with pytest.raises(InvalidInput, match="cannot read"):
            client.predict("mortality", **part)

    def test_a_file_that_is_not_json(self, client, tmp_path):
        vitals = tmp_path / "vitals.json"
        vitals.write_text('[{"hours": 0,]')
        with pytest.raises(InvalidInput, match=r"vitals\.json is not JSON: .*line 1"):
            client.predict("mortality", timeseries=vitals)

    def test_a_file_in_which_a_name_stands_twice(self, client, tmp_path):
        vitals = tmp_path / "vitals.json"
        vitals.write_text('[{"hours": 0, "heart_rate": 80, "heart_rate": 180}]')
        with pytest.raises(InvalidInput, match=r"timeseries.*'heart_rate' appears twice"):
            client.predict("mortality", timeseries=vitals)

    def test_what_is_nested_too_deep(self, client):
        deep = []
        for _ in range(10_000):
            deep = [deep]
        with pytest.raises(InvalidInput, match="tabular: is nested too deep"):
            client.predict("mortality", tabular={"age": deep})

    @pytest.mark.parametrize(
        ("field", "words"),
        [("task", {"task": "x" * 70_000}), ("version", {"version": "x" * 70_000})],
    )
    def test_a_word_too_long_for_an_address(self, client, field, words):
        with pytest.raises(InvalidInput, match=f"{field}: cannot be part of a URL"):
            client.predict(**({"task": "mortality", "text": "note"} | words))

    @pytest.mark.parametrize("version", [7, "\ud800"])
    def test_a_version_that_is_none(self, client, version):
        with pytest.raises(InvalidInput, match="version: is "):
            client.predict("mortality", text="note", version=version)

    @pytest.mark.parametrize("case", [None, ["text"], "text", 5])
    def test_a_case_that_is_none(self, client, case):
        (error,) = client.predict_many("mortality", [case])
        assert isinstance(error, InvalidInput)
        assert error.field == "cases[0]"

    def test_a_task_without_a_name(self, client):
        with pytest.raises(InvalidInput, match="task"):
            client.predict("", text="note")

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1"])
    def test_a_timeout_that_is_none(self, client, seconds):
        with pytest.raises(InvalidInput, match="timeout"):
            client.predict("mortality", text="note", timeout=seconds)


@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "retry_seconds"])
@pytest.mark.parametrize("seconds", [None, "30", -1])
def test_waits_that_are_none_are_refused_at_once(name, seconds):
    with pytest.raises(InvalidInput, match=f"{name}: is {seconds}"):
        Client(**{name: seconds})


@pytest.mark.parametrize("value", [None, 5, b"key"])
def test_a_header_that_is_no_text_is_refused_at_once(value):
    with pytest.raises(InvalidInput, match=r"headers.X-Key: is .*; accepted: text"):
        Client(headers={"X-Key": value})


@pytest.mark.parametrize("number", [0, -1, "5", None, 2.5])
def test_connections_that_are_none_are_refused_at_once(number):
    """A request would wait for one until it is told that the service is silent."""
    with pytest.raises(InvalidInput, match=f"connections: is {number!r}; accepted: "):
        Client(connections=number)


@pytest.mark.parametrize(
    ("image", "field"),
    [(b"DICM", "image"), ([PNG, b"DICM"], "image[1]"), ([b"DICM", PNG], "image[0]")],
)
def test_what_is_no_picture_in_a_list_is_told_by_its_place(image, field):
    with pytest.raises(InvalidInput, match="is not an image") as caught:
        record({"image": image})
    assert caught.value.field == field


@pytest.mark.parametrize("url", [None, "", "localhost:8000", "ftp://here", "http://", "http://a:b"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(InvalidInput, match="url"):
        Client(url)


@pytest.mark.parametrize(
    "url", ["ward:hush@here:8000", "ftp://ward:hush@here", "http://w:hush@a:b"]
)
def test_an_address_that_is_none_is_told_without_its_password(url):
    with pytest.raises(InvalidInput, match="is not a URL") as caught:
        Client(url)
    assert "hush" not in str(caught.value)
