"""The fused embedding: a direction, the same however the case is asked about."""

import base64
import json

import numpy as np
import pytest

from lanistr.issues import IssueLog
from lanistr.preprocess import read_record
from service.engine.backends.onnx import OnnxBackend
from service.settings import Settings


def embed(client, task="mortality", **request):
    answer = client.post(f"/embed/{task}", **request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_embedding_has_length_one_and_says_what_it_rests_on(client, stay, bundles):
    answer = embed(client, json=stay | {"id": "stay-17"})
    assert set(answer) == {
        "id", "task", "model", "embedding", "modalities", "issues", "request_id", "timing_ms",
    }  # fmt: skip
    assert (answer["id"], answer["task"]) == ("stay-17", "mortality")
    assert answer["modalities"] == {
        "used": ["text", "tabular", "timeseries"],
        "missing": ["image"],
    }
    vector = np.array(answer["embedding"])
    assert vector.shape == (bundles["mortality"].manifest.width,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_it_is_what_fusion_returns(client, bundles):
    """Worked out with the bundle's own graphs."""
    bundle, log = bundles["mortality"], IssueLog()
    features = bundle.preprocessor.apply(
        read_record({"tabular": {"age": 71}}, bundle.task, log), log
    )
    backend = OnnxBackend(bundle, "cpu", "auto", Settings().threads)
    (row,) = features.rows["tabular"]
    tokens = backend.encode("tabular", {name: array[None] for name, array in row.items()})
    _, (expected,) = backend.fuse([tokens])
    found = np.array(embed(client, json={"tabular": {"age": 71}})["embedding"])
    assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


def test_a_form_equals_json_and_another_case_is_another_point(client, picture):
    image = picture()
    record = {"text": "Fits well", "image": base64.b64encode(image).decode()}
    form = {"text": (None, "Fits well"), "image": ("shirt.png", image)}
    as_json = embed(client, "rating", json=record)["embedding"]
    assert embed(client, "rating", files=form)["embedding"] == as_json
    assert embed(client, "rating", json={"text": "Torn at once"})["embedding"] != as_json


def test_what_cannot_be_used_is_refused_as_by_a_prediction(client):
    for request in ({"json": {}}, {"json": {"tabular": {"agee": 1}}}, {"content": b"{"}):
        said = [
            client.post(f"/{verb}/mortality", **request).json() for verb in ("embed", "predict")
        ]
        for each in said:
            del each["request_id"]
        assert said[0] == said[1]
    answer = client.post("/embed/mortality", content=json.dumps({"text": "a"}))
    assert answer.json()["code"] == "unsupported_media_type"
