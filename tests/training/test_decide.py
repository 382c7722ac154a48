"""How a class is predicted is chosen by the task's metric, and holds on cases not chosen by."""

import numpy as np
import pytest

from lanistr.calibration import softmax
from lanistr.decision import LIKELIEST, Decision
from lanistr.tasks import TaskSpec, find_task
from training.bootstrap import resampled
from training.decide import calibrate, validated
from training.metrics import measure


def task_with(metric: str, kind: str = "ordinal") -> TaskSpec:
    task = find_task("rating").model_dump(mode="json") | {"metric": metric}
    if kind == "multiclass":
        task["label"] |= {"kind": kind, "values": ()}
    elif kind == "binary":
        task["label"] |= {"kind": kind, "values": (), "classes": ("bad", "good")}
    return TaskSpec.model_validate(task)


def decide(outputs: np.ndarray, truth: np.ndarray, task: TaskSpec) -> Decision:
    return calibrate(outputs, truth, task).decision


def skewed(
    cases: int, seed: int, classes: int = 5, *, apart: float = 1.0, ahead: float = 2.5
) -> tuple[np.ndarray, np.ndarray]:
    """Draw true logits, those of the last class so far ahead, and the classes that follow."""
    rng = np.random.default_rng(seed)
    place = rng.normal(0, apart, (cases, 1)) * np.linspace(-1, 1, classes)
    logits = place + np.array([0.0] * (classes - 1) + [ahead])
    p = softmax(logits)
    truth = (p.cumsum(axis=1) < rng.random((cases, 1))).sum(axis=1)
    return logits, truth.astype(np.float64)


@pytest.mark.parametrize(
    ("metric", "kind", "classes", "apart", "ahead"),
    [
        ("quadratic_kappa", "ordinal", 5, 1, 2.5),
        ("macro_f1", "ordinal", 5, 2, 2.5),
        ("macro_f1", "multiclass", 5, 2, 2.5),
        ("macro_f1", "binary", 2, 1, 4),
    ],
)
def test_other_cases_have_a_better_metric_and_the_same_probabilities(
    metric: str, kind: str, classes: int, apart: float, ahead: float
) -> None:
    task = task_with(metric, kind)
    decision = decide(*skewed(300, 1, classes, apart=apart, ahead=ahead), task)
    outputs, truth = skewed(5000, 2, classes, apart=apart, ahead=ahead)
    likeliest = measure(outputs, truth, task.label)
    found = measure(outputs, truth, task.label, decision)
    assert found[metric] > likeliest[metric] + 0.05
    for name in found.keys() - {"accuracy", "macro_f1", "quadratic_kappa"}:
        assert found[name] == pytest.approx(likeliest[name])
    assert bool(decision.cuts) == (metric == "quadratic_kappa")
    assert decision.fits(task.label)


@pytest.mark.parametrize(
    ("metric", "kind", "classes"),
    [("accuracy", "multiclass", 5), ("mae", "ordinal", 5), ("auroc", "binary", 2)],
)
def test_where_the_metric_gains_nothing_the_most_likely_class_is_predicted(
    metric: str, kind: str, classes: int
) -> None:
    assert decide(*skewed(300, 1, classes), task_with(metric, kind)) == LIKELIEST


@pytest.mark.parametrize("metric", ["quadratic_kappa", "macro_f1"])
def test_of_several_as_good_the_most_likely_class_is_predicted(metric: str) -> None:
    truth = np.arange(50) % 5
    assert decide(9 * np.eye(5)[truth], truth.astype(np.float64), task_with(metric)) == LIKELIEST


def test_what_is_decided_goes_by_the_temperature() -> None:
    task = task_with("quadratic_kappa")
    outputs, truth = skewed(300, 1)
    fitted = calibrate(outputs * 3, truth, task)
    assert fitted.temperature == pytest.approx(3, rel=0.3)
    assert fitted.decision == decide(outputs, truth, task)
    assert fitted.decision.cuts
    assert fitted.scores == calibrate(outputs * 3, truth, task_with("accuracy")).scores


