"""What the caller gets for what the service said."""

import dataclasses
import json

import pytest

from clients import (
    AsyncClient,
    Client,
    InvalidInput,
    InvalidRequest,
    Issue,
    Prediction,
    Readiness,
    UnreadableAnswer,
    display,
)


@pytest.fixture
def client(service):
    with Client(service.url) as client:
        yield client


def test_a_binary_answer(client, service, mortality):
    service.answers(mortality)
    answer = client.predict("mortality", text="note", explain=True)
    assert (answer.id, answer.task, answer.request_id) == ("stay-17", "mortality", "r-1")
    assert (answer.model.name, answer.model.version, answer.model.demo) == (
        "mortality-demo",
        "0.1.0",
        True,
    )
    assert (answer.label, answer.probability) == ("survived", 0.31)
    assert answer.probabilities == {"survived": 0.69, "died": 0.31}
    assert answer.prediction_set == ("survived", "died")
    assert (answer.expected, answer.value) == (None, None)
    assert answer.modalities.used == ("text", "timeseries")
    assert answer.modalities.missing == ("image", "tabular")
    assert answer.modalities.contributions == {"text": 0.42, "timeseries": -0.11}
    assert answer.modalities.baseline == -1.5
    (issue,) = answer.issues
    assert (issue.code, issue.field, issue.seen, issue.action, issue.detail) == (
        "out_of_range",
        "timeseries[3].heart_rate",
        1200,
        "dropped",
        "0 to 390 1/min",
    )
    assert answer.timing_ms == {"preprocess": 1.5, "queue": 0.0, "inference": 12.25}


def test_an_ordinal_answer(client, service, rating):
    service.answers(rating)
    answer = client.predict("rating", text="fits well")
    assert (answer.id, answer.label, answer.probability, answer.value) == (None, "5", None, None)
    assert answer.expected == 4.2
    assert answer.probabilities["5"] == 0.55
    assert answer.modalities.contributions is None


def test_a_regression_answer(client, service, length_of_stay):
    service.answers(length_of_stay)
    answer = client.predict("length_of_stay", text="note")
    assert answer.value == 3.0
    assert answer.interval == (1.5, 4.0)
    assert isinstance(answer.value, float)
    assert (answer.label, answer.probability, answer.expected) == (None, None, None)
    assert (answer.probabilities, answer.prediction_set) == ({}, ())


def test_answers_are_frozen_and_keep_what_they_were_read_from(client, service, mortality):
    service.answers(mortality | {"new": {"since": "tomorrow"}})
    answer = client.predict("mortality", text="note")
    assert answer.raw["new"] == {"since": "tomorrow"}
    assert answer.issues[0].raw == mortality["issues"][0]
    assert "tomorrow" not in repr(answer)
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.label = "died"


def test_the_tasks_and_one_of_them(client, service):
    listed = {"name": "rating", "title": "Stars", "modalities": ["text", "image"], "metric": "mae"}
    service.answers({"tasks": [listed]})
    (task,) = client.tasks()
    assert (task.name, task.title, task.modalities) == ("rating", "Stars", ("text", "image"))
    assert task.raw["metric"] == "mae"
    assert (service.last.method, service.last.path) == ("GET", "/tasks")

    service.answers({"name": "rating", "tabular": {"vote": {"range": [0, 1]}}})
    assert client.task("rating")["tabular"] == {"vote": {"range": [0, 1]}}
    assert service.last.path == "/tasks/rating"


def test_health(client, service):
    service.answers({"status": "ok"})
    assert client.health() == "ok"
    assert service.last.path == "/healthz"


def test_a_service_that_is_not_ready_yet_is_an_answer_not_an_error(client, service):
    service.answers({"status": "ready", "tasks": ["rating"]})
    ready = client.ready()
    assert ready == Readiness(ready=True, status="ready", tasks=("rating",), raw={})

    service.answers_bytes(b'{"status": "loading"}', "application/json", status=503)
    waiting = client.ready()
    assert (waiting.ready, waiting.status, waiting.tasks) == (False, "loading", ())


def _without(document, *path):
    *parents, name = path
    for parent in parents:
        document = document[parent]
    del document[name]


@pytest.mark.parametrize(
    "path",
    [
        ("task",),
        ("model",),
        ("model", "demo"),
        ("prediction",),
        ("prediction", "label"),
        ("prediction", "probabilities"),
        ("modalities", "used"),
        ("issues",),
        ("issues", 0, "action"),
        ("request_id",),
        ("timing_ms",),
    ],
)
def test_a_member_that_is_missing_is_named(client, service, mortality, path):
    _without(mortality, *path)
    service.answers(mortality)
    with pytest.raises(UnreadableAnswer, match=f"{path[-1]} is missing") as caught:
        client.predict("mortality", text="note")
    assert caught.value.status == 200
    assert caught.value.request_id == service.last.headers["X-Request-ID"]
    assert caught.value.body.startswith("{")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"task": 5}, "task"),
        ({"model": []}, "model"),
        ({"model": {"name": "m", "version": "1", "demo": "no"}}, r"model\.demo"),
        ({"prediction": {"value": "3"}}, r"prediction\.value"),
        ({"prediction": {"value": 3, "interval": [1]}}, r"prediction\.interval"),
        ({"prediction": {"value": 3, "interval": [1, "2"]}}, r"prediction\.interval\[1\]"),
        ({"prediction": {"label": "a", "probabilities": {"a": True}}}, r"probabilities\.a"),
        ({"modalities": {"used": [None], "missing": []}}, r"modalities\.used\[0\]"),
        ({"issues": {}}, "issues"),
        ({"issues": ["late"]}, r"issues\[0\]"),
    ],
)
def test_a_member_of_another_type_is_named(client, service, mortality, change, where):
    service.answers(mortality | change)
    with pytest.raises(UnreadableAnswer, match=rf"{where} is .*, not "):
        client.predict("mortality", text="note")


