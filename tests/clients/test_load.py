"""A load says how many answers a second there were, when, and what came instead of others."""

import json
from functools import partial

import numpy as np
import pytest

from clients import Client, InvalidInput, UnreadableAnswer
from clients.load import Load, cases_of
from tests import forked


@pytest.fixture
def detail():
    return {
        "name": "rating",
        "model": {"name": "m", "version": "v1", "demo": False},
        "precision": "fp32",
        "modalities": ["text"],
        "label": {"kind": "regression"},
        "examples": [{"title": "a", "record": {"text": "an example"}}],
    }


@pytest.fixture
def rating(service, detail):
    """Answers every third case with a refusal."""

    def answer(received):
        if received.method == "GET":
            return 200, detail
        if len(service.received) % 3 == 0:
            return 503, {"title": "No", "code": "too_busy", "status": 503}
        return 200, {}

    service.answer = answer
    return service


run = partial(forked.run, "clients", "load", "rating")


def test_every_answer_and_refusal_counts_once(rating):
    done = run("--url", rating.url, "--concurrency", 4, "--seconds", 0.5, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    posted = [each for each in rating.received if each.method == "POST"]
    assert found["requests"] == len(posted) > 4
    refused = found["failures"].pop("503 too_busy")
    assert found["failures"] == {}
    assert found["rate"] * found["seconds"] == pytest.approx(found["requests"] - refused)
    assert 0 < found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"] <= found["p100_ms"]
    assert {each.body for each in posted} == {b'{"text":"an example"}'}


def test_in_words_and_with_cases_of_a_table(rating, tmp_path):
    (tmp_path / "cases.csv").write_text("letter\nfirst\nsecond\n")
    words = ["--input", tmp_path / "cases.csv", "--column", "text=letter"]
    done = run("--url", rating.url, "--concurrency", 2, "--seconds", 0.3, *words)
    assert done.returncode == 0, done.stderr
    rate, percentiles, refusals = done.stdout.splitlines()
    assert " answers a second with 2 clients, over " in rate
    assert " requests: p50 " in percentiles
    assert refusals.startswith("  503 too_busy: ")
    posted = {each.body for each in rating.received if each.method == "POST"}
    assert posted == {b'{"text":"first"}', b'{"text":"second"}'}


def test_a_table_is_read_as_score_reads_it(rating, detail, tmp_path):
    detail["modalities"].append("tabular")
    detail["tabular"] = {"fields": {"age": {"kind": "number", "unit": "years"}}}
    (tmp_path / "cases.csv").write_text("text;age\nmüde;71,5\nwach;k.A.\n", encoding="cp1252")
    words = ["--encoding", "cp1252", "--decimal", ",", "--missing", "k.A."]
    words += ["--input", tmp_path / "cases.csv", "--json"]
    done = run("--url", rating.url, "--concurrency", 1, "--seconds", 0.3, *words)
    assert done.returncode == 0, done.stderr
    posted = [each.json for each in rating.received if each.method == "POST"]
    assert {"text": "müde", "tabular": {"age": 71.5}} in posted
    assert {"text": "wach"} in posted


def test_a_table_without_rows_is_no_load(rating, tmp_path):
    (tmp_path / "cases.csv").write_text("text\n")
    with Client(rating.url) as client, pytest.raises(InvalidInput, match="has no rows"):
        cases_of(client, "rating", tmp_path / "cases.csv")


def test_a_row_that_cannot_be_sent_is_left_out_and_named(rating, tmp_path):
    (tmp_path / "cases.csv").write_text("id,text\n1,first\n2\n3,third\n")
    words = ["--input", tmp_path / "cases.csv", "--json"]
    done = run("--url", rating.url, "--concurrency", 1, "--seconds", 0.3, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("rows that cannot be sent: 1; the first: row: has 1 cells")
    posted = {each.json["id"] for each in rating.received if each.method == "POST"}
    assert posted == {"1", "3"}


def test_a_picture_that_is_not_there_leaves_out_its_row(rating, detail, tmp_path):
    detail["modalities"].append("image")
    (tmp_path / "cases.csv").write_text("text,image\nfirst,\nsecond,gone.jpg\n")
    with Client(rating.url) as client:
        assert cases_of(client, "rating", tmp_path / "cases.csv") == [b'{"text":"first"}']
        (tmp_path / "cases.csv").write_text("text,image\nsecond,gone.jpg\n")
        with pytest.raises(InvalidInput, match=r"gone\.jpg: No such file"):
            cases_of(client, "rating", tmp_path / "cases.csv")


@pytest.mark.parametrize("words", [["--concurrency", 0], ["--seconds", 0], ["--seconds", "nan"]])
def test_no_clients_and_no_time_are_refused(rating, words):
    done = run("--url", rating.url, *words)
    assert done.returncode == 2
    assert "accepted: more than 0" in done.stderr


def test_every_client_asks_once_at_the_least(rating):
    done = run("--url", rating.url, "--concurrency", 2, "--seconds", 1e-9, "--json")
    assert json.loads(done.stdout)["requests"] == 2, done.stderr


@pytest.mark.parametrize(("status", "code"), [(401, 2), (503, 1)])
def test_a_load_without_one_good_answer_is_an_error(service, detail, status, code):
    def answer(received):
        if received.method == "GET":
            return 200, detail
        return status, {"title": "Not now", "code": "refused", "status": status}

    service.answer = answer
    done = run("--url", service.url, "--concurrency", 2, "--seconds", 0.2)
    assert done.returncode == code
    assert f"  {status} refused: " in done.stdout
    assert done.stderr.startswith(f"error: Not now ({status} refused")


@pytest.mark.parametrize(
    ("examples", "error", "words"),
    [
        ([], InvalidInput, "input: rating has no examples; accepted: a table"),
        (None, UnreadableAnswer, "examples is 'None', not a list"),
        ([{"title": "a"}], UnreadableAnswer, r"examples\[0\]\.record is missing"),
    ],
)
def test_a_task_without_examples_says_so(rating, detail, examples, error, words):
    detail["examples"] = examples
    with Client(rating.url) as client, pytest.raises(error, match=words):
        cases_of(client, "rating")


def test_a_percentile_lies_between_two_answers():
    latencies = [0.5, 0.1, 0.4, 0.2, 0.9]
    load = Load(1.0, latencies, [200] * 5)
    for share in (0, 12, 50, 99, 100):
        assert load.percentile(share) == pytest.approx(np.percentile(latencies, share))
