"""Bad requests: each has its problem, and none stops the service."""

import base64
import socket
import struct
import zlib

import httpx
import pytest

JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def still_alive(client, stay):
    yield
    assert client.post("/predict/mortality", json=stay).status_code == 200


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """A PNG of a few bytes that says it has very many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "record", [{}, {"id": "a"}, {"text": None}, {"tabular": {}, "timeseries": []}]
)
def test_nothing_present(refused, record):
    problem = refused(422, "nothing_present", json=record)
    assert problem["accepted"] == "at least one of text, image, tabular, timeseries"


def test_nothing_present_in_a_form(refused):
    refused(422, "nothing_present", files={"text": (None, ""), "image": ("", b"")})


def test_nothing_usable_says_what_became_of_it(refused):
    rows = [{"hours": 99, "heart_rate": 80}]
    problem = refused(422, "nothing_usable", json={"timeseries": rows})
    assert [each["code"] for each in problem["issues"]] == ["beyond_horizon", "empty"]


@pytest.mark.parametrize(
    ("record", "field", "meant"),
    [
        ({"txt": "a"}, "txt", "text"),
        ({"tabular": {"agee": 1}}, "tabular.agee", "age"),
        ({"timeseries": [{"hours": 1, "hart_rate": 1}]}, "timeseries[0].hart_rate", "heart_rate"),
        ({"tabular": {"age": {"value": 1, "units": "a"}}}, "tabular.age.units", "unit"),
    ],
)
def test_an_unknown_field_names_the_nearest(refused, record, field, meant):
    problem = refused(422, "unknown_field", json=record)
    assert problem["field"] == field
    assert f"did you mean {meant!r}?" in problem["accepted"]


def test_an_unknown_part_of_a_form_names_the_nearest(refused):
    problem = refused(422, "unknown_field", files={"imgae": ("a.png", b"x")})
    assert "did you mean 'image'?" in problem["accepted"]


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ([1], None),
        ("text", None),
        ({"id": 7, "text": "a"}, "id"),
        ({"text": 7}, "text"),
        ({"text": ["a", {}]}, "text[1]"),
        ({"image": 7}, "image"),
        ({"tabular": [1]}, "tabular"),
        ({"tabular": {"age": "old"}}, "tabular.age"),
        ({"tabular": {"age": [1]}}, "tabular.age"),
        ({"tabular": {"gender": {"value": "F", "unit": "x"}}}, "tabular.gender"),
        ({"timeseries": {"hours": 1}}, "timeseries"),
        ({"timeseries": [{"heart_rate": 1}]}, "timeseries[0].hours"),
        ({"timeseries": [{"hours": 1, "heart_rate": True}]}, "timeseries[0].heart_rate"),
    ],
)
def test_a_wrong_type(refused, record, field):
    assert refused(422, "wrong_type", json=record)["field"] == field


def test_an_unknown_unit_names_those_it_takes(refused):
    value = {"value": 300, "unit": "kelvin"}
    problem = refused(
        422, "unknown_unit", json={"timeseries": [{"hours": 0, "temperature": value}]}
    )
    assert "degF" in problem["accepted"]


def test_not_an_image(refused):
    problem = refused(422, "not_an_image", files={"image": ("cxr.png", b"this is no picture")})
    assert problem["field"] == "image"
    assert "PNG" in problem["accepted"]
    encoded = base64.b64encode(b"neither is this").decode()
    refused(422, "not_an_image", json={"image": encoded})
    refused(422, "not_base64", json={"image": "http://example.org/cxr.png"})


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_truncated_image(refused, picture, format):
    data = picture(format, size=(300, 300))
    problem = refused(422, "broken_image", files={"image": ("a", data[: len(data) // 2])})
    assert problem["field"] == "image"


def test_an_image_bomb(refused):
    assert len(bomb()) < 200
    problem = refused(413, "image_too_large", files={"image": ("bomb.png", bomb())})
    assert "10,000,000,000 pixels" in problem["seen"]
    assert "40,000,000" in problem["accepted"]


def test_a_category_never_seen_is_kept_as_unknown(client):
    answer = client.post("/predict/mortality", json={"tabular": {"gender": "X", "age": 50}})
    assert answer.status_code == 200
    (issue,) = answer.json()["issues"]
    assert (issue["code"], issue["field"], issue["seen"], issue["action"]) == (
        "unknown_category", "tabular.gender", "X", "kept",
    )  # fmt: skip


def test_hours_beyond_the_horizon_are_dropped(client):
    rows = [{"hours": 1, "heart_rate": 80}, {"hours": 49, "heart_rate": 80}]
    answer = client.post("/predict/mortality", json={"timeseries": rows})
    assert answer.status_code == 200
    assert [each["code"] for each in answer.json()["issues"]] == ["beyond_horizon"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite(refused, number):
    body = f'{{"timeseries": [{{"hours": 1}}, {{"hours": 2, "heart_rate": {number}}}]}}'
    problem = refused(422, "not_finite", content=body, headers=JSON)
    assert problem["field"] == "timeseries[1].heart_rate"
    refused(422, "not_finite", files={"tabular": (None, f'{{"age": {number}}}')})


def test_a_number_in_words_that_is_not_finite(refused):
    refused(422, "not_finite", json={"tabular": {"age": "nan"}})


@pytest.mark.parametrize("body", [b"", b"{", b'{"text": "a"', b'{"a": 1,}', b"text=a"])
def test_a_body_that_is_not_json(refused, body):
    problem = refused(400, "not_json", content=body, headers=JSON)
    assert "line 1, column" in problem["detail"]
    assert problem["field"] == "body"
    assert problem["seen"]
    assert problem["accepted"]


def test_json_nested_too_deep(refused):
    for depth in (40, 900, 100_000):
        body = b'{"tabular": {"age": %s}}' % (b"[" * depth + b"]" * depth)
        refused(413, "too_deep", content=body, headers=JSON)


def test_a_body_over_the_limit(refused):
    body = b'{"text": "%s"}' % (b"a" * 20_000_000)
    problem = refused(413, "body_too_large", content=body, headers=JSON)
    assert problem["accepted"] == "at most 20,000,000 bytes"
    assert (problem["field"], problem["seen"]) == ("body", f"{len(body):,} bytes")


def test_a_body_over_the_limit_that_does_not_say_so(refused):
    pieces = (b" " * 1_000_000 for _ in range(25))
    problem = refused(413, "body_too_large", content=pieces, headers=JSON)
    assert problem["field"] == "body"
    assert problem["seen"].startswith("at least 2")
    assert problem["seen"].endswith(" bytes")


def test_too_much_of_a_part(refused):
    refused(413, "too_many", json={"text": ["a"] * 65})
    refused(413, "too_many", json={"image": ["aaaa"] * 17})
    refused(413, "too_many", json={"timeseries": [{"hours": 0}] * 20_001})
    table = ("series.csv", "hours\n" + "0\n" * 20_001)
    assert refused(413, "too_many", files={"timeseries": table})["field"] == "timeseries"
    assert refused(413, "too_long", json={"text": ["a", "a" * 1_000_001]})["field"] == "text[1]"
    refused(413, "too_many", files=[("text", (None, "a"))] * 300)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        JSON | {"Content-Encoding": "gzip"},
    ],
)
def test_a_wrong_media_type(refused, headers):
    problem = refused(415, "unsupported_media_type", content=b'{"text": "a"}', headers=headers)
    assert problem["accepted"]


def test_a_form_that_is_none(refused):
    headers = {"Content-Type": "multipart/form-data"}
    problem = refused(400, "not_a_form", content=b"x", headers=headers)
    assert (problem["field"], problem["seen"]) == ("Content-Type", "multipart/form-data")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    problem = refused(400, "not_a_form", content=b"x", headers=headers)
    assert problem["field"] == "body"
    assert problem["seen"]
    part = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nthe rest is miss'
    problem = refused(400, "not_a_form", content=part, headers=headers)
    assert "the form ends before" in problem["detail"]
    headers = {"Content-Type": "multipart/form-data; boundary=" + "b" * 257}
    assert refused(400, "not_a_form", content=b"x", headers=headers)["field"] == "Content-Type"


def test_a_part_sent_twice(refused):
    twice = [("tabular", (None, '{"age": 50}'))] * 2
    assert refused(422, "repeated_field", files=twice)["field"] == "tabular"


def test_a_name_sent_twice(refused):
    body = '{"tabular": {"age": 50, "age": 90}}'
    problem = refused(422, "repeated_field", content=body, headers=JSON)
    assert problem["field"] == "tabular.age"
    refused(422, "repeated_field", files={"tabular": (None, '{"age": 50, "age": 90}')})


def test_what_is_wrong_is_called_by_its_place_among_what_is_empty(refused, picture):
    good = base64.b64encode(picture()).decode()
    bad = base64.b64encode(b"no picture").decode()
    problem = refused(422, "not_an_image", json={"image": [good, None, bad]})
    assert problem["field"] == "image[2]"
    form = [("image", ("", b"")), ("image", ("a.png", picture())), ("image", ("b", b"none"))]
    assert refused(422, "not_an_image", files=form)["field"] == "image[2]"


def test_issues_of_notes_are_called_by_their_place_among_what_is_empty(client):
    record = {"text": ["fine", "", None, "w " * 3000]}
    issues = client.post("/predict/mortality", json=record).json()["issues"]
    assert [(each["code"], each["field"]) for each in issues] == [
        ("empty", "text[1]"),
        ("text_cut", "text[3]"),
    ]


def test_a_text_that_is_not_utf_8(refused):
    assert refused(422, "not_text", files={"text": ("note.txt", b"caf\xe9")})["field"] == "text"


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("time,heart_rate\n1,80\n", "timeseries"),
        ("hours,heart_rate,heart_rate\n1,80,80\n", "timeseries"),
        ("hours,heart_rate\n1,80\n2\n", "timeseries[1]"),
        ('hours,heart_rate\n1,"80\n', "timeseries"),
    ],
)
def test_csv_that_is_none(refused, table, field):
    assert refused(422, "not_csv", files={"timeseries": ("a.csv", table)})["field"] == field


def test_a_bad_cell_of_csv_is_named_by_row_and_column(refused):
    table = "hours,heart_rate\n1,80\n2,fast\n"
    problem = refused(422, "wrong_type", files={"timeseries": ("a.csv", table)})
    assert (problem["field"], problem["seen"]) == ("timeseries[1].heart_rate", "fast")


def test_an_unknown_task_names_the_nearest(refused):
    problem = refused(404, "unknown_task", "/predict/mortalty", json={})
    assert "did you mean 'mortality'?" in problem["accepted"]


@pytest.mark.parametrize(
    ("query", "accepted"),
    [
        ("coverage=0", "a number above 0 and below 1"),
        ("coverage=1", "a number above 0 and below 1"),
        ("coverage=nan", "a number above 0 and below 1"),
        ("coverage=most", "a number above 0 and below 1"),
        ("explain=perhaps", "true or false"),
        ("explian=true", "did you mean 'explain'? one of explain, coverage, version"),
        ("coverage=0.5&coverage=0.9", "one value"),
    ],
)
def test_a_bad_query(refused, query, accepted):
    problem = refused(422, "bad_parameter", f"/predict/mortality?{query}", json={"text": "a"})
    assert problem["field"] == query.partition("=")[0]
    assert problem["seen"]
    assert problem["accepted"] == accepted


@pytest.mark.parametrize(
    ("place", "query", "accepted"),
    [
        ("/embed/mortality", "explain=true", "one of version"),
        ("/predict/mortality/batch", "versoin=1", "did you mean 'version'?"),
    ],
)
def test_no_parameter_is_passed_over(refused, place, query, accepted):
    problem = refused(422, "bad_parameter", f"{place}?{query}", json=[{"text": "a"}])
    assert problem["field"] == query.partition("=")[0]
    assert accepted in problem["accepted"]


@pytest.fixture(scope="module")
def one_place(start_server):
    with (
        start_server("--body-seconds", "1", "--queue", "1") as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


def test_a_body_that_does_not_come_is_given_up(one_place, stay):
    address = "127.0.0.1", one_place.base_url.port
    with socket.create_connection(address, timeout=30) as stalled:
        stalled.sendall(
            b"POST /predict/mortality HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Content-Type: application/json\r\n\r\n{"
        )
        said = b""
        while b"body_too_slow" not in said and (more := stalled.recv(65536)):
            said += more
        assert said.startswith(b"HTTP/1.1 408")
        assert b"body_too_slow" in said
    assert one_place.post("/predict/mortality", json=stay).status_code == 200


def test_thousands_of_issues_make_a_short_answer(client):
    rows = [{"hours": i / 1000, "heart_rate": 9999} for i in range(20_000)]
    answer = client.post("/predict/mortality", json={"text": "a note", "timeseries": rows})
    assert answer.status_code == 200
    assert len(answer.content) < 50_000
    assert answer.json()["issues"][-2]["seen"] == "19900 more"


def test_a_huge_unknown_field_is_not_sent_back_whole(refused):
    problem = refused(422, "unknown_field", json={"x" * 1_000_000: 1})
    assert len(problem["field"]) < 400


def test_a_place_that_is_not_free_says_when_one_will_be(one_place, stay):
    def slowly():
        """Hold the only place while the body comes."""
        yield b" "
        answers.append(one_place.post("/predict/mortality", json=stay))
        yield b'{"text": "a"}'

    answers: list[httpx.Response] = []
    held = one_place.post("/predict/mortality", content=slowly(), headers=JSON)
    assert held.status_code == 200
    (busy,) = answers
    assert busy.status_code == 503
    assert busy.json()["code"] == "too_busy"
    assert int(busy.headers["retry-after"]) >= 1
    assert one_place.post("/predict/mortality", json=stay).status_code == 200
