"""Nobody waits longer than they asked to."""

import asyncio
import json
import time

import httpx
import pytest

from service.api.deadline import HEADER
from service.api.key_file import new_key
from service.app import create_app
from service.settings import Settings
from tests.servers import leave


def test_an_answer_that_comes_too_late_is_a_504_and_counted(client, stay):
    long = stay | {"text": "never asked before " * 1000}
    said = client.post("/predict/mortality", json=long, headers={HEADER: "1"})
    assert said.status_code == 504
    problem = said.json()
    assert problem["code"] == "deadline_exceeded"
    assert problem["field"] == HEADER
    assert problem["seen"] == "1 ms"
    said = client.post("/predict/mortality", json=stay, headers={HEADER: "60000"})
    assert said.status_code == 200
    counted = client.get("/metrics").text
    assert 'code="deadline_exceeded",parts="",status="504",task="mortality"' in counted


def test_the_service_has_a_deadline_of_its_own(start_server, stay):
    with start_server("--answer-seconds", "0.001") as server:
        said = httpx.post(f"{server.url}/predict/mortality", json=stay, headers={HEADER: "60000"})
    assert (said.status_code, said.json()["seen"]) == (504, "1 ms")


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "1e3", "٣"])
def test_what_is_no_time_is_refused(client, stay, value):
    said = client.post("/predict/mortality", json=stay, headers={HEADER: value.encode()})
    assert (said.status_code, said.json()["code"]) == (422, "bad_parameter")
    assert said.json()["field"] == HEADER


def test_what_is_no_time_is_refused_on_record_and_to_who_may_ask_alone(
    start_server, tmp_path, stay
):
    audit, keys = tmp_path / "audit.jsonl", tmp_path / "keys.yaml"
    key, line = new_key("ward-7")
    keys.write_text(line)
    options = "--audit", str(audit), "--keys", str(keys), "--open-metrics", "true"
    with start_server(*options) as server:

        def ask(**headers):
            place = f"{server.url}/predict/mortality"
            return httpx.post(place, json=stay, headers={HEADER: "soon", **headers})

        assert ask().json()["code"] == "no_key"
        assert ask(Authorization=f"Bearer {key}").json()["code"] == "bad_parameter"
        counted = httpx.get(f"{server.url}/metrics").text
        assert httpx.get(f"{server.url}/healthz", headers={HEADER: "soon"}).status_code == 422
    assert 'code="bad_parameter",parts="",status="422",task="mortality"' in counted
    (entry,) = (json.loads(line) for line in audit.read_text().splitlines())
    assert (entry["key"], entry["code"]) == ("ward-7", "bad_parameter")


def test_a_stream_may_take_longer_than_that_once_it_has_begun(client, stay):
    lines = "".join(json.dumps(stay) + "\n" for _ in range(60))
    said = client.post(
        "/predict/mortality/stream",
        content=lines,
        headers={"Content-Type": "application/x-ndjson", HEADER: "200"},
    )
    assert said.status_code == 200
    assert sum("answer" in json.loads(line) for line in said.text.splitlines()) == 60


async def test_who_leaves_in_the_very_moment_is_counted_and_on_record(tmp_path):
    file = tmp_path / "audit.jsonl"
    app = create_app(Settings(audit=file, answer_seconds=0.3))
    submitted = asyncio.Event()

    async def never(job):
        submitted.set()
        await asyncio.Event().wait()

    async def leaves():
        await submitted.wait()
        time.sleep(0.5)  # noqa: ASYNC251  nobody else has a turn until the deadline has passed

    app.state.models["mortality"].engine.submit = never
    body = json.dumps({"text": "a"}).encode()
    sent = await leave(app, "/predict/mortality", b"application/json", body, leaves())
    assert sent[0]["status"] == 499
    (entry,) = (json.loads(line) for line in file.read_text().splitlines())
    assert (entry["status"], entry["code"]) == (499, "client_left")