def test_figures_under_a_decision_are_those_of_the_classes_that_it_names() -> None:
    label = task_with("quadratic_kappa").label
    p = [(0.1, 0, 0, 0, 0.9), (0.3, 0, 0, 0.3, 0.4), (0.6, 0, 0, 0, 0.4), (0, 0, 0, 0.4, 0.6)]
    outputs = np.log(np.maximum(p, 1e-12))
    # Expected are 4.6, 3.5, 2.6 and 4.6: predicted are 5, 3, 1 and 5 stars.
    decision, truth = Decision(cuts=(2.7, 3, 3.6, 4.5)), np.array([4, 2, 1, 3])
    found = measure(outputs, truth, label, decision)
    assert found["accuracy"] == 0.5
    # Of 1, 2, 3, 4 and 5 stars: one predicted and none true, so 0, and so on.
    assert found["macro_f1"] == pytest.approx((0 + 0 + 1 + 0 + 2 / 3) / 5)
    guess = np.array([4, 2, 0, 4])
    chance = np.mean([(t - g) ** 2 for t in truth for g in guess])
    assert found["quadratic_kappa"] == pytest.approx(1 - (0 + 0 + 1 + 1) / 4 / chance)


def test_draws_are_judged_by_the_same_decision() -> None:
    task = task_with("quadratic_kappa")
    outputs, truth = skewed(300, 1)
    decision = decide(outputs, truth, task)
    groups = np.arange(300).astype(str)
    drawn = resampled(outputs, truth, task.label, groups, decision, rounds=200)
    usual = resampled(outputs, truth, task.label, groups, rounds=200)
    kappa = measure(outputs, truth, task.label, decision)["quadratic_kappa"]
    assert np.mean(drawn["quadratic_kappa"]) == pytest.approx(kappa, abs=0.02)
    assert np.mean(usual["quadratic_kappa"]) < kappa - 0.1
    assert np.array_equal(drawn["brier"], usual["brier"])


def test_an_epoch_is_judged_by_the_decision_that_would_be_stored() -> None:
    task = task_with("quadratic_kappa")
    outputs, truth = skewed(90, 4)
    fitted = calibrate(outputs * 3, truth, task)
    found = validated(outputs * 3, truth, task)
    stored = measure(outputs * 3 / fitted.temperature, truth, task.label, fitted.decision)
    for name in ("quadratic_kappa", "accuracy", "macro_f1"):
        assert found[name] == stored[name]
    assert found["quadratic_kappa"] > measure(outputs, truth, task.label)["quadratic_kappa"]
    # Of probabilities as they are, as ever.
    assert found["brier"] == measure(outputs * 3, truth, task.label)["brier"]
    assert validated(outputs, truth, task_with("mae")) == measure(outputs, truth, task.label)


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 100), tuple(1e6 + each for each in range(5))])
def test_classes_may_stand_for_any_values(values: tuple[float, ...]) -> None:
    task = task_with("quadratic_kappa").model_dump(mode="json")
    task["label"] |= {"values": values}
    decision = decide(*skewed(300, 1), TaskSpec.model_validate(task))
    assert len(set(decision.cuts)) == 4
    assert values[0] < decision.cuts[0] < decision.cuts[-1] < values[-1]


def test_a_class_that_the_network_rules_out_weighs_what_can_be_counted() -> None:
    outputs = np.array([[0, 5, -1e6], [5, 0, -1e6], [4, 3, -1e6]] * 5)
    task = task_with("macro_f1", "multiclass").model_dump(mode="json")
    task["label"] |= {"classes": ("a", "b", "c")}
    truth, label = np.array([1.0, 0, 1] * 5), TaskSpec.model_validate(task).label
    found = decide(outputs, truth, TaskSpec.model_validate(task))
    assert (found.predicted(softmax(outputs), label) == outputs.argmax(axis=1)).all()


def test_cases_of_one_class_that_determine_no_kappa_decide_nothing() -> None:
    outputs, _ = skewed(30, 1)
    assert decide(outputs, np.full(30, 4.0), task_with("quadratic_kappa")) == LIKELIEST
