"""Which class is predicted: by probabilities, weights or cuts, and always one of the set's."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from lanistr.calibration import Calibration
from lanistr.decision import LIKELIEST, Decision
from lanistr.tasks import LabelSpec

TWO = LabelSpec(kind="binary", name="whether", classes=("no", "yes"))
STARS = LabelSpec(kind="ordinal", name="stars", classes=("low", "middle", "high"), values=(1, 2, 5))
P = np.array([[0.6, 0.1, 0.3], [0.1, 0.2, 0.7], [0.25, 0.5, 0.25]])


def test_without_weights_and_cuts_it_is_the_most_likely_class():
    assert LIKELIEST.likeliest
    assert LIKELIEST.predicted(P, STARS).tolist() == [0, 2, 1]
    assert LIKELIEST.in_words(STARS) == "the most likely class"


def test_weights_count_a_class_more_often():
    decision = Decision(weights=(1, 1, 3))
    assert decision.predicted(P, STARS).tolist() == [2, 2, 2]
    assert not decision.likeliest
    assert decision.in_words(STARS).endswith("is largest: low 1, middle 1, high 3")


def test_cuts_part_the_expected_value_and_the_value_of_a_cut_is_above_it():
    # Expected are 2.3, 4 and 2.5.
    assert Decision(cuts=(2, 2.4)).predicted(P, STARS).tolist() == [1, 2, 2]
    assert Decision(cuts=(2.4, 2.5)).predicted(P, STARS).tolist() == [0, 2, 2]
    assert Decision(cuts=(2.4, 2.4)).predicted(P, STARS).tolist() == [0, 2, 2]
    assert Decision(cuts=(1, 9)).predicted(P, STARS).tolist() == [1, 1, 1]
    words = Decision(cuts=(2, 2.4)).in_words(STARS)
    assert words == "a class by the expected value: middle from 2, high from 2.4"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"weights": (1, 2), "cuts": (1,)}, "by weights or by cuts, not by both"),
        ({"cuts": (2, 1)}, "cuts must be in ascending order"),
        ({"weights": (1, 0)}, "greater than 0"),
        ({"cuts": (1, float("nan"))}, "finite"),
    ],
)
def test_what_predicts_nothing_is_refused(given: dict[str, Any], fault: str):
    with pytest.raises(ValidationError, match=fault):
        Decision(**given)


@pytest.mark.parametrize(
    ("decision", "label", "fits"),
    [
        (LIKELIEST, STARS, True),
        (LIKELIEST, LabelSpec(kind="regression", name="days"), True),
        (Decision(weights=(1, 2)), TWO, True),
        (Decision(weights=(1, 2)), STARS, False),
        (Decision(cuts=(1, 2)), STARS, True),
        (Decision(cuts=(1,)), STARS, False),
        (Decision(cuts=(1,)), TWO, False),
    ],
)
def test_a_label_needs_a_weight_a_class_or_a_cut_between_two(
    decision: Decision, label: LabelSpec, fits: bool
):
    assert decision.fits(label) is fits


@pytest.mark.parametrize(
    ("label", "decision"),
    [(TWO, Decision(weights=(1, 9))), (STARS, Decision(cuts=(2.8, 2.9)))],
    ids=["weights", "cuts"],
)
def test_an_answer_has_the_predicted_class_and_so_has_its_set(label: LabelSpec, decision: Decision):
    rng = np.random.default_rng(0)
    outputs = rng.normal(0, 2, (300, label.outputs))
    targets = rng.integers(label.outputs, size=300).astype(np.float64)
    plain = Calibration.fit(outputs[:100], targets[:100], label)
    fitted = plain.model_copy(update={"decision": decision})
    assert Calibration.model_validate_json(fitted.model_dump_json()) == fitted
    codes = fitted.predicted(outputs, label)
    others = 0
    for coverage in (0.02, 0.9):
        found = fitted.covers(outputs, targets, label, coverage)
        assert found is not None
        for output, code, target, covered, size in zip(
            outputs, codes, targets, *found, strict=True
        ):
            answer = fitted.predict(output, label, coverage)
            usual = plain.predict(output, label, coverage)
            assert answer.label == label.classes[code]
            assert answer.probabilities == usual.probabilities
            assert answer.set
            assert answer.label in answer.set
            assert set(usual.set or ()) - set(answer.set) <= {usual.label}
            assert (covered, size) == (label.classes[int(target)] in answer.set, len(answer.set))
            others += answer.label != usual.label
    assert others > 50


def test_a_calibration_from_before_there_were_decisions_predicts_the_most_likely_class():
    assert Calibration.model_validate_json('{"temperature": 2, "scores": [0.5]}').decision.likeliest
