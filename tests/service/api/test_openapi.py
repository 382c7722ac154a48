"""The documentation: a page that needs no internet, and a valid document."""

import re

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
