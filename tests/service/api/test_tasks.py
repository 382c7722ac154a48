"""What the service says of its tasks."""

import numpy as np
import pytest

from lanistr.calibration import Calibration
from lanistr.tasks import LabelSpec
from service.api.tasks import _calibration


def test_the_tasks_are_listed(client):
    tasks = client.get("/tasks").json()["tasks"]
    assert [each["name"] for each in tasks] == ["mortality", "rating"]
    assert tasks[1]["modalities"] == ["text", "image", "tabular"]
    assert all(each["title"] and each["model"]["demo"] for each in tasks)


def test_a_task_shows_fields_units_ranges_and_card(client, bundles):
    task = client.get("/tasks/mortality").json()
    assert task["label"]["classes"] == ["survived", "died"]
    assert task["timeseries"]["horizon_hours"] == 48
    temperature = task["timeseries"]["variables"]["temperature"]
    assert (temperature["unit"], temperature["range"]) == ("degC", [26, 45])
    assert "degF" in temperature["units"]
    assert task["tabular"]["fields"]["gender"]["categories"] == ["F", "M"]
    manifest = bundles["mortality"].manifest
    assert task["model"]["version"] == manifest.version
    assert task["metrics"] == manifest.metrics
    fitted = bundles["mortality"].calibration
    assert task["calibration"]["temperature"] == fitted.temperature
    everyone = {"cases": len(fitted.scores), "most_coverage": pytest.approx(400 / 401, abs=1e-6)}
    assert task["calibration"]["scores"][0] == everyone
    assert task["minimum"] == []
    assert task["card"] == bundles["mortality"].card()
    assert "timeseries" not in client.get("/tasks/rating").json()


def test_the_coverage_that_scores_are_said_to_suffice_for_is_one_they_suffice_for():
    days = LabelSpec(kind="regression", name="days", unit="days")
    for n in range(50, 301):
        fitted = Calibration(scores=(0.5,) * 1000, by_pattern={"text": (0.5,) * n})
        _, text = _calibration(fitted).scores
        assert n / (n + 1) - 1e-6 < text.most_coverage <= n / (n + 1)
        basis = fitted.predict(np.zeros(1), days, text.most_coverage, "text").basis
        assert basis is not None
        assert (basis.cases, basis.pattern) == (n, "text")


@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("/tasks?verison=zz", "none"),
        ("/tasks/rating?verison=zz", "did you mean 'version'"),
        ("/tasks/rating?version=a&version=b", "one value"),
        ("/v2/models/rating?version=zz", "none"),
        ("/v2/models/rating/ready?version=zz", "none"),
    ],
)
def test_a_parameter_that_nobody_would_read_is_refused(client, address, accepted):
    answer = client.get(address)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "bad_parameter")
    assert problem["field"] in ("version", "verison")
    assert accepted in problem["accepted"]


@pytest.mark.parametrize("name", ["mortality", "rating"])
def test_the_examples_of_a_task_can_be_sent_as_they_are(client, name):
    task = client.get(f"/tasks/{name}").json()
    used = []
    for example in task["examples"]:
        answer = client.post(f"/predict/{name}", json=example["record"])
        assert answer.status_code == 200
        assert bool(answer.json()["issues"]) == (example["title"] == "With mistakes")
        used.append(answer.json()["modalities"]["used"])
    assert used[0] == task["modalities"]
    assert min(len(each) for each in used) == 1


def test_an_unknown_task(client):
    answer = client.get("/tasks/ratings")
    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown_task"
    assert "did you mean 'rating'?" in answer.json()["accepted"]
