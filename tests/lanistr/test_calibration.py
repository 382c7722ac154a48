"""Calibration: a temperature that is the best one, sets and intervals that cover."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanistr.calibration import Basis, Calibration, _rank, softmax
from lanistr.tasks import LabelSpec, TaskSpec

TWO = LabelSpec(kind="binary", name="whether", classes=("no", "yes"))
THREE = LabelSpec(kind="multiclass", name="which", classes=("a", "b", "c"))
DAYS = LabelSpec(kind="regression", name="days", unit="days")


def drawn(rng: np.random.Generator, n: int, scale: float, classes: int = 3):
    """Draw logits and classes that follow them, then misstate the logits by `scale`."""
    true = rng.normal(0, 2, (n, classes))
    p = softmax(true)
    truth = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return true * scale, truth.astype(np.float64)


def likelihood(logits: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    p = softmax(logits / temperature)
    return -float(np.log(p[np.arange(len(p)), truth.astype(int)]).mean())


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_the_temperature_has_the_least_negative_log_likelihood(scale: float):
    logits, truth = drawn(np.random.default_rng(0), 2000, scale)
    found = Calibration.fit(logits, truth, THREE).temperature
    best = likelihood(logits, truth, found)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        assert likelihood(logits, truth, found * factor) > best
    assert found == pytest.approx(scale, rel=0.1)  # what was misstated is put right


def test_of_cases_that_are_all_right_a_class_is_as_sure_as_so_many_of_it_allow():
    logits = np.eye(3) * 5
    fitted = Calibration.fit(logits, np.arange(3.0), THREE)
    assert softmax(logits / fitted.temperature).max(axis=1) == pytest.approx(2 / 3)
    assert all(math.isfinite(each) for each in fitted.scores)
    # Of the other two classes there is none: they have the rest alike.
    fitted = Calibration.fit(np.tile(logits[:1], (30, 1)), np.zeros(30), THREE)
    said = fitted.predict(logits[0], THREE).probabilities
    assert said == pytest.approx({"a": 31 / 32, "b": 1 / 64, "c": 1 / 64})


def test_the_temperature_of_cases_that_are_all_right_is_near_that_of_all_but_one():
    # Nothing tells of the rare class that it is rarer than one in a thousand.
    logits = np.random.default_rng(0).normal([1.0, -1.0], 0.2, (1000, 2))
    truth = np.zeros(1000)
    right = Calibration.fit(logits, truth, TWO).temperature
    truth[0] = 1
    assert right == pytest.approx(Calibration.fit(logits, truth, TWO).temperature, rel=0.01)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_case_that_is_wrong_by_a_hair_makes_no_model_surer(classes: int):
    label = TWO if classes == 2 else THREE
    truth = np.arange(60.0) % classes
    logits = np.eye(classes)[truth.astype(int)]
    logits += np.random.default_rng(0).uniform(-0.2, 0.2, logits.shape)
    found = []
    for margin in (1e-9, -1e-9, -0.02, -0.5, -1, -3):  # the last is one that tells more
        logits[0, 0] = logits[0, 1:].max() + margin
        found.append(Calibration.fit(logits, truth, label).temperature)
    assert found[0] == pytest.approx(found[1], rel=0.01)
    assert found[1:] == sorted(found[1:])
    assert found[-1] > found[1]


@pytest.mark.parametrize(("coverage", "most"), [(0.7, 0.8), (0.9, 0.92)])
def test_sets_cover_the_truth_as_often_as_they_promise(coverage: float, most: float):
    # More than promised where the set would be empty: the likeliest class always stands in it.
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(30):
        logits, truth = drawn(rng, 200, 2.0)
        fitted = Calibration.fit(logits, truth, THREE)
        new, answers = drawn(rng, 200, 2.0)
        sets = [fitted.predict(each, THREE, coverage).set or () for each in new]
        hits = [THREE.classes[int(a)] in each for a, each in zip(answers, sets, strict=True)]
        shares.append(np.mean(hits))
    assert coverage - 0.01 < np.mean(shares) < most


def test_intervals_cover_the_truth_as_often_as_they_promise():
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(40):
        outputs = rng.normal(size=(99, 1))
        fitted = Calibration.fit(outputs, outputs[:, 0] + rng.normal(size=99), DAYS)
        assert fitted.temperature == 1
        hits = []
        for value in rng.normal(size=100):
            low, high = fitted.predict(np.array([value]), DAYS, 0.9).interval or (0, 0)
            assert (low + high) / 2 == pytest.approx(value)
            hits.append(low <= value + rng.normal() <= high)
        shares.append(np.mean(hits))
    assert 0.89 < np.mean(shares) < 0.92


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_intervals_are_as_wide_whatever_the_unit_is(unit: float):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=500)
    outputs = (truth + rng.normal(size=500) / 10)[:, None]
    plain = Calibration.fit(outputs, truth, DAYS)
    scaled = Calibration.fit(outputs * unit, truth * unit, DAYS)
    assert np.divide(scaled.scores, unit) == pytest.approx(plain.scores, rel=1e-5)


def test_without_held_out_cases_nothing_is_promised():
    fresh = Calibration()
    assert fresh.predict(np.array([0.0, 1.0, 2.0]), THREE).set is None
    assert fresh.predict(np.array([3.0]), DAYS).interval is None


def test_with_too_few_held_out_cases_the_set_holds_every_class_and_no_interval_is_given():
    few = Calibration(scores=(0.1, 0.2))
    assert few.predict(np.array([9.0, 0.0, 0.0]), THREE, 0.9).set == THREE.classes
    assert few.predict(np.array([9.0]), DAYS, 0.9).interval is None


@given(
    st.lists(st.floats(-20, 20), min_size=5, max_size=5),
    st.lists(st.floats(0, 1), min_size=1, max_size=20).map(sorted),
    st.floats(0.05, 100),
)
def test_the_set_of_an_order_has_no_gap_and_holds_the_likeliest(
    logits: list[float], scores: list[float], temperature: float
):
    stars = LabelSpec(kind="ordinal", name="stars", classes=tuple("12345"), values=(1, 2, 3, 4, 5))
    fitted = Calibration(temperature=temperature, scores=tuple(scores))
    said = fitted.predict(np.array(logits), stars, 0.8)
    assert said.set
    assert "".join(said.set) in "12345"
    assert said.label in said.set
    assert said.probabilities is not None
    assert sum(said.probabilities.values()) == pytest.approx(1)
    assert 1 <= (said.expected or 0) <= 5


def test_an_order_fills_the_gap_between_two_likely_ends(rating: TaskSpec):
    fitted = Calibration(scores=(0.6,) * 20)
    assert fitted.predict(np.array([3.0, -9, -9, -9, 3.0]), rating.label).set == tuple("12345")


def test_a_binary_answer_gives_the_second_class_its_probability(mortality: TaskSpec):
    said = Calibration(temperature=2.0).predict(np.array([0.0, 2.0]), mortality.label)
    p = 1 / (1 + math.exp(-1))
    assert said.label == "died"
    assert said.probability == pytest.approx(p)
    assert said.probabilities == pytest.approx({"survived": 1 - p, "died": p})
    assert (said.expected, said.value) == (None, None)


def test_what_is_explained_is_log_odds_expected_value_or_the_value(
    mortality: TaskSpec, rating: TaskSpec
):
    calibration = Calibration(temperature=2.0)
    binary = calibration.explained(np.array([[0.0, 2.0], [4.0, 0.0]]), mortality.label, chosen=0)
    assert binary == pytest.approx([1.0, -2.0])  # of death, whatever was chosen
    even = calibration.explained(np.zeros(5), rating.label, chosen=4)
    assert even == pytest.approx(3.0)
    assert calibration.explained(np.zeros(3), THREE, chosen=2) == pytest.approx(math.log(0.5))
    assert Calibration().explained(np.array([[7.0]]), DAYS, chosen=0).tolist() == [7.0]


def test_certainty_beyond_floating_point_is_explained_by_finite_log_odds(mortality: TaskSpec):
    odds = Calibration().explained(np.array([-1e4, 1e4]), mortality.label, chosen=1)
    assert math.isfinite(odds)


def test_calibration_survives_the_way_through_json():
    fitted = Calibration.fit(*drawn(np.random.default_rng(3), 50, 1.0), THREE)
    assert Calibration.model_validate_json(fitted.model_dump_json()) == fitted
    assert list(fitted.scores) == sorted(fitted.scores)


def test_softmax_does_not_overflow():
    assert softmax(np.array([1e4, 0.0, -1e4])).tolist() == [1.0, 0.0, 0.0]


STEPS = LabelSpec(kind="ordinal", name="step", classes=("a", "b", "c"), values=(1, 2, 3))
TWO = LabelSpec(kind="binary", name="which", classes=("a", "b"))


@pytest.mark.parametrize("label", [TWO, THREE, STEPS, DAYS], ids=lambda label: label.kind)
def test_covering_many_cases_is_what_the_answers_say_one_by_one(label: LabelSpec):
    rng = np.random.default_rng(7)
    outputs, targets = rng.normal(0, 2, (200, label.outputs)), rng.integers(label.outputs, size=200)
    fitted = Calibration.fit(outputs[:100], targets[:100], label)
    for coverage in (0.5, 0.9):
        found = fitted.covers(outputs[100:], targets[100:], label, coverage)
        assert found is not None
        for output, target, covered, size in zip(outputs[100:], targets[100:], *found, strict=True):
            answer = fitted.predict(output, label, coverage)
            if label.kind == "regression":
                assert answer.interval
                low, high = answer.interval
                assert (covered, size) == (low <= target <= high, pytest.approx(high - low))
            else:
                members = answer.set or ()
                assert (covered, size) == (label.classes[target] in members, len(members))


def test_where_no_set_or_interval_is_given_none_is_counted():
    assert Calibration().covers(np.zeros((2, 3)), np.zeros(2), THREE) is None
    few = Calibration.fit(np.zeros((3, 1)), np.arange(3.0), DAYS)
    assert few.covers(np.zeros((2, 1)), np.zeros(2), DAYS) is None


# ---- by what cases bring ------------------------------------------------------------------------


def two_kinds(rng: np.random.Generator, n: int):
    """Draw cases of which those with a note are told apart well, those with a picture badly."""
    logits, truth = drawn(rng, n, 1.0)
    patterns = np.where(rng.random(n) < 0.7, "text", "image")
    guessed = rng.integers(3, size=n).astype(float)
    return logits, np.where(patterns == "text", truth, guessed), patterns


def test_sets_cover_cases_of_each_pattern_that_has_scores_of_its_own():
    rng = np.random.default_rng(11)
    apart, together = [], []
    for _ in range(20):
        fitted = Calibration.fit(*two_kinds(rng, 600)[:2], THREE)
        grouped = Calibration.fit(*(held := two_kinds(rng, 600))[:2], THREE, held[2])
        logits, truth, patterns = two_kinds(rng, 600)
        hard = patterns == "image"
        for found, into in ((fitted, together), (grouped, apart)):
            covered, _ = found.covers(logits, truth, THREE, 0.8, patterns) or ((), ())
            into.append(np.mean(np.asarray(covered)[hard]))
    assert np.mean(together) < 0.75  # the others make up for what these are denied
    assert 0.79 < np.mean(apart) < 0.85


def test_a_pattern_of_few_cases_goes_by_the_scores_of_all():
    rng = np.random.default_rng(12)
    outputs = rng.normal(size=(150, 1))
    patterns = ["text"] * 100 + ["text+image"] * 50
    patterns[0] = "image"
    fitted = Calibration.fit(outputs, np.zeros(150), DAYS, patterns)
    assert {name: len(scores) for name, scores in fitted.by_pattern.items()} == {
        "text": 99,
        "text+image": 50,
    }
    said = {
        (pattern, coverage): fitted.predict(np.zeros(1), DAYS, coverage, pattern).basis
        for pattern in ("text", "text+image", "image", "")
        for coverage in (0.9, 0.985)
    }
    assert said["text", 0.9] == Basis(0.9, 99, "text")
    assert said["text+image", 0.9] == Basis(0.9, 50, "text+image")
    for others in ("image", ""):
        assert said[others, 0.9] == Basis(0.9, 150)
    # Fifty scores know nothing of 98.5%, a hundred and fifty do.
    assert said["text+image", 0.985] == Basis(0.985, 150)
    assert fitted.most_coverage("text+image") < 0.985 < fitted.most_coverage()
    assert Calibration().most_coverage() == 0


def test_covering_by_pattern_is_what_the_answers_say_one_by_one():
    rng = np.random.default_rng(13)
    logits, truth, patterns = two_kinds(rng, 400)
    fitted = Calibration.fit(logits[:200], truth[:200], THREE, patterns[:200])
    assert set(fitted.by_pattern) == {"text", "image"}
    found = fitted.covers(logits[200:], truth[200:], THREE, 0.8, patterns[200:])
    assert found is not None
    for k, (covered, size) in enumerate(zip(*found, strict=True), start=200):
        members = fitted.predict(logits[k], THREE, 0.8, patterns[k]).set or ()
        assert (covered, size) == (THREE.classes[int(truth[k])] in members, len(members))


def test_more_coverage_never_gives_a_smaller_set_also_where_scores_of_all_take_over():
    hard = Calibration(scores=(0.1,) * 150, by_pattern={"image": (0.5,) * 60})
    widths = []
    for coverage in (0.5, 0.9, 0.98, 0.99, 0.999):
        interval = hard.predict(np.zeros(1), DAYS, coverage, "image").interval
        widths.append(math.inf if interval is None else interval[1])
    assert widths == [0.5, 0.5, 0.5, 0.5, math.inf]
    assert hard.predict(np.zeros(1), DAYS, 0.99).interval == (-0.1, 0.1)


def test_a_file_without_patterns_is_read():
    old = Calibration.model_validate_json('{"temperature": 1.5, "scores": [0.1, 0.2, 0.3]}')
    assert old.predict(np.zeros(3), THREE, 0.5, "text").basis == Basis(0.5, 3)


def test_the_interval_of_an_order_are_the_values_at_the_ends_of_its_set(rating: TaskSpec):
    fitted = Calibration(scores=(0.9,) * 20)
    said = fitted.predict(np.array([-9.0, -9, 2, 1, -9]), rating.label)
    assert (said.set, said.interval) == (("3", "4"), (3, 4))
    assert Calibration().predict(np.zeros(5), rating.label).interval is None


@pytest.mark.parametrize("label", [TWO, STEPS, DAYS], ids=lambda label: label.kind)
@given(seed=st.integers(0, 1000))
def test_cases_of_one_score_are_within_it(label: LabelSpec, seed: int):
    rng = np.random.default_rng(seed)
    outputs = np.repeat(rng.normal(size=(1, label.outputs)), 100, axis=0).astype(np.float32)
    truth = np.arange(100) % (2 if label.kind == "regression" else label.outputs)
    found = Calibration.fit(outputs, truth.astype(np.float32), label)
    covered = found.covers(outputs, truth.astype(np.float32), label, 0.9)
    assert covered is not None
    assert covered[0].mean() >= 0.9


def test_cases_that_bring_nothing_do_not_stand_for_all():
    outputs, truth = np.zeros((200, 2)), np.arange(200) % 2
    patterns = ["text"] * 100 + [""] * 100
    found = Calibration.fit(outputs, truth, TWO, patterns)
    assert set(found.by_pattern) == {"text"}
    basis = found.predict(outputs[0], TWO).basis
    assert basis is not None
    assert basis.cases == 200


def test_a_share_of_cases_is_that_many():
    scores = tuple(np.arange(1, 100) / 100)
    for coverage in (0.55, 0.57, 0.29, 0.9):
        inside = Calibration(temperature=1, scores=scores).predict(np.zeros(2), TWO, coverage)
        assert inside.basis is not None
        assert _rank(99, coverage) == round(100 * coverage)


def test_the_least_coverage_gives_the_smallest_set():
    fitted = Calibration(scores=(0.1, 0.2, 0.9))
    for coverage in (1e-3, 1e-13, 5e-324):
        assert fitted.predict(np.array([9.0]), DAYS, coverage).interval == (8.9, 9.1)
