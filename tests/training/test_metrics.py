"""Figures against values worked out by hand."""

import numpy as np
import pytest
from sklearn import metrics

from lanistr.calibration import softmax
from lanistr.errors import DataError, TaskError
from lanistr.tasks import METRICS, LabelSpec, find_task
from training.bootstrap import bootstrap, draws
from training.metrics import (
    DEFINITIONS,
    check_metric,
    higher_is_better,
    known,
    log_odds,
    measure,
    shown,
    weighted,
)

DEATH = find_task("mortality").label
STARS = find_task("rating").label
DAYS = LabelSpec(kind="regression", name="days")
KINDS = LabelSpec(kind="multiclass", name="kind", classes=("a", "b", "c"))


def outputs(*probabilities: object) -> np.ndarray:
    """Logits whose softmax are these probabilities."""
    return np.log(np.asarray(probabilities, dtype=np.float64))


def deaths(*probabilities: float) -> np.ndarray:
    return outputs(*[(1 - p, p) for p in probabilities])


def alone(cases: int) -> np.ndarray:
    """The patients of so many cases, each of its own."""
    return np.array([f"patient {number}" for number in range(cases)])


def test_binary_figures() -> None:
    found = measure(deaths(0.9, 0.6, 0.4, 0.2), np.array([1, 0, 1, 0]), DEATH)
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx(0.5)
    assert found["auroc"] == pytest.approx(3 / 4)  # of four pairs one is in the wrong order
    assert found["auprc"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.04) / 4)
    # Confidences .9 (right), .6 (wrong), .6 (wrong), .8 (right), in bins of 1/15.
    assert found["ece"] == pytest.approx(0.25 * 0.1 + 0.5 * 0.6 + 0.25 * 0.2)


def test_the_order_of_equal_scores_does_not_count() -> None:
    assert measure(deaths(0.3, 0.3), np.array([0, 1]), DEATH)["auroc"] == 0.5


def test_a_temperature_leaves_ranks_alone_where_probabilities_are_one() -> None:
    logits = np.array([[0, 3.0], [0, 2.0], [0, 1.0], [0, -1.0]])
    truth = np.array([1, 0, 1, 0])
    whole = measure(logits, truth, DEATH)
    sharp = measure(logits / 0.01, truth, DEATH)
    assert (softmax(logits / 0.01)[:3, 1] == 1).all()
    assert whole["auroc"] == sharp["auroc"] == 3 / 4
    assert whole["auprc"] == sharp["auprc"] == pytest.approx((1 + 2 / 3) / 2)


def test_log_odds_are_those_of_a_class_against_the_others() -> None:
    p = np.array([(0.2, 0.3, 0.5), (0.7, 0.2, 0.1)])
    for code in range(3):
        expected = np.log(p[:, code] / (1 - p[:, code]))
        assert log_odds(outputs(*p), code) == pytest.approx(expected)


def test_ordinal_figures() -> None:
    p = [(0, 0, 0, 0, 1), (0, 0, 0.5, 0, 0.5), (1, 0, 0, 0, 0), (0, 0.6, 0.4, 0, 0)]
    p = [[max(each, 1e-12) for each in row] for row in p]
    truth = np.array([4, 4, 1, 1])
    found = measure(outputs(*p), truth, STARS)
    # The most likely labels are 5, 3 (the first of equals), 1, 2 stars.
    assert found["accuracy"] == 0.5
    # Expected stars are 5, 4, 1, 2.4.
    assert found["mae"] == pytest.approx((0 + 1 + 1 + 0.4) / 4)
    # Squared distances (0, 4, 1, 0); by chance, of guesses {5, 3, 1, 2} and truths {5, 5, 2, 2}:
    # ((0 + 9) + (4 + 1) + (16 + 1) + (9 + 0)) / 8 a case.
    assert found["quadratic_kappa"] == pytest.approx(1 - (5 / 4) / (40 / 8))
    squares = (0, 2 * 0.25, 2, 0.16 + 0.16)
    assert found["brier"] == pytest.approx(sum(squares) / 4)
    assert set(found) == {"accuracy", "macro_f1", "brier", "ece", "mae", "quadratic_kappa"}


def test_multiclass_figures() -> None:
    p = [(0.7, 0.2, 0.1), (0.1, 0.8, 0.1), (0.2, 0.5, 0.3)]
    found = measure(outputs(*p), np.array([0, 1, 2]), KINDS)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert set(found) == {"accuracy", "macro_f1", "brier", "ece"}


