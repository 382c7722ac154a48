"""The log as JSON."""

import json

import httpx


def test_every_line_is_an_object_and_says_who_asked_for_what(start_server, stay):
    with start_server("--log-format", "json") as server:
        answer = httpx.post(
            f"{server.url}/predict/mortality?note=jane",
            json=stay | {"id": "Jane Doe"},
            headers={"X-Request-ID": "r-1"},
        )
        assert answer.status_code == 422
        assert server.says("r-1")
        lines = [json.loads(line) for line in server.log().splitlines()]
    (line,) = [each for each in lines if each.get("request") == "r-1"]
    assert line["level"] == "INFO"
    assert line["path"] == "/predict/mortality"
    assert line["method"] == "POST"
    assert line["status"] == 422
    assert line["code"] == "bad_parameter"
    assert line["ms"] > 0
    assert line["time"].endswith("+00:00")
    assert "ane" not in json.dumps(line)
