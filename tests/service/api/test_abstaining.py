"""What a model will not say, how sure its answers are, and notes that it should not have had."""

import pytest

ROW, SERIES = {"age": 71}, [{"hours": 1, "heart_rate": 92}]


@pytest.mark.parametrize(
    "record",
    [
        {"tabular": ROW},
        {"timeseries": SERIES},
        {"timeseries": SERIES, "tabular": {"age": 700}},  # a part of which nothing is left
        {"timeseries": SERIES, "text": ["  "]},
    ],
    ids=["row", "series", "no usable row", "no usable note"],
)
def test_without_the_parts_that_the_task_asks_for_the_model_abstains(strict, record):
    said = strict.post("/predict/mortality", json=record, params={"explain": True})
    answer = said.json()
    assert said.status_code == 200
    assert (answer["status"], answer["prediction"]) == ("abstained", None)
    used = ", ".join(answer["modalities"]["used"])
    assert answer["reason"] == (f"mortality needs text; or tabular and timeseries; usable: {used}")
    assert "contributions" not in answer["modalities"]
    assert answer["timing_ms"]["inference"] == 0
    assert strict.post("/embed/mortality", json=record).status_code == 200


@pytest.mark.parametrize(
    "record",
    [{"text": "a note"}, {"tabular": ROW, "timeseries": SERIES}, {"text": "a", "tabular": ROW}],
    ids=["note", "row and series", "more than asked"],
)
def test_with_them_it_does_not(strict, client, record):
    answer = strict.post("/predict/mortality", json=record).json()
    assert answer["status"] == "predicted"
    assert "reason" not in answer
    usual = client.post("/predict/mortality", json=record).json()
    assert answer["prediction"]["probability"] == usual["prediction"]["probability"]


def test_a_record_without_any_usable_part_is_a_problem_still(strict):
    assert strict.post("/predict/mortality", json={"text": " "}).json()["code"] == "nothing_present"


def test_sets_go_by_what_the_case_brings_and_say_so(strict, bundles):
    cases = len(bundles["mortality"].calibration.scores)

    def ask(coverage=0.9, **record):
        answer = strict.post("/predict/mortality", json=record, params={"coverage": coverage})
        return answer.json()["prediction"]

    alone = ask(text="a note")
    assert alone["conformal"] == {"coverage": 0.9, "cases": 60, "pattern": ["text"]}
    assert alone["set"] == [alone["label"]]  # where the truth always was the likeliest
    both = ask(text="a note", tabular=ROW)
    assert both["conformal"] == {"coverage": 0.9, "cases": 80, "pattern": ["text", "tabular"]}
    assert both["set"] == ["survived", "died"]
    rare = ask(tabular=ROW, timeseries=SERIES)
    assert rare["conformal"] == {"coverage": 0.9, "cases": cases, "pattern": None}
    # More than sixty cases can tell.
    assert ask(text="a note", coverage=0.99)["conformal"]["pattern"] is None


def test_a_task_tells_its_minimum_and_what_its_sets_rest_on(strict):
    task = strict.get("/tasks/mortality").json()
    assert task["minimum"] == [["text"], ["tabular", "timeseries"]]
    everyone, *groups = task["calibration"]["scores"]
    assert "pattern" not in everyone
    assert groups == [
        {"pattern": ["text"], "cases": 60, "most_coverage": 0.983606},  # of 60 / 61
        {"pattern": ["text", "tabular"], "cases": 80, "most_coverage": 0.987654},
    ]
    assert task["text"]["suspicions"][0]["code"] == "discharge_summary"


SUMMARY = """\
Name:  ___                     Unit No:   ___
Admission Date:  ___              Discharge Date:   ___
Brief Hospital Course:
Intubated on arrival, pressors weaned.
Discharge Disposition:
Expired
"""


@pytest.mark.parametrize(
    ("note", "words"),
    [
        (SUMMARY, "Discharge Date:"),
        ("DISCHARGE SUMMARY\n\npatient did well", "DISCHARGE SUMMARY"),
        ("Condition at discharge: stable", "Condition at discharge:"),
        ("family at bedside, pronounced dead 04:12", "pronounced dead"),
    ],
)
def test_a_note_that_looks_written_after_the_outcome_raises_an_issue(strict, note, words):
    answer = strict.post("/predict/mortality", json={"text": ["admitted with sepsis", note]}).json()
    (issue,) = [each for each in answer["issues"] if each["code"] == "discharge_summary"]
    assert (issue["field"], issue["action"], issue["seen"]) == ("text[1]", "kept", words)
    assert "after the outcome" in issue["detail"]
    assert answer["status"] == "predicted"


def test_a_note_that_only_speaks_of_discharge_does_not(strict):
    note = "Purulent discharge from wound. Discharge planning discussed; not ready for discharge."
    answer = strict.post("/predict/mortality", json={"text": note}).json()
    assert answer["issues"] == []
