"""How much a request may bring, as whoever runs the service sets it."""

import base64
import socket

import httpx
import pytest


@pytest.fixture(scope="module")
def narrow(start_server):
    options = {"pixels": 5000, "series-hours": 100, "case-tokens": 400, "notes": 8}
    words = [f"--{name}={value}" for name, value in options.items()]
    with start_server(*words) as started:
        yield started


@pytest.fixture
def send(narrow, refused):
    """Send to the narrow service what must be refused."""
    url = narrow.url + "/predict/mortality"
    return lambda status, code, path=url, **more: refused(status, code, path, **more)


def test_pixels_are_counted_before_any_is_decoded(send, picture):
    whole = picture("PNG", size=(100, 90))
    problem = send(413, "image_too_large", files={"image": whole[: len(whole) // 2]})
    assert problem["field"] == "image"
    assert problem["seen"] == "9,000 pixels"
    assert "5,000" in problem["accepted"]
    two = [("image", picture(size=(60, 50))), ("image", picture(size=(60, 50)))]
    assert send(413, "image_too_large", files=two)["seen"] == "6,000 pixels"


def test_hours_have_an_end(send):
    series = [{"hours": 1, "heart_rate": 80}, {"hours": -1.7e9, "heart_rate": 80}]
    problem = send(413, "too_many_hours", json={"timeseries": series})
    assert problem["field"] == "timeseries[1].hours"
    assert problem["seen"] == "-1.7e+09"
    assert problem["accepted"] == "at most 100 hours from the start, before or after"
    csv = ("series.csv", b"hours,heart_rate\n101,80\n")
    assert send(413, "too_many_hours", files={"timeseries": csv})["field"] == "timeseries[0].hours"


def test_a_case_has_a_size_in_tokens(send, narrow, client):
    notes = {"text": ["pt intubated overnight " * 20] * 8}
    problem = send(413, "too_many_tokens", json=notes)
    assert "fewer or shorter notes" in problem["accepted"]
    one = {"text": "pt intubated overnight"}
    assert client.post(narrow.url + "/predict/mortality", json=one).status_code == 200


def test_a_limit_that_the_example_is_over_is_not_held_against_the_model(start_server):
    with start_server("--case-tokens", "1") as started:  # which is ready
        answer = httpx.post(started.url + "/predict/mortality", json={"text": "two words"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_many_tokens")


def test_an_address_is_not_fetched(refused):
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.3)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/picture.png"
        problem = refused(422, "not_base64", json={"image": url})
        assert "URLs are not downloaded" in problem["accepted"]
        data = base64.b64encode(url.encode()).decode()
        refused(422, "not_an_image", json={"image": data})
        with pytest.raises(TimeoutError):
            elsewhere.accept()
