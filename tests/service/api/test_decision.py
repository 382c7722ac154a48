"""Of a model that predicts classes for its task's metric: answers, their sets, and the task."""

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from service.settings import DEMO_BUNDLES
from tests.damaged import put

REVIEW = {"text": "Great product, sturdy and well made.", "tabular": {"verified": "true"}}
CUTS = [1.01, 1.02, 1.03, 4.99]


@pytest.fixture(scope="module")
def decided(
    start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """The demo of reviews, but that nearly all of them are said to have four stars."""
    folder = tmp_path_factory.mktemp("decided") / "rating"
    shutil.copytree(DEMO_BUNDLES / "rating", folder)
    fitted = json.loads((folder / "calibration.json").read_text())
    put(folder, "calibration.json", json.dumps(fitted | {"decision": {"cuts": CUTS}}).encode())
    with (
        start_server("--bundles", str(folder)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize("coverage", [0.01, 0.9])
def test_the_label_is_predicted_by_the_decision_and_the_set_has_it(decided, client, coverage):
    ask: dict[str, Any] = {"json": REVIEW, "params": {"coverage": coverage}}
    found, usual = (
        each.post("/predict/rating", **ask).json()["prediction"] for each in (decided, client)
    )
    assert found["probabilities"] == usual["probabilities"]
    assert found["expected"] == usual["expected"]
    assert CUTS[2] <= found["expected"] < CUTS[3]
    assert usual["label"] == max(usual["probabilities"], key=usual["probabilities"].get) != "4"
    assert found["label"] == "4"
    assert "4" in found["set"]


def test_a_task_tells_how_classes_are_predicted(decided, client):
    told = decided.get("/tasks/rating").json()["calibration"]["decision"]
    assert told == {"weights": [], "cuts": CUTS}
    assert client.get("/tasks/mortality").json()["calibration"]["decision"] == {
        "weights": [],
        "cuts": [],
    }
