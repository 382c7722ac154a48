"""Synthetic records: the form that users have, the same for the same seed."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lanistr.errors import ConfigError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess import read_record
from lanistr.sample import Quantity, Sample, to_record
from lanistr.tasks import find_task
from training.prepare.synthetic import MAKERS, SyntheticOptions, draw

TASKS = sorted(MAKERS)


def drawn(task: str, **options: Any) -> list[Sample]:
    return list(draw(task, SyntheticOptions.model_validate(options)))


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_makes_the_same_records_whatever_their_number(task: str):
    assert drawn(task, samples=12, seed=4) == drawn(task, samples=30, seed=4)[:12]


@pytest.mark.parametrize("task", TASKS)
def test_another_seed_makes_other_records(task: str):
    one, other = drawn(task, samples=5, seed=1), drawn(task, samples=5, seed=2)
    assert [each.parts for each in one] != [each.parts for each in other]


@pytest.mark.parametrize("task", TASKS)
def test_neither_missing_parts_nor_missing_labels_change_what_is_there(task: str):
    whole = drawn(task, samples=20, missing=0)
    for before, after in zip(whole, drawn(task, samples=20, missing=0.5), strict=True):
        assert {m: before.parts[m] for m in after.parts} == after.parts
        assert before.label == after.label
    for before, after in zip(whole, drawn(task, samples=20, missing=0, unlabelled=1), strict=True):
        assert before.parts == after.parts
        assert after.label is None


@pytest.mark.parametrize("task", TASKS)
def test_records_can_be_sent_as_they_are(task: str):
    spec = find_task(task)
    for sample in drawn(task, samples=20):
        log = IssueLog()
        assert read_record(to_record(sample), spec, log).parts == sample.parts
        assert not log.issues
        assert spec.label.encode(sample.label) >= 0


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("missing", [0.3, 1.0])
def test_parts_are_missing_as_often_as_asked_but_one_always_stays(task: str, missing: float):
    cases = drawn(task, samples=100, missing=missing)
    modalities = find_task(task).modalities
    assert all(case.parts for case in cases)
    shares = [np.mean([m not in case.parts for case in cases]) for m in modalities]
    if missing < 1:
        assert shares == pytest.approx([missing] * len(modalities), abs=0.08)
    else:
        assert {len(case.parts) for case in cases} == {1}
        assert {next(iter(case.parts)) for case in cases} == set(modalities)


def test_each_modality_may_be_missing_as_often_as_in_the_data_it_stands_for():
    cases = drawn("rating", samples=150, missing={"image": 0.95, "tabular": 0.3})
    shares = [np.mean([m not in case.parts for case in cases]) for m in Modality][:3]
    assert shares == pytest.approx([0, 0.95, 0.3], abs=0.06)


def test_a_modality_that_a_task_has_not_cannot_be_missing():
    with pytest.raises(ConfigError) as caught:
        drawn("rating", samples=1, missing={"timeseries": 0.1})
    assert caught.value.field == "missing"
    assert caught.value.accepted == "one of text, image, tabular"


@pytest.mark.parametrize("task", TASKS)
def test_every_class_occurs_and_names_are_distinct(task: str):
    cases = drawn(task, samples=40)
    assert {case.label for case in cases} == set(find_task(task).label.classes)
    assert len({case.id for case in cases}) == 40


def test_stays_look_like_charts():
    cases = drawn("mortality", samples=60, missing=0)
    rows = [row for case in cases for row in case.parts[Modality.TIMESERIES]]
    assert all(0 <= row.hours <= 48 for row in rows)
    temperatures = [row.values["temperature"] for row in rows if "temperature" in row.values]
    assert any(isinstance(each, Quantity) and each.unit == "degF" for each in temperatures)
    assert any(isinstance(each, float) for each in temperatures)
    inspired = [row.values["fio2"] for row in rows if "fio2" in row.values]
    numbers = [each for each in inspired if isinstance(each, int | float)]
    assert min(numbers) <= 1 < 20 <= max(numbers)  # as fraction and as percent
    assert any(10_000 in row.values.values() for row in rows)  # a slip of the pen
    measured = np.mean(["heart_rate" in row.values for row in rows])
    assert 0.9 < measured < 1
    order = [row.hours for row in cases[0].parts[Modality.TIMESERIES]]
    assert order != sorted(order)


def test_reviews_of_one_product_stand_in_one_group():
    cases = drawn("rating", samples=60, missing=0)
    for case in cases:
        assert case.parts[Modality.TABULAR].get("asin", case.group) == case.group
    assert len({case.group for case in cases}) < 60


@pytest.mark.parametrize("task", TASKS)
def test_pictures_are_real_jpeg_files(task: str):
    for case in drawn(task, samples=3, missing=0):
        for data in case.parts[Modality.IMAGE]:
            with Image.open(io.BytesIO(data)) as picture:
                assert picture.format == "JPEG"
                assert min(picture.size) >= 64


def test_a_task_without_a_generator_is_answered_with_those_that_have_one():
    with pytest.raises(ConfigError, match="did you mean 'mortality'"):
        drawn("mortalty")
