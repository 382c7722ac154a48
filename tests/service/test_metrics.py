"""What Prometheus reads after real requests."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.key_file import new_key


@pytest.fixture(scope="module")
def watched(start_server):
    with start_server() as started:
        yield started


def scrape(url: str, **headers: str) -> dict[tuple[str, frozenset], float]:
    answer = httpx.get(f"{url}/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture
def more(watched):
    """How much a metric has grown since the test began."""
    before = scrape(watched.url)

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return scrape(watched.url).get(key, 0.0) - before.get(key, 0.0)

    return grown


def post(watched, record, task="mortality", **query):
    return httpx.post(f"{watched.url}/predict/{task}", json=record, params=query)


def test_requests_by_task_code_and_parts(watched, more, stay):
    assert post(watched, stay).status_code == 200
    assert post(watched, {"text": "good"}, "rating").status_code == 200
    post(watched, {"tabular": {"age": "old"}})
    post(watched, {}, "nothing")
    labels = {"task": "mortality", "status": "200", "code": "ok"}
    assert more("lanistr_requests_total", parts="text+tabular+timeseries", **labels) == 1
    rating = labels | {"task": "rating", "parts": "text"}
    assert more("lanistr_requests_total", **rating) == 1
    nowhere = {"task": "", "status": "404", "code": "unknown_task", "parts": ""}
    assert more("lanistr_requests_total", **nowhere) == 1
    assert more("lanistr_request_seconds_count", task="rating", cases="one") == 1
    assert more("lanistr_cases_total", task="rating", parts="text") == 1


def test_how_long_a_list_takes_is_told_apart_from_how_long_a_case_does(watched, more):
    url = f"{watched.url}/predict/rating/batch"
    assert httpx.post(url, json=[{"text": "good"}, {"text": "bad"}]).status_code == 200
    assert more("lanistr_request_seconds_count", task="rating", cases="several") == 1
    assert httpx.post(url, json=[{"text": 5}, {"text": 6}]).status_code == 200  # none predicted
    assert more("lanistr_request_seconds_count", task="rating", cases="several") == 2
    stream, kind = url.replace("batch", "stream"), {"Content-Type": "application/x-ndjson"}
    assert httpx.post(stream, content=b'{"text": "good"}', headers=kind).status_code == 200
    assert more("lanistr_request_seconds_count", task="rating", cases="several") == 3
    assert more("lanistr_request_seconds_count", task="rating", cases="one") == 0


def test_a_case_of_several_that_fails_is_counted_though_its_request_is_ok(watched, more):
    url = f"{watched.url}/predict/rating"
    wrong = {"task": "rating", "code": "wrong_type"}
    assert httpx.post(f"{url}/batch", json=[{"text": "good"}, {"text": 7}]).status_code == 200
    assert more("lanistr_case_problems_total", **wrong) == 1
    assert httpx.post(f"{url}/batch", json=[{"text": 7}]).status_code == 200
    lines = {"Content-Type": "application/x-ndjson"}
    assert httpx.post(f"{url}/stream", content=b'{"text": 7}\n', headers=lines).status_code == 200
    assert httpx.post(url, json={"text": 7}).status_code == 422  # told by lanistr_requests_total
    assert more("lanistr_case_problems_total", **wrong) == 3
    assert more("lanistr_cases_total", task="rating", parts="text") == 1


def test_every_stage_is_timed(watched, more, stay):
    post(watched, stay | {"text": "a note that nobody sent before"})
    stages = ("parse", "preprocess", "queue", "encode_text", "fusion")
    for stage in stages:
        assert more("lanistr_stage_seconds_count", task="mortality", stage=stage) == 1
    assert more("lanistr_batch_jobs_count", task="mortality") == 1
    assert more("lanistr_batch_rows_count", task="mortality", graph="text") == 1
    text = {"task": "mortality", "graph": "text"}
    assert more("lanistr_batch_tokens_total", kind="used", **text) > 3
    assert more("lanistr_batch_tokens_total", kind="padding", **text) == 0
    now = scrape(watched.url)
    assert now["lanistr_queue_jobs", frozenset({("task", "mortality")})] == 0
    assert now["lanistr_queue_cost_tokens", frozenset({("task", "mortality")})] == 0


def test_the_cache_is_watched(watched, more):
    for _ in range(2):
        post(watched, {"text": "a note that comes again"})
    assert more("lanistr_cache_rows_total", modality="text", outcome="miss") == 1
    assert more("lanistr_cache_rows_total", modality="text", outcome="hit") == 1
    assert more("lanistr_cache_bytes") > 0


def test_what_is_predicted_is_summed_up(watched, more):
    answer = post(watched, {"text": "good"}, "rating").json()["prediction"]
    assert more("lanistr_predicted_label_total", task="rating", label=answer["label"]) == 1
    assert more("lanistr_predicted_value_sum", task="rating") == pytest.approx(answer["expected"])
    post(watched, {"text": "pt intubated"})
    assert more("lanistr_predicted_probability_count", task="mortality") == 1


def test_drift_shows_in_what_is_missing_and_in_how_far_values_lie(watched, more):
    series = [{"hours": h, "heart_rate": 250} for h in (1, 2)]
    record = {"tabular": {"age": 20, "gender": "F"}, "timeseries": series}
    assert post(watched, record).status_code == 200

    def field(name, state):
        return more("lanistr_input_fields_total", task="mortality", field=name, state=state)

    assert field("tabular.age", "present") == 1
    assert field("tabular.gender", "present") == 1
    assert field("tabular.care_unit", "missing") == 1
    assert field("timeseries.heart_rate", "present") == 1
    assert field("timeseries.glucose", "missing") == 1
    far = {"task": "mortality", "field": "timeseries.heart_rate"}
    assert more("lanistr_input_deviation_bucket", le="4.0", **far) == 0
    assert more("lanistr_input_deviation_bucket", le="+Inf", **far) == 1
    young = {"task": "mortality", "field": "tabular.age"}
    assert more("lanistr_input_deviation_bucket", le="-3.0", **young) == 1


def test_issues_are_counted_by_case(watched, more):
    post(watched, {"text": "x", "timeseries": [{"hours": h, "heart_rate": 9999} for h in (1, 2)]})
    kind = {"task": "mortality", "code": "out_of_range", "action": "dropped"}
    assert more("lanistr_case_issues_total", **kind) == 1


def test_an_embedding_is_a_case_answered(watched, more):
    case = {"text": "x", "timeseries": [{"hours": 1, "heart_rate": 9999}]}
    assert httpx.post(f"{watched.url}/embed/mortality", json=case).status_code == 200
    kind = {"task": "mortality", "parts": "text"}
    assert more("lanistr_cases_total", **kind) == 1
    assert more("lanistr_requests_total", status="200", code="ok", **kind) == 1
    issue = {"task": "mortality", "code": "out_of_range", "action": "dropped"}
    assert more("lanistr_case_issues_total", **issue) == 1
    assert more("lanistr_cases_abstained_total", **kind) == 0


def test_a_hostile_client_makes_no_new_series(watched, stay):
    post(watched, stay)
    before = len(scrape(watched.url))
    for i in range(5):
        post(watched, {f"part-{i}": 1})
        post(watched, stay, f"task-{i}")
        httpx.request(f"VERB{i}", f"{watched.url}/path-{i}")
    assert len(scrape(watched.url)) - before < 12  # the codes of what was refused


def test_openmetrics_for_who_asks(watched):
    accept = "application/openmetrics-text; version=1.0.0"
    answer = httpx.get(f"{watched.url}/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain;version=x",
        "application/openmetrics-text;version=abc",
        "application/openmetrics-text; version=1.0.0-rc",
    ],
)
def test_plain_text_for_who_asks_for_a_version_that_is_none(watched, accept):
    assert scrape(watched.url, Accept=accept)


def test_with_keys_metrics_need_one_of_their_own(start_server, tmp_path):
    file = tmp_path / "keys.yaml"
    keys = {name: new_key(name, metrics=name == "prometheus") for name in ("prometheus", "other")}
    file.write_text("\n".join(line for _, line in keys.values()))
    with start_server("--keys", str(file)) as server:
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        scrape(server.url, Authorization=f"Bearer {keys['prometheus'][0]}")
        other = {"Authorization": f"Bearer {keys['other'][0]}"}
        refused = httpx.get(f"{server.url}/metrics", headers=other)
        assert (refused.status_code, refused.json()["code"]) == (403, "out_of_scope")
        asked = httpx.get(f"{server.url}/openapi.json").json()["paths"]["/metrics"]["get"]
        assert "security" not in asked  # as everywhere: with a key
    with start_server("--keys", str(file), "--open-metrics", "true") as server:
        scrape(server.url)
        asked = httpx.get(f"{server.url}/openapi.json").json()["paths"]["/metrics"]["get"]
        assert asked["security"] == []
