"""Samples: to a record and back."""

import json
import pickle

import pytest

from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess import read_record
from lanistr.sample import Items, Measurements, Quantity, Sample, paths_of, to_record
from lanistr.tasks import TaskSpec


@pytest.mark.parametrize("which", ["stays", "reviews"])
def test_a_record_made_of_a_sample_is_read_as_the_same_sample(
    which: str, mortality: TaskSpec, rating: TaskSpec, request: pytest.FixtureRequest
):
    task = {"stays": mortality, "reviews": rating}[which]
    for sample in request.getfixturevalue(which):
        log = IssueLog()
        again = read_record(to_record(sample), task, log)
        assert (again.parts, again.id, log.issues) == (sample.parts, sample.id, ())


def test_all_but_the_pictures_survives_json(mortality: TaskSpec, stays: list[Sample]):
    for sample in stays:
        parts = {m: part for m, part in sample.parts.items() if m != "image"}
        if parts:
            text = json.dumps(to_record(Sample(parts, id=sample.id)), allow_nan=False)
            assert read_record(json.loads(text), mortality, IssueLog()).parts == parts


def test_a_record_looks_like_what_a_user_sends():
    sample = Sample(
        {
            Modality.TEXT: ("one", "two"),
            Modality.TABULAR: {"age": 71},
            Modality.TIMESERIES: (Measurements(0.5, {"temperature": Quantity(101.2, "degF")}),),
        },
        id="stay-17",
        label="died",
    )
    assert to_record(sample) == {
        "id": "stay-17",
        "text": ["one", "two"],
        "tabular": {"age": 71},
        "timeseries": [{"hours": 0.5, "temperature": {"value": 101.2, "unit": "degF"}}],
    }


def test_a_sample_without_a_name_makes_a_record_without_one():
    assert to_record(Sample({Modality.TEXT: ("a",)})) == {"text": ["a"]}


def test_items_know_their_places_and_are_a_tuple_to_everything_else():
    items = Items(["a", "b"], ["text[1]", "text[4]"])
    assert items == ("a", "b")
    assert paths_of(items, "text") == ("text[1]", "text[4]")
    assert paths_of(pickle.loads(pickle.dumps(items)), "text") == ("text[1]", "text[4]")
    assert paths_of(("a", "b"), "text") == ["text[0]", "text[1]"]
    assert paths_of(("a",), "text") == ["text"]
