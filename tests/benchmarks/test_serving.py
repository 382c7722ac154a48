"""The benchmark of serving: its workload is as said, and every figure is there; none is judged."""

import base64
import json
import sys

import numpy as np
import pytest

from benchmarks.serving import an_hour_later, main, picture, workload
from lanistr.bundle import Bundle
from lanistr.modalities import Modality
from service.settings import DEMO_BUNDLES


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(DEMO_BUNDLES / "mortality")


def test_pictures_are_as_large_as_those_of_the_plan():
    sizes = [len(picture(np.random.default_rng(seed))) for seed in range(5)]
    assert 20_000 < min(sizes) < max(sizes) < 60_000


def test_the_workload_is_the_same_for_a_seed_and_lacks_what_it_should(bundle):
    records = workload(bundle, 100, seed=0)
    assert json.dumps(records) == json.dumps(workload(bundle, 100, seed=0))
    lacking = [len(Modality) - len(each) for each in records]
    assert set(lacking) == {0, 1, 2}
    assert 0.25 < lacking.count(0) / 100 < 0.55
    notes = [len(each["text"].split()) for each in records if "text" in each]
    assert 60 <= min(notes) < max(notes) <= 400
    assert base64.b64decode(next(each["image"] for each in records if "image" in each))


def test_a_case_an_hour_later_differs_in_its_series_alone(bundle):
    record = next(each for each in workload(bundle, 20, seed=0) if len(each) == len(Modality))
    later = [an_hour_later(record, number) for number in (1, 2)]
    assert later[0]["timeseries"] != later[1]["timeseries"]
    assert {name: each for name, each in later[0].items() if name != "timeseries"} == {
        name: each for name, each in record.items() if name != "timeseries"
    }
    assert an_hour_later({"text": "a"}, 1) == {"text": "a"}


def test_every_server_answers_everything(monkeypatch, capsys):
    words = ["--precision", "int8", "--clients", "2", "--cases", "4", "--requests", "8"]
    monkeypatch.setattr(sys, "argv", ["benchmarks.serving", *words])
    main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["server"] for row in found["rows"]] == ["raw", "naive", "lanistr", "cached"]
    for row in found["rows"]:
        assert row["failed"] == 0
        assert row["rate"] > 0
        assert 0 < row["p50"] <= row["p99"]