def test_regression_figures() -> None:
    found = measure(np.array([[1.0], [5.0]]), np.array([2.0, 2.0]), DAYS)
    assert found == {"mae": pytest.approx(2), "rmse": pytest.approx(np.sqrt(5))}


def test_a_calibrated_model_has_no_calibration_error() -> None:
    sure = deaths(*[0.75] * 4)
    assert measure(sure, np.array([1, 1, 1, 0]), DEATH)["ece"] == pytest.approx(0)
    assert measure(sure, np.array([0, 0, 0, 0]), DEATH)["ece"] == pytest.approx(0.75)
    certain = deaths(*[1 - 1e-12] * 2)  # the last bin takes confidence 1
    assert measure(certain, np.array([1, 0]), DEATH)["ece"] == pytest.approx(0.5)


# ---- against the library's definitions, and against counting cases several times ----------------


@pytest.mark.parametrize("label", [DEATH, STARS, KINDS], ids=lambda label: label.kind)
@pytest.mark.parametrize("step", [2**-40, 2**-3], ids=["distinct", "ties"])
def test_figures_are_those_of_scikit_learn(label: LabelSpec, step: float) -> None:
    rng = np.random.default_rng(3)
    classes = label.outputs
    for cases in (2, 7, 400):
        truth = rng.integers(classes, size=cases)
        truth[:2] = 0, 1
        logits = rng.normal(size=(cases, classes)) + 1.5 * np.eye(classes)[truth]
        logits = np.round(logits / step) * step  # whose differences are exact
        found, p = measure(logits, truth, label), softmax(logits)
        guess = p.argmax(axis=1)
        expected = {
            "accuracy": metrics.accuracy_score(truth, guess),
            "macro_f1": metrics.f1_score(truth, guess, average="macro", zero_division=0.0),
        }
        if label.kind == "binary":
            expected["brier"] = metrics.brier_score_loss(truth, p[:, 1])
            expected["auroc"] = metrics.roc_auc_score(truth, p[:, 1])
            expected["auprc"] = metrics.average_precision_score(truth, p[:, 1])
        if label.kind == "ordinal":
            expected["quadratic_kappa"] = metrics.cohen_kappa_score(
                truth, guess, labels=list(range(classes)), weights="quadratic"
            )
        assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("label", [DEATH, STARS, KINDS, DAYS], ids=lambda label: label.kind)
def test_a_case_that_counts_thrice_is_three_cases(label: LabelSpec) -> None:
    rng = np.random.default_rng(4)
    targets = rng.integers(label.outputs + 1, size=50).clip(max=max(1, label.outputs - 1))
    logits = rng.normal(size=(50, label.outputs)).round(1)
    times = rng.integers(4, size=(5, 50))  # some cases never, some often; not as many in all
    found = weighted(logits, targets, label)(times.astype(np.float64))
    for draw, counts in enumerate(times):
        rows = np.repeat(np.arange(50), counts)
        expected = measure(logits[rows], targets[rows], label)
        assert {n: v[draw] for n, v in found.items()} == pytest.approx(expected, nan_ok=True)


# ---- what cases do not determine ----------------------------------------------------------------


@pytest.mark.parametrize("truth", [0, 1])
def test_one_class_alone_has_no_auroc(truth: int) -> None:
    found = measure(deaths(0.4, 0.7), np.array([truth, truth]), DEATH)
    assert [known(found[name]) for name in ("auroc", "auprc")] == [None, None]
    assert known(found["brier"]) is not None


def test_one_class_that_is_always_guessed_has_no_kappa() -> None:
    p = (0.1, 0.1, 0.6, 0.1, 0.1)
    assert known(measure(outputs(p, p), np.array([2, 2]), STARS)["quadratic_kappa"]) is None


def test_intervals_enclose_the_figure_are_the_same_again_and_pass_over_what_is_not_known() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=60)
    logits = deaths(*np.clip(0.25 + 0.5 * truth + 0.3 * rng.normal(size=60), 0.05, 0.95))
    found, intervals = measure(logits, truth, DEATH), bootstrap(logits, truth, DEATH, alone(60))
    assert intervals == bootstrap(logits, truth, DEATH, alone(60))
    for name, (low, high) in intervals.items():
        assert low < high
        if name != "ece":  # resampling adds to it: the figure is biased upwards
            assert low <= found[name] <= high
    few = bootstrap(
        logits[:2], np.array([0, 1]), DEATH, alone(2), rounds=20
    )  # some draws have one class
    assert np.isfinite(few["auroc"]).all()
    none = bootstrap(logits[:2], np.array([1, 1]), DEATH, alone(2), rounds=20)
    assert np.isnan(none["auroc"]).all()


