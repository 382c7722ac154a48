"""A model of our own, from records to a service: it answers what the model in torch computes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from lanistr.batch import collate
from lanistr.calibration import softmax
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from lanistr.preprocess import read_record
from lanistr.sample import to_record
from tests.servers import running
from training.prepare.synthetic import SyntheticOptions, draw
from training.run import Run

pytest_plugins = ("tests.fixtures_runs",)

SUBSETS = [subset for size in (1, 2, 3, 4) for subset in combinations(Modality, size)]


@contextmanager
def served(bundle: Path, log: Path, *options: str) -> Iterator[httpx.Client]:
    with (
        running(log, "--bundles", str(bundle), *options) as started,
        httpx.Client(base_url=started.url, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def server(stays_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("server") / "log"
    with served(stays_bundle, log, "--precision", "fp32") as client:
        yield client


@pytest.fixture(scope="module")
def stay() -> dict[str, Any]:
    """A stay that training never saw, with two notes and two pictures."""
    wanted = SyntheticOptions(samples=60, missing=0, seed=77)
    cases = [to_record(sample) for sample in draw("mortality", wanted)]
    two_notes = next(case for case in cases if len(case["text"]) == 2)
    return two_notes | {"image": [*two_notes["image"], *cases[0]["image"]]}


@pytest.fixture(scope="module")
def model_says(stays_finetuned: Path) -> Any:
    run = Run.open(stays_finetuned)
    model = from_pretrained(run.model_folder, Lanistr)
    preprocessor = run.preprocessor()

    def probabilities(record: dict[str, Any]) -> np.ndarray:
        log = IssueLog()
        features = preprocessor.apply(read_record(record, run.task, log), log)
        with torch.inference_mode():
            output = model(to_tensors(collate([features]))).logits[0].numpy()
        return softmax(output / run.calibration().temperature)

    return probabilities


def as_form(record: dict[str, Any]) -> list[tuple[str, tuple[str | None, bytes | str, str]]]:
    """Lay a record out as a browser would."""
    form: list[tuple[str, tuple[str | None, bytes | str, str]]] = []
    for note in record.get("text", ()):
        form.append(("text", (None, note, "text/plain")))
    for picture in record.get("image", ()):
        form.append(("image", ("chest.jpg", picture, "image/jpeg")))
    for name in ("tabular", "timeseries"):
        if name in record:
            form.append((name, (f"{name}.json", json.dumps(record[name]), "application/json")))
    return form


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_the_service_answers_what_the_model_computes(
    subset: tuple[Modality, ...], server: httpx.Client, stay: dict[str, Any], model_says: Any
) -> None:
    record = {name: part for name, part in stay.items() if name in subset}
    answer = server.post("/predict/mortality", files=as_form(record))
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["modalities"]["used"] == list(subset)
    expected = model_says(record)
    assert list(said["prediction"]["probabilities"].values()) == pytest.approx(expected, abs=1e-4)


def test_the_answers_to_different_parts_differ(server: httpx.Client, stay: dict[str, Any]) -> None:
    answers = [
        server.post(
            "/predict/mortality", files=as_form({n: p for n, p in stay.items() if n in subset})
        ).json()["prediction"]["probability"]
        for subset in SUBSETS
    ]
    assert len({round(each, 6) for each in answers}) > 10


def test_answers_in_int8_are_close(
    server: httpx.Client, stays_bundle: Path, stay: dict[str, Any], tmp_path: Path
) -> None:
    with served(stays_bundle, tmp_path / "log", "--precision", "int8") as reduced:
        precisions = [
            each.get("/tasks/mortality").json()["precision"] for each in (server, reduced)
        ]
        assert precisions == ["fp32", "int8"]
        differences = []
        for subset in SUBSETS:
            record = {name: part for name, part in stay.items() if name in subset}
            whole, close = (
                each.post("/predict/mortality", files=as_form(record)).json()
                for each in (server, reduced)
            )
            assert close["modalities"] == whole["modalities"]
            assert close["model"] == whole["model"]
            died = (each["prediction"]["probabilities"]["died"] for each in (whole, close))
            differences.append(abs(next(died) - next(died)))
    assert 0 < max(differences) < 0.05
