"""The documentation: a page that needs no internet, and a valid document."""

import json
import re

import httpx
import jsonschema_rs
import pytest
from fastapi.openapi.models import OpenAPI

from service.api.problems import STATUS


@pytest.fixture
def document(client):
    return client.get("/openapi.json").json()


def test_the_page_brings_its_own_scripts(client):
    page = client.get("/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) >= 3
    for address in addresses:
        assert address.startswith("/")
        assert client.get(address).status_code == 200
    assert client.get("/redoc").status_code == 200


def test_the_document_is_valid(document):
    OpenAPI.model_validate(document)
    schemas = document["components"]["schemas"]
    references = set(re.findall(r"'\$ref': '([^']+)'", str(document)))
    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in schemas
    names = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(names) == len(set(names))


def test_every_task_has_its_own_address_and_fields(document):
    assert "/predict/{task}" not in document["paths"]
    for name in ("mortality", "rating"):
        for path, media_types in {
            f"/predict/{name}": {"application/json", "multipart/form-data"},
            f"/predict/{name}/batch": {"application/json"},
            f"/predict/{name}/stream": {"application/x-ndjson"},
            f"/embed/{name}": {"application/json", "multipart/form-data"},
        }.items():
            operation = document["paths"][path]["post"]
            content = operation["requestBody"]["content"]
            assert set(content) == media_types
            assert all(each.get("example") for each in content.values() if "encoding" not in each)
            asked = {each["name"] for each in operation["parameters"]}
            usual = set() if path.startswith("/embed") else {"explain", "coverage"}
            assert asked == usual | {"version", "X-Request-Timeout-Ms"}
            problems = {str(status) for status, _ in STATUS.values()} - {"405"}
            assert set(operation["responses"]) == {"200"} | problems
            for status in problems:
                found = operation["responses"][status]["content"]
                assert set(found) == {"application/problem+json"}


def test_fields_stand_with_units_and_ranges(document):
    content = document["paths"]["/predict/mortality"]["post"]["requestBody"]["content"]
    reference = content["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/mortality_record"
    parts = document["components"]["schemas"]["mortality_record"]["properties"]
    row = parts["tabular"]["anyOf"][0]["properties"]
    assert set(row) >= {"age", "gender", "care_unit"}
    series = parts["timeseries"]["anyOf"][0]["items"]
    temperature = series["properties"]["temperature"]
    assert temperature["x-unit"] == "degC"
    assert temperature["x-range"] == [26, 45]
    assert "degF" in temperature["x-units"]
    assert "26 to 45" in temperature["description"]
    assert series["required"] == ["hours"]


def test_what_only_a_running_service_knows_is_told(document, client):
    versions = {each["model"]["version"] for each in client.get("/tasks").json()["tasks"]}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            asked = {each["name"]: each for each in operation.get("parameters", ())}
            if "{" in path:
                name = asked.get("name") or asked["task"]
                assert name["schema"]["enum"] == ["mortality", "rating"]
            if "version" in asked:
                assert asked["version"]["example"] in versions


def test_inference_by_the_protocol_is_told_as_fully_as_by_our_own_addresses(document, client):
    ours = document["paths"]["/predict/mortality"]["post"]
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        operation = document["paths"][path]["post"]
        assert set(operation["responses"]) == set(ours["responses"])
        asked = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        assert asked == {"X-Request-Timeout-Ms", "Inference-Header-Content-Length"}
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/v2/models/mortality/infer", json=example).status_code == 200


@pytest.fixture
def documented(document):
    """Check an answer: nothing is missing, nothing is there of which the document knows nothing."""
    schemas = document["components"]["schemas"]
    closed = {
        name: schema | ({"additionalProperties": False} if "properties" in schema else {})
        for name, schema in schemas.items()
    }

    def check(path: str, answer: httpx.Response, media_type: str) -> None:
        said = document["paths"][path]["post"]["responses"][str(answer.status_code)]["content"]
        assert answer.headers["content-type"] == media_type
        schema = said[media_type]["schema"] | {"components": {"schemas": closed}}
        for line in answer.text.splitlines():
            jsonschema_rs.validate(schema, json.loads(line))

    return check


@pytest.mark.parametrize("query", ["", "?explain=true&coverage=0.5"])
@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_what_is_answered_is_as_documented(client, documented, stay, task, query):
    odd = {"tabular": {"age": 700, "care_unit": "nowhere"}, "timeseries": stay["timeseries"]}
    records = {"mortality": [stay, odd, {}], "rating": [{"id": "r", "text": "good"}, {"text": 1}]}
    for record in records[task]:
        answer = client.post(f"/predict/{task}{query}", json=record)
        good = answer.status_code == 200
        media_type = "application/json" if good else "application/problem+json"
        documented(f"/predict/{task}", answer, media_type)
    answer = client.post(f"/predict/{task}/batch{query}", json=records[task])
    documented(f"/predict/{task}/batch", answer, "application/json")
    answer = client.post(
        f"/predict/{task}/stream{query}",
        content="\n".join(map(json.dumps, records[task])),
        headers={"Content-Type": "application/x-ndjson"},
    )
    documented(f"/predict/{task}/stream", answer, "application/x-ndjson")
    answer = client.post(f"/embed/{task}", json=records[task][0])
    documented(f"/embed/{task}", answer, "application/json")


def test_what_is_said_of_a_model_that_is_not_ready_is_documented(document):
    for path in ("/v2/models/{name}/ready", "/v2/models/{name}/versions/{version}/ready"):
        said = document["paths"][path]["get"]["responses"]["503"]["content"]["application/json"]
        assert said["schema"]["$ref"].endswith("/ModelReady")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert "4XX" in document["paths"][path]["get"]["responses"]


def test_an_abstention_is_as_documented(strict, documented):
    answer = strict.post("/predict/mortality", json={"tabular": {"age": 71}})
    assert answer.json()["status"] == "abstained"
    documented("/predict/mortality", answer, "application/json")
