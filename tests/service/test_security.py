"""Headers of every answer, whatever it is."""

import pytest

from service.security import HEADERS


@pytest.mark.parametrize(
    "path", ["/healthz", "/tasks", "/nothing", "/predict/mortality", "/openapi.json"]
)
def test_every_answer_keeps_browsers_in_bounds(client, path):
    headers = client.get(path).headers
    for name, value in HEADERS.items():
        assert headers[name] == value
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_may_run_its_own_scripts_and_no_others(client, path):
    headers = client.get(path).headers
    policy = dict(
        each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'unsafe-inline'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"


def test_no_other_site_may_read_answers(client):
    answer = client.get("/tasks", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers
