"""Lists of cases: every one gets the answer that it would have got alone, or its own problem."""

import asyncio
import json

from service.app import create_app
from service.settings import Settings
from tests.servers import leave, plain


def batch(client, records, **query):
    answer = client.post("/predict/mortality/batch", json=records, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    return answer.json()["items"]


def test_the_answers_of_a_list_are_those_of_its_cases_bit_for_bit(client, records):
    """In int8, the demo's precision on a CPU, every row is run alone."""
    items = batch(client, records, explain=True, coverage=0.8)
    assert [each["index"] for each in items] == list(range(len(records)))
    for record, item in zip(records, items, strict=True):
        query = {"explain": True, "coverage": 0.8}
        alone = client.post("/predict/mortality", json=record, params=query)
        kind = "answer" if alone.status_code == 200 else "problem"
        assert set(item) == {"index", kind}
        assert plain(item[kind]) == plain(alone.json())
    assert sum("problem" in each for each in items) == 4


def test_an_empty_list_has_no_answers(client):
    assert batch(client, []) == []


def test_what_is_no_list_is_refused(refused, stay):
    path = "/predict/mortality/batch"
    assert refused(422, "wrong_type", path, json=stay)["field"] == "body"
    refused(400, "not_json", path, content="[{", headers={"Content-Type": "application/json"})
    refused(415, "unsupported_media_type", path, files={"text": (None, "a")})
    problem = refused(413, "too_many", path, json=[{"text": "a"}] * 257)
    assert (problem["seen"], problem["accepted"][:11]) == ("257 records", "at most 256")
    refused(422, "bad_parameter", path + "?explan=true", json=[])
    refused(404, "unknown_task", "/predict/mortalty/batch", json=[])


def test_a_record_may_be_nested_as_deep_in_a_list_as_alone(client):
    deep = json.loads('{"text":' + "[" * 15 + "]" * 15 + "}")
    alone = client.post("/predict/mortality", json=deep)
    assert alone.json()["code"] == "wrong_type"
    assert batch(client, [deep])[0]["problem"]["code"] == "wrong_type"
    problem = client.post("/predict/mortality/batch", json=[{"text": [deep]}]).json()
    assert problem["code"] == "too_deep"


async def test_a_client_that_leaves_takes_its_list_along():
    app = create_app(Settings())
    predictor = app.state.models["mortality"]
    submitted, full = [], asyncio.Event()

    async def never(job):
        submitted.append(job)
        if len(submitted) == 8:
            full.set()
        await asyncio.Event().wait()

    predictor.engine.submit = never
    body = json.dumps([{"text": f"note {k}"} for k in range(100)]).encode()
    sent = await leave(app, "/predict/mortality/batch", b"application/json", body, full.wait())
    assert sent[0]["status"] == 499
    assert predictor.admission.inside == 0
    await asyncio.sleep(0.1)
    assert len(submitted) == 8  # no more of them than were inside
