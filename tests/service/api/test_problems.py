"""Whatever goes wrong is a problem of the one table."""

import re
from pathlib import Path

import httpx
import pytest

from lanistr import preprocess
from lanistr.errors import InputError
from service import inputs
from service.api.problems import STATUS, describe
from service.api.schemas import encode
from service.app import create_app
from service.settings import Settings


def test_every_code_that_a_record_can_raise_is_in_the_table():
    raised: set[str] = set()
    for module in (preprocess, inputs):
        for path in Path(module.__path__[0]).glob("*.py"):
            for error in re.findall(r"InputError\((.*?)\n\s*\)", path.read_text(), re.S):
                raised.update(re.findall(r'code="(\w+)"', error))
    assert {"wrong_type", "not_json", "broken_image"} <= raised
    assert raised <= set(STATUS)


def test_an_unknown_address(client):
    answer = client.get("/task")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
    assert "did you mean '/tasks'?" in answer.json()["accepted"]


@pytest.mark.parametrize("path", ["/tasks/", "/predict/rating/", "/predict/rating/stream/"])
def test_an_address_with_a_slash_too_many_leads_nowhere_else(client, path):
    method = "GET" if path == "/tasks/" else "POST"
    answer = client.request(method, path, headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "location" not in answer.headers
    assert f"did you mean {path[:-1]!r}" in answer.json()["accepted"]


def test_a_wrong_method(client):
    answer = client.get("/predict/mortality")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["code"] == "method_not_allowed"


def test_what_is_no_unicode_is_told_all_the_same(refused):
    headers = {"Content-Type": "application/json"}
    problem = refused(422, "not_finite", content=b'{"\\ud800": NaN}', headers=headers)
    assert problem["field"] == "?"
    problem = describe("r-1", "not_text", "no text", field="a.\ud800", seen="b\udfff")
    assert (problem["field"], problem["seen"]) == ("a.?", "b?")
    assert encode(problem)


async def test_a_fault_of_ours_tells_nothing_of_itself(caplog):
    app = create_app(Settings())

    @app.get("/fault")
    async def fault():
        raise ValueError("secret")

    @app.get("/usage")
    async def usage():
        raise InputError("new", code="a_code_of_tomorrow", seen=float("nan"))

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.get("/fault", headers={"X-Request-ID": "r-1"})
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "internal"
        assert "ValueError at " in caplog.text
        assert "r-1" in caplog.text
        assert "secret" not in answer.text + caplog.text

        answer = await client.get("/usage")
        assert answer.status_code == 422
        assert answer.json()["seen"] == "nan"