@pytest.mark.parametrize("number", ["1" + 400 * "0", "1e400", "-1e400"])
def test_a_number_that_no_float_is_is_named(client, service, mortality, number):
    def answers(value):
        body = json.dumps(value).replace('"number"', number)
        service.answers_bytes(body.encode(), "application/json")

    answers(mortality | {"prediction": {"value": "number"}})
    with pytest.raises(UnreadableAnswer, match=r"prediction\.value is .*, not a number up to 1.8e"):
        client.predict("mortality", text="note")
    answers({"items": [{"problem": {"status": "number", "code": "no", "title": "No"}}]})
    with pytest.raises(UnreadableAnswer, match=r"items\[0\]\.problem\.status is "):
        list(client.predict_many("mortality", [{"text": "note"}]))


def test_a_problem_is_told_whole(client, service, problem):
    service.answers(problem, status=422)
    with pytest.raises(InvalidRequest) as caught:
        client.predict("mortality", tabular={"age": "old"})
    error = caught.value
    assert (error.status, error.code, error.detail) == (422, "wrong_type", "must be a number")
    assert (error.field, error.seen, error.accepted) == ("tabular.age", "old", "18 to 120 years")
    assert (error.request_id, error.retry_after) == ("r-2", None)
    assert error.issues == (
        Issue(
            code="unknown_field", field="tabular.aeg", seen=3, action="dropped", detail="", raw={}
        ),
    )
    assert error.raw == problem
    assert str(error) == (
        "tabular.age: must be a number; seen 'old'; accepted: 18 to 120 years"
        " (422 wrong_type, request r-2)"
    )


def test_an_answer_of_a_model_that_abstains(client, service, mortality):
    reason = "mortality needs text; usable: tabular"
    service.answers(mortality | {"status": "abstained", "prediction": None, "reason": reason})
    answer = client.predict("mortality", tabular={"age": 71})
    assert (answer.abstained, answer.reason) == (True, reason)
    assert (answer.label, answer.probability, answer.value) == (None, None, None)
    assert (answer.probabilities, answer.prediction_set, answer.interval) == ({}, (), None)
    assert reason in display.prediction(answer)
    service.answers(mortality)
    assert (client.predict("mortality", text="a").abstained) is False


def test_an_embedding(client, service, mortality):
    said = {n: each for n, each in mortality.items() if n not in ("prediction", "timing_ms")}
    service.answers(said | {"embedding": [0.6, -0.8]})
    answer = client.embed("mortality", id="stay-17", text="note", tabular={"age": 71})
    assert (service.last.path, service.last.json["text"]) == ("/embed/mortality", "note")
    assert (answer.id, answer.vector) == ("stay-17", (0.6, -0.8))
    assert answer.modalities.used == ("text", "timeseries")
    assert answer.issues[0].code == "out_of_range"


def test_many_cases_are_predictions_and_problems_in_order(client, service, mortality, problem):
    items = [{"index": 0, "answer": mortality}, {"index": 1, "problem": problem}]
    service.answers({"items": items, "request_id": "r-1"})
    cases = ({"text": f"note {k}", "image": b"\x89PNG\r\n\x1a\n"} for k in range(4))
    found = list(client.predict_many("mortality", cases, explain=True, at_once=2))
    assert [type(each) for each in found] == [Prediction, InvalidRequest] * 2
    assert (found[1].field, found[1].status, found[1].request_id) == ("tabular.age", 422, "r-2")
    first, second = service.received
    assert (first.path, first.query) == ("/predict/mortality/batch", {"explain": ["true"]})
    assert [each["text"] for each in first.json + second.json] == [f"note {k}" for k in range(4)]
    assert first.json[0]["image"] == ["iVBORw0KGgo="]


@pytest.mark.parametrize("at_once", [1, 3])
async def test_a_case_that_cannot_be_sent_does_not_stop_the_others(
    client, service, mortality, at_once
):
    def answer(received):
        return 200, {
            "items": [{"answer": mortality | {"id": each["id"]}} for each in received.json]
        }

    service.answer = answer
    for bad, field in (
        ({"txt": "a"}, "txt"),
        ({"timeseries": "vitals.csv"}, "timeseries"),
        ({"image": ["gone.jpg"]}, "image[0]"),
    ):
        cases = [{"id": "a"}, bad, {"id": "c"}]
        waited = list(client.predict_many("mortality", cases, at_once=at_once))
        async with AsyncClient(service.url) as other:
            many = other.predict_many("mortality", cases, at_once=at_once)
            awaited = [each async for each in many]
        for first, failed, last in (waited, awaited):
            assert (first.id, last.id) == ("a", "c")
            assert isinstance(failed, InvalidInput)
            assert failed.field == f"cases[1].{field}"


def test_a_number_of_cases_at_once_that_is_none_is_refused(client):
    with pytest.raises(InvalidInput, match="at_once"):
        next(client.predict_many("mortality", [{}], at_once=0))


@pytest.mark.parametrize("number", [0, 1, 3])
def test_answers_that_are_not_as_many_as_the_cases_are_nobodys(client, service, mortality, number):
    items = [{"index": i, "answer": mortality} for i in range(number)]
    service.answers({"items": items, "request_id": "r-1"})
    with pytest.raises(UnreadableAnswer, match=f"there are {number} items, not 2"):
        next(client.predict_many("mortality", [{"text": "a"}, {"text": "b"}]))