@pytest.mark.parametrize("cases", [1, 2])
def test_one_patient_alone_has_no_interval(cases: int) -> None:
    logits, truth = deaths(*[0.4, 0.7][:cases]), np.array([1, 0][:cases])
    found = bootstrap(logits, truth, DEATH, np.full(cases, "Ann"))
    assert set(found) == set(measure(logits, truth, DEATH))
    assert np.isnan(list(found.values())).all()


def test_patients_are_drawn_with_all_of_their_cases() -> None:
    groups = np.array(["Ann", "Ben", "Ann", "Cid", "Ann"])
    (drawn,) = draws(groups, rounds=200)
    assert (drawn[:, [0, 0]] == drawn[:, [2, 4]]).all()
    assert (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert {0, 1, 2, 3} == set(drawn[:, 1])


def test_cases_that_say_the_same_again_make_no_interval_narrower() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(2, size=40)
    logits = deaths(*np.clip(0.3 + 0.3 * truth + 0.2 * rng.normal(size=40), 0.05, 0.95))
    thrice = np.repeat(logits, 3, axis=0), np.repeat(truth, 3)
    once = bootstrap(logits, truth, DEATH, alone(40))
    of_patients = bootstrap(*thrice, DEATH, np.repeat(alone(40), 3))
    assert of_patients["brier"] == pytest.approx(once["brier"])
    assert of_patients["auroc"] == pytest.approx(once["auroc"])
    low, high = bootstrap(*thrice, DEATH, alone(120))["brier"]
    assert high - low < 0.8 * (once["brier"][1] - once["brier"][0])


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        low, high = bootstrap(
            rng.normal(size=(60, 1)), np.zeros(60), DAYS, alone(60), rounds=200, seed=seed
        )["rmse"]  # fmt: skip
        hits += low <= 1 <= high
    assert 0.85 < hits / 200 < 0.99


def test_every_round_is_drawn_whatever_fits_into_memory_at_once() -> None:
    for cases in (3, 1000, 400_000):
        rounds = list(draws(alone(cases), rounds=3, seed=1))
        assert sum(len(each) for each in rounds) == 3
        assert all((each.sum(axis=1) == cases).all() for each in rounds)


def test_a_metric_that_cannot_be_had_is_refused_before_training() -> None:
    check_metric("auroc", np.array([0.0, 1.0]), DEATH)
    check_metric("mae", np.array([3.0]), DAYS)
    check_metric("quadratic_kappa", np.array([3.0, 1.0]), STARS)
    with pytest.raises(DataError, match="validation split does not determine") as caught:
        check_metric("auroc", np.array([1.0, 1.0]), DEATH)
    assert "--seed" in str(caught.value)
    with pytest.raises(TaskError, match="not a metric of regression labels"):
        check_metric("auroc", np.array([1.0, 2.0]), DAYS)


def test_a_task_may_name_what_can_be_had_of_its_kind_of_label() -> None:
    named = {each for kind in METRICS.values() for each in kind}
    for label in (DEATH, STARS, KINDS, DAYS):
        found = measure(np.eye(2, label.outputs), np.array([0, 1]), label)
        assert set(METRICS[label.kind]) == named & found.keys()


def test_errors_are_better_small() -> None:
    assert [higher_is_better(name) for name in ("auroc", "accuracy", "mae", "rmse")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_every_figure_is_explained() -> None:
    for label in (DEATH, STARS, KINDS, DAYS):
        targets = np.array([0, 1])
        assert set(measure(np.eye(2, label.outputs), targets, label)) <= set(DEFINITIONS)


def test_a_figure_that_is_not_zero_is_not_shown_as_zero() -> None:
    assert [shown(each) for each in (0.12345, 0.0, 0.001, 0.000213, -3e-6)] == [
        "0.123", "0.000", "0.001", "0.00021", "-3e-06",
    ]  # fmt: skip
    assert shown(0.81234, 4) == "0.8123"
    assert [shown(each, sign="+") for each in (0.12345, 0.000213, -3e-6)] == [
        "+0.123", "+0.00021", "-3e-06",
    ]  # fmt: skip
