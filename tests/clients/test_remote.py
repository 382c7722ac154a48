"""A table is scored by a service in lists; what a list is refused for is found in it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clients import (
    Client,
    InvalidInput,
    InvalidRequest,
    ServerError,
    TooBusy,
    UnreadableAnswer,
    remote,
)
from clients.tables import open_table

DETAIL = {
    "name": "rating",
    "model": {"name": "m", "version": "v1", "demo": False},
    "precision": "fp32",
    "modalities": ["text", "tabular"],
    "label": {"kind": "multiclass", "classes": ["bad", "good"]},
    "tabular": {"fields": {"votes": {"kind": "number"}}},
}


def answer_to(case):
    return {
        "id": case.get("id"),
        "task": "rating",
        "model": DETAIL["model"],
        "prediction": {"label": "good", "probabilities": {"bad": 0.25, "good": 0.75}},
        "modalities": {"used": ["text"], "missing": ["tabular"]},
        "issues": [],
        "request_id": "r",
        "timing_ms": {},
    }


def problem(status, code):
    return {"title": "No", "detail": f"it is {code}", "status": status, "code": code}


class Rating:
    """Answers lists of cases as a service would; some texts are refused, in one way or another."""

    def __init__(self):
        self.lists = []
        self.busy = 0

    def __call__(self, received):
        if received.method == "GET":
            return 200, DETAIL
        cases = json.loads(received.body)
        self.lists.append(len(cases))
        texts = [each.get("text") for each in cases]
        for status in (400, 401, 413, 422, 500, 504):
            if any(text == f"all {status}" for text in texts):
                return status, problem(status, "bad")
        return 200, {"items": [self.item(i, each) for i, each in enumerate(cases)]}

    def item(self, index, case):
        if case.get("text") == "bad":
            return {"index": index, "problem": problem(422, "wrong_type")}
        if case.get("text") == "busy" and self.busy:
            self.busy -= 1
            return {"index": index, "problem": problem(503, "runner_lost")}
        return {"index": index, "answer": answer_to(case)}


@pytest.fixture
def rating(service):
    service.answer = Rating()
    return service.answer


@pytest.fixture
def score(service, tmp_path):
    """Score texts; return the rows."""

    def run(*texts, retry_seconds=0, **options):
        cohort = tmp_path / "cohort.jsonl"
        cases = [{"id": f"case-{i}", "text": text} for i, text in enumerate(texts)]
        cohort.write_text("".join(json.dumps(each) + "\n" for each in cases))
        with Client(service.url, retry_seconds=retry_seconds) as client:
            client.score("rating", cohort, tmp_path / "scored.jsonl", **options)
        table = open_table(tmp_path / "scored.jsonl")
        return list(table.read(0, ()))

    return run


def test_rows_come_in_order_however_many_requests_are_on_their_way(rating, score):
    rows = score(*map(str, range(100)), at_once=7, connections=3)
    assert [row["id"] for row in rows] == [f"case-{i}" for i in range(100)]
    assert sorted(rating.lists) == [2] + [7] * 14
    assert rows[0] == {
        "id": "case-0", "status": "predicted", "label": "good", "set": None,
        "probabilities.bad": 0.25, "probabilities.good": 0.75, "parts": "text", "issues": [],
        "error": None,
    }  # fmt: skip


def test_a_column_may_be_called_what_is_no_unicode(rating, service, tmp_path):
    rows, output = tmp_path / "t.jsonl", tmp_path / "scored.jsonl"
    rows.write_text(r'{"half \ud800": "a", "other \udfff": 1}')
    with Client(service.url) as client:
        for before in (0, 1):
            found = client.score("rating", rows, output, columns={"text": "half \ud800"})
            assert (found.rows, found.failed, found.before) == (1, 0, before)
    about = json.loads((tmp_path / "scored.jsonl.json").read_bytes())
    assert (about["columns"], about["unused"]) == ({"text": ["half \ud800"]}, {"other \udfff": ""})


def more_cases(table):
    with table.open("a") as file:
        file.write('{"text": "c"}\n')


def other_cases(table):
    table.with_name("other").write_text('{"text": "c"}\n{"text": "d"}\n')
    table.with_name("other").replace(table)


@pytest.mark.parametrize("change", [more_cases, other_cases, Path.unlink])
def test_a_table_that_changes_while_it_is_scored_is_refused(rating, service, tmp_path, change):
    table, output = tmp_path / "t.jsonl", tmp_path / "scored.jsonl"
    table.write_text('{"text": "a"}\n{"text": "b"}\n')

    def answer(received):
        if received.method == "POST" and table.exists():
            change(table)
        return rating(received)

    service.answer = answer
    with Client(service.url) as client:
        with pytest.raises(InvalidInput, match=r"input: .*t\.jsonl was changed while"):
            client.score("rating", table, output)
        assert not output.exists()
        service.answer = rating
        table.write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n')
        with pytest.raises(InvalidInput, match="was made with other input"):
            client.score("rating", table, output)


@pytest.mark.parametrize("ends", [False, True])
def test_a_table_that_was_written_and_put_back_has_no_row_of_what_it_was_meanwhile(
    rating, service, tmp_path, ends
):
    table, output = tmp_path / "t.jsonl", tmp_path / "scored.jsonl"
    case = json.dumps({"text": "fit", "padding": "x" * 100_000}) + "\n"  # read as it is needed
    table.write_text(case * 30)

    def answer(received):
        if received.method == "POST" and len(rating.lists) == 3:
            with table.open("r+") as file:
                file.write(case.replace("fit", "bad") * 30)
        if ends and len(rating.lists) == 12:
            return 401, problem(401, "no_key")
        return rating(received)

    service.answer = answer
    with Client(service.url) as client:
        with pytest.raises(InvalidInput, match="was changed while"):
            client.score("rating", table, output, at_once=1, connections=1)
        service.answer = rating
        table.write_text(case * 30)
        found = client.score("rating", table, output)
    assert 0 < found.before < found.rows == 30
    assert found.failed == 0


def test_all_are_asked_of_the_version_that_there_was_at_first(rating, score, service):
    score("a", "b", at_once=1, explain=True, coverage=0.8)
    asked = [each.query for each in service.received if each.method == "POST"]
    assert asked == [{"explain": ["true"], "coverage": ["0.8"], "version": ["v1"]}] * 2


def test_requests_are_no_larger_than_the_service_takes(rating, score):
    score(*["x" * 1_500_000] * 5)
    assert sorted(rating.lists) == [1, 2, 2]


def test_a_case_with_a_problem_has_it_in_its_row(rating, score):
    good, bad, empty = score("a", "bad", None)
    assert (good["status"], bad["status"]) == ("predicted", "failed")
    assert bad["error"] == "it is wrong_type (wrong_type)"
    assert (bad["id"], bad["label"], bad["issues"]) == ("case-1", None, [])
    assert empty["status"] == "predicted"  # that nothing is there is the service's to say


@pytest.mark.parametrize("status", [400, 413, 422])
def test_of_a_list_that_is_refused_only_the_case_that_is_to_blame_fails(rating, score, status):
    rows = score(*"abcde", f"all {status}", *"ghijk", at_once=11)
    assert [row["status"] == "failed" for row in rows] == [i == 5 for i in range(11)]
    assert rows[5]["error"] == "it is bad (bad)"


def test_the_guide_says_what_is_asked_again_in_halves():
    page = (Path(__file__).resolve().parents[2] / "docs" / "clients.md").read_text("utf-8")
    told = re.search(r"refused as a whole \(([\d, ]+)\) in half", page)
    assert told
    assert set(map(int, told[1].split(", "))) == remote._SMALLER


@pytest.mark.parametrize(("status", "kind"), [(401, InvalidRequest), (500, ServerError)])
def test_what_no_case_is_to_blame_for_ends_the_run(rating, score, status, kind):
    with pytest.raises(kind):
        score("a", f"all {status}", at_once=2)
    assert rating.lists == [2]


def test_a_case_that_is_not_answered_in_time_even_alone_ends_the_run(rating, score):
    with pytest.raises(ServerError):
        score("a", "all 504", at_once=2)
    assert rating.lists == [2, 1, 1]


def test_cases_that_it_was_too_busy_for_are_asked_again(rating, score):
    rating.busy = 1
    rows = score("a", "busy", "c", retry_seconds=30)
    assert [row["status"] for row in rows] == ["predicted"] * 3
    assert rating.lists == [3, 1]


def test_who_has_no_patience_leaves_it_to_the_next_time(rating, score):
    rating.busy = 1
    with pytest.raises(TooBusy):
        score("a", "busy", at_once=1, connections=1)
    rows = score("a", "busy", at_once=1, connections=1)
    assert [row["status"] for row in rows] == ["predicted"] * 2
    assert rating.lists == [1, 1, 1]


@pytest.mark.parametrize("more", [-1, 1])
def test_answers_that_are_not_as_many_as_the_cases_end_the_run(rating, score, service, more):
    def answer(received):
        status, found = rating(received)
        if "items" in found:
            found["items"] = (found["items"] * 2)[: len(found["items"]) + more]
        return status, found

    service.answer = answer
    with pytest.raises(UnreadableAnswer, match=f"there are {3 + more} items, not 3"):
        score("a", "b", "c")


@pytest.mark.parametrize("options", [{"at_once": 0}, {"connections": 0}])
def test_no_cases_at_a_time_are_refused(rating, score, options):
    with pytest.raises(InvalidInput, match="1 or more"):
        score("a", **options)


# ---- interrupted --------------------------------------------------------------------------------


def interrupted(service, folder, asked):
    """Interrupt a command once the service was asked so often; return it as it ended."""
    (folder / "cohort.jsonl").write_text("".join(f'{{"text": "{each}"}}\n' for each in "abc"))
    words = ["--input", folder / "cohort.jsonl", "--output", folder / "scored.jsonl"]
    words += ["--at-once", 1, "--connections", 2, "--url", service.url]
    process = subprocess.Popen(
        [sys.executable, "-m", "clients", "score", "rating", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(service.received) < asked:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    return process.returncode, said.splitlines()[-1]


def test_who_interrupts_does_not_wait_for_answers_that_are_on_their_way(rating, service, tmp_path):
    def answer(received):
        if received.method == "POST" and received.json != [{"text": "a"}]:
            service.released.wait(30)
        return rating(received)

    service.answer = answer
    assert interrupted(service, tmp_path, asked=4) == (130, "interrupted")
    with Client(service.url) as client:
        service.answer = rating
        found = client.score("rating", tmp_path / "cohort.jsonl", tmp_path / "scored.jsonl")
    assert (found.before, found.rows) == (1, 3)


def test_who_interrupts_does_not_wait_until_a_busy_service_would_be_asked_again(
    rating, service, tmp_path
):
    def answer(received):
        busy = 503, problem(503, "too_busy"), {"Retry-After": "20"}
        return rating(received) if received.method == "GET" else busy

    service.answer = answer
    assert interrupted(service, tmp_path, asked=3) == (130, "interrupted")
