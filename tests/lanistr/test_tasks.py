"""Tasks: what a task file says, and what is wrong with a wrong one."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from lanistr.errors import TaskError
from lanistr.fields import CategoryField, NumberField
from lanistr.modalities import Modality
from lanistr.tasks import TASKS_FOLDER, LabelSpec, TaskSpec
from lanistr.tasks import find_task as find
from lanistr.tasks import read_task as read

# Unit, valid range, limits and normal value of the public benchmarks' continuous variables.
CONTINUOUS = {
    "diastolic_bp": ("mmHg", (0, 375), None, 59),
    "fio2": ("fraction", (0.21, 1), (0.2, 1.1), 0.21),
    "glucose": ("mg/dL", (33, 2000), (0, 2200), 128),
    "heart_rate": ("1/min", (0, 350), (0, 390), 86),
    "height": ("cm", (0, 240), (0, 275), 170),
    "mean_bp": ("mmHg", (14, 330), (0, 375), 77),
    "oxygen_saturation": ("%", (0, 100), (0, 150), 98),
    "respiratory_rate": ("1/min", (0, 300), (0, 330), 19),
    "systolic_bp": ("mmHg", (0, 375), None, 118),
    "temperature": ("degC", (26, 45), (14.2, 47), 36.6),
    "weight": ("kg", (0, 250), None, 81),
    "ph": ("", (6.3, 8.4), (6.3, 10), 7.4),
}
CATEGORICAL = {
    "capillary_refill_rate": (2, "0"),
    "gcs_eye": (4, "4"),
    "gcs_motor": (6, "6"),
    "gcs_verbal": (5, "5"),
    "gcs_total": (13, "15"),
}


def test_mortality_has_the_seventeen_variables_of_the_benchmark(mortality: TaskSpec):
    assert mortality.timeseries is not None
    variables = mortality.timeseries.variables
    assert set(variables) == set(CONTINUOUS) | set(CATEGORICAL)
    for name, (unit, valid, limits, normal) in CONTINUOUS.items():
        field = variables[name]
        assert isinstance(field, NumberField)
        assert (field.unit, field.range, field.limits) == (unit, valid, limits), name
        assert field.normal == normal, name
    for name, (count, normal) in CATEGORICAL.items():
        field = variables[name]
        assert isinstance(field, CategoryField)
        assert len(field.categories or ()) == count, name
        assert field.normal == normal, name
    assert mortality.timeseries.steps == 48


def test_the_modalities_of_a_task_stand_in_canonical_order(mortality: TaskSpec, rating: TaskSpec):
    assert mortality.modalities == tuple(Modality)
    assert rating.modalities == (Modality.TEXT, Modality.IMAGE, Modality.TABULAR)


def test_every_task_file_of_the_house_can_be_read():
    names = [path.stem for path in TASKS_FOLDER.glob("*.yaml")]
    assert {"mortality", "rating"} <= set(names)
    assert [find(name).name for name in names] == names


def test_a_task_is_found_by_the_path_of_its_file(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text((TASKS_FOLDER / "rating.yaml").read_text())
    assert find(str(path)) == find("rating")


def test_an_unknown_task_is_answered_with_the_nearest_name():
    with pytest.raises(TaskError, match="did you mean 'mortality'") as caught:
        find("mortalty")
    assert (caught.value.code, caught.value.field) == ("unknown_task", "task")


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (None, "no_task_file", "No such file"),
        (b"\xff\xfe\x00", "no_task_file", "not UTF-8"),
        (b"name: [unclosed", "bad_yaml", "not YAML"),
        (b'a: 1\nwho: [x, "\\ud83d\\udc69"]', "bad_yaml", 'line 2, column 10: who: [x, "'),
        (b"born: 2020-13-45", "bad_yaml", "not YAML: month must be in 1..12"),
        (
            b"a: 1\nwards: [1, 010]",
            "bad_yaml",
            "010 would be read as 8: write a number without a leading",
        ),
        (b"", "bad_schema", "not a task; accepted: a YAML mapping of names to settings"),
        (b"- a\n- list", "bad_schema", "not a task; seen \"['a', 'list']\""),
    ],
)
def test_a_file_that_is_no_task_is_refused(
    tmp_path: Path, content: bytes | None, code: str, says: str
):
    path = tmp_path / "task.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TaskError) as caught:
        read(path)
    assert caught.value.code == code
    assert caught.value.field == str(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("name: fall\ntitle: Falls\n'name': other\n", "name", (1, 3)),
        (
            "tabular:\n  fields:\n    age: {kind: number}\n    age: {kind: category}\n",
            "age",
            (3, 4),
        ),
        ("source: {tabular: {0: a, 1: b, 0: c}}\n", "0", (1, 1)),
    ],
)
def test_a_key_that_stands_twice_is_told_by_its_lines(
    tmp_path: Path, text: str, key: str, lines: tuple[int, int]
):
    path = tmp_path / "task.yaml"
    path.write_text(text)
    with pytest.raises(TaskError) as caught:
        read(path)
    first, second = lines
    assert (caught.value.code, caught.value.seen) == ("repeated_key", key)
    assert str(caught.value).startswith(f"{path}: line {second}: a key appears twice")
    assert f"already in line {first}" in caught.value.accepted


def test_a_key_that_a_merge_brings_may_be_given_anew(tmp_path: Path, document: dict[str, Any]):
    path = tmp_path / "task.yaml"
    fields = "tabular: {fields: {a: &a {kind: number, unit: kg}, b: {<<: *a, unit: g}}}\n"
    del document["timeseries"], document["tabular"]
    path.write_text(yaml.safe_dump(document) + fields)
    task = read(path)
    assert task.tabular is not None
    assert task.tabular.fields["b"].unit == "g"


@pytest.fixture
def document() -> dict[str, Any]:
    """A small right task, as YAML gives it."""
    return {
        "name": "fall",
        "title": "Falls",
        "label": {"kind": "binary", "name": "fell", "classes": ["no", "yes"]},
        "metric": "auroc",
        "tabular": {"fields": {"age": {"kind": "number", "unit": "years", "range": [18, 120]}}},
        "timeseries": {
            "horizon_hours": 6,
            "step_hours": 0.5,
            "variables": {
                "eye": {"kind": "category", "categories": ["1", "2"], "normal": "2"},
                "motor": {"kind": "category", "categories": ["1", "2"], "normal": "2"},
                "total": {
                    "kind": "category",
                    "categories": ["2", "3", "4"],
                    "normal": "4",
                    "sum_of": ["eye", "motor"],
                },
            },
        },
    }


def test_the_small_task_is_right(document: dict[str, Any]):
    task = TaskSpec.parse(document, TaskError, "here")
    assert task.modalities == (Modality.TABULAR, Modality.TIMESERIES)
    assert task.timeseries is not None
    assert task.timeseries.steps == 12


WRONG: list[tuple[str, Any, str]] = [
    ("name", "Fall!", "should match pattern"),
    ("metric", "auc", "auroc"),
    ("metric", "rmse", "not a metric of binary labels: one of auroc, auprc, accuracy, macro_f1;"),
    ("label.kind", "binry", "binary"),
    ("label.classes", ["no"], "cannot have 1 classes"),
    ("label.classes", ["no", "no"], "must be distinct"),
    ("label.values", [0, 1], "cannot have values"),
    ("tabular.fields", {}, "at least 1"),
    ("tabular.fields.age.range", [120, 18], "range .* is empty"),
    ("tabular.fields.age.range", [18, math.nan], "finite number"),
    ("tabular.fields.age.limits", [20, 150], "must enclose the range"),
    ("tabular.fields.age.implied", {"unit": "months", "low": 200, "high": 900}, "implied unit"),
    ("tabular.fields.age.implied", {"unit": "mo", "low": 900, "high": 200}, "no number between"),
    ("tabular.fields.age.normal", 7, r"normal 7 is outside the range \[18"),
    ("tabular.fields.age.units", {"days": {"scale": 0}}, "scale of 0"),
    ("tabular.fields.age.units", {"mo": {"scale": 0.08}, "Mo": {"scale": 1}}, "two conversions"),
    ("tabular.fields.age.units", {"YEARS": {"scale": 2}}, "two conversions"),
    ("tabular.fields.age.kind", "numeric", "number"),
    ("timeseries.step_hours", 0.7, "multiple of step_hours"),
    ("timeseries.step_hours", 0, "greater than 0"),
    ("timeseries.variables.hours", {"kind": "number"}, "may not be named 'hours'"),
    ("timeseries.variables.eye.categories", None, "must list its categories"),
    ("timeseries.variables.eye.normal", None, "must name its normal category"),
    ("timeseries.variables.eye.normal", "7", "is not a category"),
    (
        "timeseries.variables.eye.categories",
        ["1", "one", "ONE", "2"],
        "categories must be distinct",
    ),
    ("timeseries.variables.eye.synonyms", {"shut": "0"}, "not a category"),
    ("timeseries.variables.eye.synonyms", {"2": "1", "shut": "2"}, "itself a synonym of '1'"),
    (
        "tabular.fields.ward",
        {"kind": "category", "synonyms": {"surg": "surgery", "Surgery": "Surgical"}},
        "synonym 'surg' means 'surgery', which is itself a synonym of 'Surgical'",
    ),
    ("timeseries.variables.eye.categories", ["1", "2", "a b", "a  B"], "must be distinct"),
    ("timeseries.variables.eye.categories", ["1", "2", " "], "and not empty"),
    ("timeseries.variables.eye.synonyms", {"2": "1"}, "'2' means '1' and '2'"),
    ("timeseries.variables.eye.synonyms", {"Shut": "1", "shut": "2"}, "'2' and '1'"),
    ("timeseries.variables.eye.synonyms", {" ": "1"}, "means '1' and 'a missing value'"),
    (
        "tabular.fields.ward",
        {"kind": "category", "synonyms": {"surg": "Surgery", "SURG": "Surgical"}},
        "synonym 'SURG' means 'Surgical' and 'Surgery'",
    ),
    ("timeseries.variables.eye.buckets", 8, "either categories or buckets"),
    ("timeseries.variables.total.sum_of", ["eye", "verbal"], "names 'verbal'"),
    ("timeseries.variables.total.sum_of", ["eye", "total"], "names 'total', which is itself a sum"),
    (
        "timeseries.variables.eye.sum_of",
        ["motor"],
        "sum_of of 'total' names 'eye', which is itself a sum",
    ),
    (
        "timeseries.variables.eye.categories",
        ["shut", "2"],
        "whose categories are not whole numbers",
    ),
    ("timeseries.variables.total.categories", ["2", "4"], "has no category '3'"),
    (
        "timeseries.variables.total",
        {
            "kind": "category",
            "categories": ["02", "03", "04"],
            "normal": "04",
            "sum_of": ["eye", "motor"],
        },
        "has no category '2', although that is a possible sum",
    ),
]


@pytest.mark.parametrize(("path", "value", "says"), WRONG)
def test_a_wrong_task_is_refused_and_the_message_says_why(
    document: dict[str, Any], path: str, value: Any, says: str
):
    wrong = copy.deepcopy(document)
    *steps, last = path.split(".")
    place = wrong
    for step in steps:
        place = place[step]
    place[last] = value
    with pytest.raises(TaskError, match=says) as caught:
        TaskSpec.parse(wrong, TaskError, "here")
    assert caught.value.field.split(".")[0] == path.split(".")[0]


@pytest.mark.parametrize(
    ("field", "says"),
    [
        (
            {"kind": "number", "normal": 40},
            "field 'x' has normal, which only variables of a time series can have",
        ),
        (
            {"kind": "category", "sum_of": ["age"]},
            "field 'x' has sum_of, which only variables of a time series can have",
        ),
        ({"kind": "category", "categories": ["1", "1.0"]}, "must be distinct"),
        (
            {"kind": "category", "categories": ["1", "2"], "synonyms": {"1.0": "2"}},
            "synonym '1.0' means '2' and '1'",
        ),
        (
            {"kind": "category", "synonyms": {"1": "one", "1.0": "first"}},
            "synonym '1.0' means 'first' and 'one'",
        ),
    ],
)
def test_what_does_nothing_or_is_read_in_two_ways_is_refused_as_it_is_written_not_as_it_is_stored(
    tmp_path: Path, document: dict[str, Any], field: dict[str, Any], says: str
):
    document["tabular"]["fields"]["x"] = field
    stored = TaskSpec.parse(document, TaskError, "here")
    assert TaskSpec.parse(stored.model_dump(mode="json"), TaskError, "here") == stored
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(TaskError, match=says) as caught:
        read(path)
    assert caught.value.field.startswith("tabular")


def test_a_unit_may_be_spelled_twice_where_it_means_the_same():
    units = {"mg/dL": {"scale": 10}, "mg/dl": {"scale": 10}, "MG/L": {}}
    field = {"kind": "number", "unit": "mg/l", "units": units}
    assert len(NumberField.parse(field, TaskError, "here").units) == 3


@pytest.mark.parametrize("listed", [{}, {"categories": ["Surgery", "Ward"]}])
def test_a_synonym_may_only_spell_its_meaning_otherwise(listed: dict[str, Any]):
    synonyms = {"surgery": "Surgery", "surg": "Surgery", "Surg": "Surgery"}
    field = {"kind": "category", "synonyms": synonyms} | listed
    assert len(CategoryField.parse(field, TaskError, "here").synonyms) == 3


def test_a_logarithm_needs_a_range_that_starts_at_zero_or_above():
    with pytest.raises(TaskError, match="starts at 0"):
        NumberField.parse({"kind": "number", "log": True}, TaskError, "here")


def test_a_task_without_any_part_is_refused(document: dict[str, Any]):
    del document["tabular"], document["timeseries"]
    with pytest.raises(TaskError, match="at least one of text, image, tabular, timeseries"):
        TaskSpec.parse(document, TaskError, "here")


def test_an_unknown_key_deep_in_a_field_names_the_nearest(tmp_path: Path, document: dict[str, Any]):
    document["tabular"]["fields"]["age"]["rnge"] = [18, 120]
    path = tmp_path / "fall.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(TaskError, match="did you mean 'range'") as caught:
        read(path)
    assert caught.value.field.startswith("tabular.fields.age")


def test_a_task_survives_the_way_through_json(mortality: TaskSpec, rating: TaskSpec):
    for task in (mortality, rating):
        data = task.model_dump(mode="json")
        assert TaskSpec.parse(data, TaskError, "here") == task


# ---- labels -------------------------------------------------------------------------------------


def test_a_class_is_encoded_by_its_place(mortality: TaskSpec, rating: TaskSpec):
    assert mortality.label.encode("died") == 1
    assert [rating.label.encode(str(stars)) for stars in range(1, 6)] == [0, 1, 2, 3, 4]


def test_no_label_is_not_a_number(mortality: TaskSpec):
    assert math.isnan(mortality.label.encode(None))


@pytest.mark.parametrize("label", ["dead", "", 1, 0.0, math.nan])
def test_a_label_that_is_no_class_is_refused(mortality: TaskSpec, label: Any):
    with pytest.raises(TaskError) as caught:
        mortality.label.encode(label)
    assert (caught.value.code, caught.value.field) == ("bad_label", "in_hospital_mortality")


def test_a_regression_takes_numbers_that_float32_holds():
    label = LabelSpec(kind="regression", name="days")
    assert label.outputs == 1
    assert label.encode(3) == 3.0
    assert label.encode(3.4e38) == 3.4e38
    for wrong in ("3", math.inf, math.nan, 1e39, -1e39):
        with pytest.raises(TaskError) as caught:
            label.encode(wrong)
        assert caught.value.code == "bad_label"


def test_an_ordinal_label_needs_rising_values():
    for values in [(), (1, 2), (1, 3, 2), (1, 1, 2)]:
        with pytest.raises(TaskError):
            LabelSpec.parse(
                {"kind": "ordinal", "name": "n", "classes": ("a", "b", "c"), "values": values},
                TaskError,
                "here",
            )


def test_a_field_says_in_words_what_it_takes(mortality: TaskSpec):
    assert mortality.timeseries is not None
    words = mortality.timeseries.variables["temperature"].accepted()
    assert words.startswith("a number in degC from 26 to 45 (or in C")
    assert words.endswith(", with the unit named)")
    assert mortality.timeseries.variables["gcs_eye"].accepted() == "one of 1, 2, 3, 4"
    assert CategoryField(kind="category").accepted() == "a word"


# ---- what a case must bring, and what a note must not be ----------------------------------------


def test_without_a_minimum_any_part_will_do(mortality: TaskSpec):
    assert mortality.suffices([Modality.IMAGE])
    assert mortality.wanted() == "any modality"


def test_a_minimum_is_one_of_several_combinations(mortality: TaskSpec):
    text, image, row, series = Modality
    strict = mortality.model_copy(update={"minimum": ((text,), (row, series))})
    for brought in ([text], [text, image], [row, series], list(Modality)):
        assert strict.suffices(brought)
    for brought in ([], [row], [series], [image, row]):
        assert not strict.suffices(brought)
    assert strict.wanted() == "text; or tabular and timeseries"


@pytest.mark.parametrize(
    ("minimum", "message"),
    [
        ([["image", "text"]], "minimum names image, which is not a modality of the task"),
        ([["words"]], "minimum.0.0"),
        ([[]], "minimum.0"),
    ],
)
def test_a_minimum_of_other_parts_is_refused(rating: TaskSpec, minimum: Any, message: str):
    document = rating.model_dump(mode="json") | {"image": None, "minimum": minimum}
    with pytest.raises(TaskError, match=message):
        TaskSpec.parse(document, TaskError, "task.yaml")


@pytest.mark.parametrize(
    ("pattern", "message"), [("(ab", "missing"), (r"(a)\1", "escape"), ("(?<=a)b", "operator")]
)
def test_a_pattern_that_is_none_is_refused(rating: TaskSpec, pattern: str, message: str):
    suspicion = {"code": "late", "detail": "too late", "patterns": [pattern]}
    document = rating.model_dump(mode="json") | {"text": {"suspicions": [suspicion]}}
    with pytest.raises(TaskError, match=f"is not a regular expression: .*{message}"):
        TaskSpec.parse(document, TaskError, "task.yaml")
