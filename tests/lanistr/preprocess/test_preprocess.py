"""Records as a whole: read, fitted, applied, saved and loaded."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanistr.errors import BundleError, InputError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions, Preprocessor, read_record
from lanistr.sample import Sample, to_record
from lanistr.tasks import TaskSpec, find_task

TASK = find_task("mortality")
RECORD: dict[str, Any] = {
    "id": "stay-17",
    "text": "pt intubated overnight",
    "tabular": {"age": 71, "gender": "F"},
    "timeseries": [{"hours": 0.5, "heart_rate": 92}],
}


def read(record: Any) -> Sample:
    return read_record(record, TASK, IssueLog())


def refused(record: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        read(record)
    return caught.value


def same(one: Any, other: Any) -> None:
    """Assert that two `Features` hold the same arrays."""
    assert list(one.rows) == list(other.rows)
    for modality, rows in one.rows.items():
        assert len(rows) == len(other.rows[modality])
        for mine, theirs in zip(rows, other.rows[modality], strict=True):
            assert list(mine) == list(theirs)
            for name, array in mine.items():
                assert array.dtype == theirs[name].dtype
                np.testing.assert_array_equal(array, theirs[name])


# ---- reading ------------------------------------------------------------------------------------


def test_a_record_becomes_a_sample_with_only_the_parts_that_are_there():
    sample = read(RECORD)
    assert list(sample.parts) == [Modality.TEXT, Modality.TABULAR, Modality.TIMESERIES]
    assert sample.id == "stay-17"
    assert read({"text": "a"}).id is None


@pytest.mark.parametrize("record", [None, 3, "text", [], [RECORD], b"{}"])
def test_what_is_no_object_is_no_record(record: Any):
    assert refused(record).code == "wrong_type"


def test_an_unknown_field_is_refused_and_the_nearest_named():
    error = refused(RECORD | {"txt": "a"})
    assert (error.code, error.field) == ("unknown_field", "txt")
    assert "did you mean 'text'" in error.accepted


def test_a_part_that_the_task_does_not_take_is_unknown(rating: TaskSpec):
    with pytest.raises(InputError, match="unknown field for rating"):
        read_record({"timeseries": []}, rating, IssueLog())


@pytest.mark.parametrize("name", [3, 3.5, True, ["a"], {}])
def test_a_name_is_a_string(name: Any):
    assert (refused(RECORD | {"id": name}).field, refused(RECORD | {"id": name}).code) == (
        "id",
        "wrong_type",
    )


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"id": "a"},
        dict.fromkeys(["text", "image", "tabular", "timeseries"]),
        {"text": [], "image": [], "tabular": {}, "timeseries": []},
        {"text": [None], "image": [None], "tabular": {"age": None, "gender": ""}},
        {"image": ""},
        {"text": ""},
        {"text": ["", "  "]},
    ],
)
def test_a_record_with_nothing_in_it_is_refused(record: Any):
    error = refused(record)
    assert error.code == "nothing_present"
    assert error.accepted == "at least one of text, image, tabular, timeseries"


@pytest.mark.parametrize(
    ("part", "empties"),
    [
        ("text", [None, [], [None]]),
        ("image", [None, [], [None], "", [""]]),
        ("tabular", [None, {}, {"age": None}, {"age": "", "gender": ""}, {"age": {"value": None}}]),
        ("timeseries", [None, []]),
    ],
)
def test_a_part_that_is_absent_changes_nothing_however_it_is_absent(
    part: str, empties: list[Any], stays: list[Sample], of_stays: Preprocessor
):
    whole = next(sample for sample in stays if len(sample.parts) == 4)
    record = to_record(whole)
    del record[part]
    without = of_stays.apply(read(record), IssueLog())
    assert part not in without.rows
    for empty in empties:
        sample = read(record | {part: empty})
        assert part not in sample.parts
        same(of_stays.apply(sample, IssueLog()), without)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**18, 10**40)
    | st.floats()
    | st.text(st.characters(), max_size=8)
)
names = st.sampled_from(
    ["id", *Modality, "age", "gender", "hours", "heart_rate", "value", "unit", "gcs_eye"]
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(names | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
nearly = st.fixed_dictionaries(
    {},
    optional={
        "id": st.none() | st.text(max_size=4),
        "text": anything | st.lists(st.text(max_size=8), max_size=3),
        "image": anything | st.binary(max_size=8),
        "tabular": st.dictionaries(st.sampled_from(["age", "gender", "care_unit"]), anything),
        "timeseries": st.lists(
            st.dictionaries(names, scalars, max_size=3).map(
                lambda row: {"hours": 1} | {k: v for k, v in row.items() if k in VARIABLES}
            ),
            max_size=3,
        ),
    },
)
VARIABLES = ("hours", "heart_rate", "gcs_eye")


@given(anything | nearly)
def test_any_value_at_all_is_read_as_a_sample_or_refused_as_input(record: Any):
    try:
        sample = read(record)
    except InputError as error:
        message = str(error)
    else:
        message = ""
        assert sample.parts
        assert all(part for part in sample.parts.values())
    assert len(message) < 2000


def test_whatever_was_read_is_preprocessed_or_refused_as_input(of_stays: Preprocessor):
    @given(nearly)
    def attempt(record: Any) -> None:
        log = IssueLog()
        try:
            features = of_stays.apply(read(record), log)
        except InputError:
            return
        assert features.rows
        for rows in features.rows.values():
            assert all(np.isfinite(array).all() for row in rows for array in row.values())

    attempt()


# ---- applying -----------------------------------------------------------------------------------


def test_issues_of_all_parts_are_collected(of_stays: Preprocessor):
    record = {
        "tabular": {"age": 130, "gender": "X"},
        "timeseries": [{"hours": 1, "heart_rate": 1200, "temperature": {"value": 99, "unit": "F"}}],
    }
    log = IssueLog()
    features = of_stays.apply(read_record(record, TASK, log), log)
    assert [(issue.code, issue.field) for issue in features.issues] == [
        ("out_of_range", "tabular.age"),
        ("unknown_category", "tabular.gender"),
        ("out_of_range", "timeseries[0].heart_rate"),
        ("unit_converted", "timeseries[0].temperature"),
    ]


def test_a_part_of_which_nothing_is_usable_is_absent_and_the_rest_is_used(of_stays: Preprocessor):
    log = IssueLog()
    features = of_stays.apply(read({"text": "___", "tabular": {"age": 71}}), log)
    assert list(features.rows) == [Modality.TABULAR]
    assert [issue.code for issue in log.issues] == ["empty"]


def test_a_record_of_which_nothing_is_usable_is_refused(of_stays: Preprocessor):
    for record in (
        {"text": "___"},
        {"tabular": {"age": 3}},
        {"timeseries": [{"hours": 99, "ph": 7}]},
    ):
        with pytest.raises(InputError) as caught:
            of_stays.apply(read(record), IssueLog())
        assert caught.value.code == "nothing_usable"


def test_one_modality_is_preprocessed_alike_alone_and_in_company(
    stays: list[Sample], of_stays: Preprocessor
):
    for sample in stays:
        whole = of_stays.apply(sample, IssueLog())
        for modality, part in sample.parts.items():
            alone = of_stays.apply(Sample({modality: part}), IssueLog())
            same(alone, type(whole)({modality: whole.rows[modality]}))


def test_layouts_say_what_the_arrays_look_like(stays: list[Sample], of_stays: Preprocessor):
    for sample in stays:
        for modality, rows in of_stays.apply(sample, IssueLog()).rows.items():
            layout = of_stays.parts[modality].layout()
            for row in rows:
                assert set(row) == set(layout)
                for name, spec in layout.items():
                    shape = tuple(-1 if -1 in spec.shape else n for n in row[name].shape)
                    assert (shape, str(row[name].dtype)) == (spec.shape, spec.dtype)
                    assert not spec.limit or 0 <= row[name].min() <= row[name].max() < spec.limit


# ---- fitting, saving and loading ----------------------------------------------------------------


def test_fitting_without_any_training_case_still_gives_a_preprocessor():
    empty = Preprocessor.fit(list, TASK, PreprocessOptions())
    assert list(empty.apply(read(RECORD), IssueLog()).rows) == list(read(RECORD).parts)


@pytest.mark.parametrize("which", ["stays", "reviews"])
def test_what_is_saved_and_loaded_preprocesses_the_same(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
):
    fitted: Preprocessor = request.getfixturevalue(f"of_{which}")
    fitted.save(tmp_path)
    again = Preprocessor.load(tmp_path, fitted.task)
    assert again.dimensions() == fitted.dimensions()
    for sample in request.getfixturevalue(which):
        same(again.apply(sample, IssueLog()), fitted.apply(sample, IssueLog()))
    second = tmp_path / "second"
    second.mkdir()
    again.save(second)
    for path in second.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def damage(state: Any, *path: str) -> None:
    for step in path[:-1]:
        state = state[step]
    del state[path[-1]]


@pytest.mark.parametrize(
    "path",
    [
        ("text",),
        ("text", "max_tokens"),
        ("tabular", "numbers"),
        ("tabular", "numbers", "age"),
        ("tabular", "categories", "gender"),
        ("timeseries", "scales", "ph"),
    ],
)
def test_a_state_that_lacks_something_does_not_load(
    of_stays: Preprocessor, tmp_path: Path, path: tuple[str, ...]
):
    of_stays.save(tmp_path)
    file = tmp_path / "preprocessing.json"
    state = json.loads(file.read_text())
    damage(state, *path)
    file.write_text(json.dumps(state))
    with pytest.raises(BundleError) as caught:
        Preprocessor.load(tmp_path, TASK)
    assert caught.value.code == "bad_preprocessing"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tabular", "numbers", "age", "std"), 0),
        (("timeseries", "scales", "ph", "mean"), "high"),
        (("image", "crop"), 2),
    ],
)
def test_a_number_that_is_none_is_named_in_one_line(
    of_stays: Preprocessor, tmp_path: Path, path: tuple[str, ...], value: Any
):
    of_stays.save(tmp_path)
    file = tmp_path / "preprocessing.json"
    state = json.loads(file.read_text())
    place = state
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file.write_text(json.dumps(state))
    with pytest.raises(BundleError, match=rf"^[^\n]*{file}: Input should be[^\n]*$") as caught:
        Preprocessor.load(tmp_path, TASK)
    assert (caught.value.field, caught.value.seen) == (".".join(path), value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("preprocessing.json", None),
        ("preprocessing.json", "{"),
        ("preprocessing.json", "[]"),
        ("preprocessing.json", '{"text": 3}'),
        ("tokenizer.json", None),
        ("tokenizer.json", "{}"),
    ],
)
def test_damaged_files_do_not_load(
    of_stays: Preprocessor, tmp_path: Path, name: str, text: str | None
):
    of_stays.save(tmp_path)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BundleError):
        Preprocessor.load(tmp_path, TASK)


def test_the_state_of_another_task_does_not_load(
    of_stays: Preprocessor, rating: TaskSpec, tmp_path: Path
):
    of_stays.save(tmp_path)
    with pytest.raises(BundleError):
        Preprocessor.load(tmp_path, rating)


def test_the_saved_state_is_json_without_nan(of_stays: Preprocessor, tmp_path: Path):
    of_stays.save(tmp_path)

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    state = json.loads((tmp_path / "preprocessing.json").read_text(), parse_constant=refuse)
    assert math.isfinite(state["timeseries"]["scales"]["height"]["mean"])
