"""Series: irregular measurements on a grid of hours."""

import csv
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lanistr.errors import InputError
from lanistr.fields import CategoryField
from lanistr.issues import InputIssue, IssueLog
from lanistr.preprocess.tabular import Scale
from lanistr.preprocess.timeseries import Series, TimeseriesOptions, TimeseriesPreprocessor
from lanistr.sample import Measurements, Quantity, Value
from lanistr.tasks import find_task

TASK = find_task("mortality")
assert TASK.timeseries is not None
VARIABLES = list(TASK.timeseries.variables)
CATEGORIES = {
    name: list(field.categories or ())
    for name, field in TASK.timeseries.variables.items()
    if isinstance(field, CategoryField)
}
NUMBERS = [name for name in VARIABLES if name not in CATEGORIES]


def series(*rows: tuple[float, dict[str, Value]]) -> Series:
    return tuple(Measurements(hours, values) for hours, values in rows)


TRAINING = [
    series((0, {"heart_rate": 60, "temperature": 36.0}), (5, {"heart_rate": 80})),
    series((1, {"heart_rate": 100, "temperature": Quantity(100.4, "degF")})),
]
FITTED = TimeseriesPreprocessor.fit(TRAINING, TASK, TimeseriesOptions())


class Grid:
    """What `apply` returned, read by name."""

    def __init__(self, part: Series, fitted: TimeseriesPreprocessor = FITTED) -> None:
        log = IssueLog()
        (row,) = fitted.apply(part, log)
        self.values = row["values"].astype(np.float64)
        self.issues: list[InputIssue] = log.issues
        self.fitted = fitted
        assert self.values.shape == (48, fitted.dimensions()["features"])

    def number(self, name: str) -> list[float]:
        """Return a variable's column in its own unit."""
        scale = self.fitted.scales[name]
        column = self.values[:, NUMBERS.index(name)] * scale.std + scale.mean
        return [round(float(each), 3) for each in column]

    def category(self, name: str) -> list[str]:
        start = len(NUMBERS)
        for each, words in CATEGORIES.items():
            if each == name:
                block = self.values[:, start : start + len(words)]
                assert set(np.unique(block)) <= {0, 1}
                assert (block.sum(axis=1) <= 1).all()
                return [words[row.argmax()] if row.any() else "" for row in block]
            start += len(words)
        raise KeyError(name)

    def measured(self, name: str) -> list[int]:
        column = self.values[:, -len(VARIABLES) :][:, VARIABLES.index(name)]
        return np.flatnonzero(column).tolist()

    def said(self) -> list[tuple[str, str]]:
        return [(issue.code, issue.field) for issue in self.issues]


# ---- the grid -----------------------------------------------------------------------------------


def test_columns_are_numbers_then_categories_then_indicators():
    assert FITTED.dimensions()["features"] == 12 + (2 + 4 + 6 + 5 + 13) + 17
    groups = FITTED.dimensions()["groups"]
    assert [len(each) for each in groups] == [1] * 12 + [2, 4, 6, 5, 13]
    assert sorted(i for group in groups for i in group) == list(range(42))


def test_each_group_knows_the_column_that_says_where_it_was_measured() -> None:
    measured = FITTED.dimensions()["measured"]
    for column, name in zip(measured, [*NUMBERS, *CATEGORIES], strict=True):
        # The sum of the coma scale follows from its three parts; by itself it is charted too.
        value = CATEGORIES[name][0] if name in CATEGORIES else FITTED.scales[name].mean
        flags = Grid(series((1.5, {name: value}))).values[:, 42:]
        assert np.argwhere(flags).tolist() == [[1, column - 42]]


def test_a_value_is_carried_forward_until_the_next_and_before_the_first_stands_the_normal():
    grid = Grid(series((2.5, {"heart_rate": 100}), (10, {"heart_rate": 120})))
    assert grid.number("heart_rate") == [86] * 2 + [100] * 8 + [120] * 38
    assert grid.measured("heart_rate") == [2, 10]


def test_categories_are_carried_forward_too():
    grid = Grid(series((3, {"gcs_eye": "None"}), (5, {"gcs_eye": 3.0})))
    assert grid.category("gcs_eye") == ["4"] * 3 + ["1"] * 2 + ["3"] * 43
    assert grid.measured("gcs_eye") == [3, 5]
    assert grid.category("capillary_refill_rate") == ["0"] * 48


def test_the_last_measurement_of_an_hour_stands_whatever_the_order_of_the_rows():
    rows = [(0.1, 70), (0.9, 90), (0.5, 80), (1.0, 95)]
    for order in (rows, rows[::-1], rows[2:] + rows[:2]):
        grid = Grid(series(*((hours, {"heart_rate": rate}) for hours, rate in order)))
        assert grid.number("heart_rate")[:3] == [90, 95, 95]
        (issue,) = grid.issues
        assert (issue.code, issue.seen) == ("several_in_step", "2 earlier values")
        assert (issue.action, issue.detail) == ("dropped", "each variable's last value in 1 h")


def test_of_two_rows_of_one_time_the_later_row_stands_and_an_issue_says_so():
    grid = Grid(series((1, {"heart_rate": 70}), (1, {"heart_rate": 75})))
    assert grid.number("heart_rate")[1] == 75
    assert grid.said() == [("repeated_time", "timeseries[1].heart_rate")]
    assert grid.issues[0].action == "kept"


def test_rows_of_one_time_that_agree_or_measure_different_things_are_nothing_to_tell():
    grid = Grid(series((1, {"heart_rate": 70}), (1, {"heart_rate": 70.0, "ph": 7.3})))
    assert not grid.issues
    assert (grid.number("heart_rate")[1], grid.number("ph")[1]) == (70, 7.3)


def test_a_value_that_is_dropped_leaves_the_earlier_one_of_the_hour_standing():
    grid = Grid(series((1.1, {"heart_rate": 70}), (1.8, {"heart_rate": 10_000})))
    assert grid.number("heart_rate")[1] == 70
    assert grid.said() == [("out_of_range", "timeseries[1].heart_rate")]


def test_issues_name_the_row_as_it_was_sent_not_as_it_was_sorted():
    grid = Grid(series((9, {"heart_rate": 9999}), (1, {"heart_rate": 70})))
    assert grid.said() == [("out_of_range", "timeseries[0].heart_rate")]


@pytest.mark.parametrize("minutes", [3, 6, 10, 12, 20, 42, 60])
@pytest.mark.parametrize(
    "hours",
    [
        lambda step, length: step * length,
        lambda step, length: round(step * length, 10),
        lambda step, length: step * round(60 * length) / 60,
        lambda step, length: step * round(60 * length) * (1 / 60),
        lambda step, length: step * round(60 * length) / 1440 * 24,
    ],
    ids=["product", "decimals", "minutes", "minutes in the table", "days"],
)
def test_what_is_measured_when_a_step_begins_is_of_this_step(minutes: int, hours: Any):
    assert TASK.timeseries is not None
    grid = {"step_hours": minutes / 60, "horizon_hours": 48 * minutes / 60}
    task = TASK.model_copy(update={"timeseries": TASK.timeseries.model_copy(update=grid)})
    fitted = TimeseriesPreprocessor.fit([], task, TimeseriesOptions())
    times = [hours(step, minutes / 60) for step in range(48)]
    found = Grid(series(*((time, {"heart_rate": 80}) for time in times)), fitted)
    assert found.measured("heart_rate") == list(range(48))
    assert not found.issues


# ---- the horizon --------------------------------------------------------------------------------


def test_the_horizon_itself_belongs_to_the_last_hour():
    grid = Grid(series((48, {"heart_rate": 99}), (0, {"heart_rate": 60})))
    assert grid.measured("heart_rate") == [0, 47]
    assert not grid.issues


@pytest.mark.parametrize(
    ("hours", "code"),
    [(48.01, "beyond_horizon"), (1e30, "beyond_horizon"), (-0.01, "before_start")],
)
def test_what_was_measured_outside_the_horizon_reaches_no_column(hours: float, code: str):
    inside = series((1, {"heart_rate": 70}))
    grid = Grid((*inside, Measurements(hours, {"heart_rate": 200, "ph": 6.9})))
    assert grid.said() == [(code, "timeseries[1].hours")]
    assert (grid.values == Grid(inside).values).all()


def test_a_series_without_a_usable_measurement_is_dropped_with_an_issue():
    for part in (
        series((50, {"heart_rate": 70})),
        series((1, {"heart_rate": 9999})),
        series((1, {})),
        (),
    ):
        log = IssueLog()
        assert FITTED.apply(part, log) == ()
        assert log.issues[-1].code == "empty"


def test_a_category_never_seen_is_kept_as_measured_but_none_of_those_known():
    grid = Grid(series((1, {"gcs_eye": "wide open", "heart_rate": 70}), (3, {"gcs_eye": 3})))
    assert grid.measured("gcs_eye") == [1, 3]
    assert grid.category("gcs_eye") == ["4", "", "", *["3"] * 45]
    (issue,) = grid.issues
    assert (issue.code, issue.seen, issue.action) == ("unknown_category", "wide open", "kept")
    assert issue.detail.startswith("unknown; one of ")


def test_a_sum_with_an_unknown_part_is_none():
    part = series((1, {"gcs_eye": "wide open", "gcs_motor": 3, "gcs_verbal": 1}))
    assert Grid(part).measured("gcs_total") == []


# ---- the sum of the coma scale ------------------------------------------------------------------


def test_the_coma_scale_is_summed_where_all_three_parts_were_measured_within_the_hour():
    grid = Grid(
        series(
            (1.0, {"gcs_eye": 2, "gcs_motor": 3}),
            (1.6, {"gcs_verbal": 1}),
            (3.0, {"gcs_eye": 4, "gcs_motor": 6}),  # the third part is only carried here
        )
    )
    assert grid.measured("gcs_total") == [1]
    assert grid.category("gcs_total") == ["15"] + ["6"] * 47


def test_a_charted_sum_is_believed_rather_than_its_parts():
    grid = Grid(series((1, {"gcs_eye": 2, "gcs_motor": 3, "gcs_verbal": 1, "gcs_total": 9})))
    assert grid.category("gcs_total")[1] == "9"


def test_a_sum_in_words_is_one_of_numbers():
    words: dict[str, Value] = {
        "gcs_eye": "To Speech",
        "gcs_motor": "Obeys Commands",
        "gcs_verbal": "No Response-ETT",
    }
    assert Grid(series((0, words))).category("gcs_total")[0] == "10"


def test_every_sum_from_three_to_fifteen_has_its_category():
    for eye in range(1, 5):
        for motor in range(1, 7):
            for verbal in range(1, 6):
                row: dict[str, Value] = {"gcs_eye": eye, "gcs_motor": motor, "gcs_verbal": verbal}
                total = Grid(series((0, row))).category("gcs_total")[0]
                assert total == str(eye + motor + verbal)


# ---- statistics ---------------------------------------------------------------------------------


def test_statistics_come_from_what_was_measured_and_cleaned_never_from_what_was_filled():
    scale = FITTED.scales["heart_rate"]
    assert scale.mean == pytest.approx(80)
    assert scale.std == pytest.approx(np.std([60, 80, 100]))
    assert FITTED.scales["temperature"].mean == pytest.approx((36 + 38) / 2)


def test_statistics_leave_out_what_was_dropped_and_take_what_was_clipped():
    wild = series((2, {"heart_rate": 10_000}), (3, {"heart_rate": 380}), (60, {"heart_rate": 1}))
    fitted = TimeseriesPreprocessor.fit([*TRAINING, wild], TASK, TimeseriesOptions())
    assert fitted.scales["heart_rate"].mean == pytest.approx(np.mean([60, 80, 100, 350]))


def test_a_height_that_nobody_measured_reads_zero_everywhere():
    grid = Grid(series((1, {"heart_rate": 80})))
    assert (grid.values[:, NUMBERS.index("height")] == 0).all()
    assert set(grid.number("height")) == {170}


def test_a_height_measured_once_in_training_does_not_explode():
    once = [series((0, {"height": Quantity(70, "in")}))]
    fitted = TimeseriesPreprocessor.fit(once, TASK, TimeseriesOptions())
    grid = Grid(series((1, {"height": 170})), fitted)
    assert np.abs(grid.values).max() < 400
    assert grid.number("height") == [170] * 48


def test_one_unusable_series_of_training_does_not_stop_the_fitting():
    wrong = series((0, {"heart_rate": 300}), (1, {"heart_rate": "fast"}))
    fitted = TimeseriesPreprocessor.fit([*TRAINING, wrong], TASK, TimeseriesOptions())
    assert fitted.scales == FITTED.scales


def test_scales_survive_saving_and_those_of_another_task_do_not_fit(tmp_path: Path):
    state = FITTED.save(tmp_path)
    assert TimeseriesPreprocessor.load(state, TASK, tmp_path).scales == FITTED.scales
    del state["scales"]["ph"]
    with pytest.raises(ValueError, match="not match the task's"):
        TimeseriesPreprocessor.load(state, TASK, tmp_path)


def test_fitting_holds_little_more_than_eight_bytes_of_a_measurement():
    parts = (series(*((h, {"heart_rate": 60.5 + h}) for h in range(48))) for _ in range(600))
    tracemalloc.start()
    try:
        fitted = TimeseriesPreprocessor.fit(parts, TASK, TimeseriesOptions())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert fitted.scales["heart_rate"] == Scale.of([60.5 + h for h in range(48)] * 600)
    assert peak < 20 * 48 * 600


# ---- reading ------------------------------------------------------------------------------------


def read(value: Any) -> Any:
    return TimeseriesPreprocessor.read(value, TASK, IssueLog())


def test_a_series_is_a_list_of_rows_with_their_time():
    assert read([{"hours": 1, "ph": 7.3, "weight": None, "height": ""}, {"hours": 2}]) == (
        Measurements(1.0, {"ph": 7.3}),
        Measurements(2.0, {}),
    )
    assert read(None) is read([]) is None


@pytest.mark.parametrize(
    ("value", "field", "code"),
    [
        ({"hours": 1}, "timeseries", "wrong_type"),
        ("hours,ph", "timeseries", "wrong_type"),
        ([3], "timeseries[0]", "wrong_type"),
        ([{"ph": 7.3}], "timeseries[0].hours", "wrong_type"),
        ([{"hours": None}], "timeseries[0].hours", "wrong_type"),
        ([{"hours": "1"}], "timeseries[0].hours", "wrong_type"),
        ([{"hours": True}], "timeseries[0].hours", "wrong_type"),
        ([{"hours": 1}, {"hours": math.nan}], "timeseries[1].hours", "not_finite"),
        ([{"hours": math.inf}], "timeseries[0].hours", "not_finite"),
        ([{"hours": 10**400}], "timeseries[0].hours", "not_finite"),
        ([{"hours": 1, "heartrate": 3}], "timeseries[0].heartrate", "unknown_field"),
        ([{"hours": 1, "ph": [7]}], "timeseries[0].ph", "wrong_type"),
    ],
)
def test_anything_else_is_refused_with_its_place(value: Any, field: str, code: str):
    with pytest.raises(InputError) as caught:
        read(value)
    assert (caught.value.field, caught.value.code) == (field, code)
    assert caught.value.accepted


def test_a_whole_number_of_hours_beyond_64_bits_is_beyond_the_horizon():
    grid = Grid(read([{"hours": 10**30, "ph": 7}, {"hours": 1, "ph": 7}]))
    assert grid.said() == [("beyond_horizon", "timeseries[0].hours")]


# ---- anything -----------------------------------------------------------------------------------

hours = st.floats(-5, 60) | st.sampled_from([0, 1, 47, 48])
value = (
    st.floats(-1e3, 1e6)
    | st.integers(0, 16)
    | st.sampled_from(["None", "Oriented", "1", "x"])
    | st.builds(Quantity, st.floats(0, 200), st.sampled_from(["degF", "lb", "%"]))
)
rows = st.lists(
    st.builds(Measurements, hours, st.dictionaries(st.sampled_from(VARIABLES), value, max_size=5)),
    max_size=12,
).map(tuple)


@given(rows)
def test_any_measurements_give_a_finite_grid_or_none_or_a_refusal(part: Series):
    try:
        applied = FITTED.apply(part, IssueLog())
    except InputError:
        return
    for row in applied:
        values = row["values"]
        assert (values.shape, str(values.dtype)) == (FITTED.layout()["values"].shape, "float32")
        assert np.isfinite(values).all()
        indicators = values[:, -len(VARIABLES) :]
        assert set(np.unique(indicators)) <= {0.0, 1.0}
        assert indicators.any()


measurement = st.sampled_from(VARIABLES).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.sampled_from([*CATEGORIES[name], "x"])
        if name in CATEGORIES
        else st.floats(-20, 400) | st.integers(0, 200),
    )
)
usable_rows = st.lists(
    st.builds(
        Measurements,
        st.floats(-1, 49) | st.integers(0, 48),
        st.lists(measurement, min_size=1, max_size=8).map(dict),
    ),
    max_size=12,
).map(tuple)


@given(usable_rows)
def test_a_step_shows_what_was_measured_last_in_it(part: Series):
    last: dict[str, dict[int, Any]] = {name: {} for name in VARIABLES}
    for row in sorted(part, key=lambda row: row.hours):
        for name, raw in row.values.items() if 0 <= row.hours <= 48 else ():
            value = FITTED.cleaners[name](raw, "", IssueLog())
            if value is not None:
                last[name][min(int(row.hours), 47)] = value
    assume(any(last.values()))
    grid = Grid(part)
    for name, shown in last.items():
        if name != "gcs_total":  # a sum is also filled where its parts are
            assert grid.measured(name) == sorted(shown)
        for step, value in shown.items():
            if name in CATEGORIES:
                assert grid.category(name)[step] == (value if value in CATEGORIES[name] else "")
            else:
                scale, column = FITTED.scales[name], grid.values[:, NUMBERS.index(name)]
                assert column[step] == np.float32((value - scale.mean) / scale.std)


numeric_rows = st.lists(
    st.tuples(st.integers(0, 4800), st.sampled_from(NUMBERS), st.floats(34, 40)),
    min_size=1,
    unique_by=lambda each: each[:2],
)


@given(numeric_rows, st.randoms())
def test_the_order_of_rows_with_times_of_their_own_does_not_matter(
    measured: list[tuple[int, str, float]], random: Any
):
    part = series(*((time / 100, {name: number}) for time, name, number in measured))
    shuffled = list(part)
    random.shuffle(shuffled)
    before, after = (FITTED.apply(tuple(each), IssueLog()) for each in (part, shuffled))
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        assert (one["values"] == other["values"]).all()


# ---- real ones ----------------------------------------------------------------------------------


def test_real_stays_of_physionet_become_grids_with_their_junk_dropped(open_data: Path):
    pq = pytest.importorskip("pyarrow.parquet")
    names = {
        "HR": "heart_rate", "SysABP": "systolic_bp", "DiasABP": "diastolic_bp", "MAP": "mean_bp",
        "RespRate": "respiratory_rate", "Temp": "temperature", "SaO2": "oxygen_saturation",
        "Glucose": "glucose", "pH": "ph", "FiO2": "fio2", "GCS": "gcs_total", "Weight": "weight",
    }  # fmt: skip
    folder = open_data / "physionet2012"
    with (folder / "stays_a.csv").open() as file:
        ids = [int(row["record_id"]) for row in csv.DictReader(file)][:60]
    events = pq.read_table(folder / "events_a.parquet", filters=[("record_id", "in", ids)])
    stays: dict[int, list[Measurements]] = {}
    for event in events.to_pylist():
        if event["parameter"] in names:
            row = {names[event["parameter"]]: event["value"]}
            stays.setdefault(event["record_id"], []).append(Measurements(event["hours"], row))
    assert len(stays) > 50
    fitted = TimeseriesPreprocessor.fit(map(tuple, stays.values()), TASK, TimeseriesOptions())
    assert 30 < fitted.scales["temperature"].mean < 40
    assert 60 < fitted.scales["heart_rate"].mean < 110
    hours = []
    for part in stays.values():
        grid = Grid(tuple(part), fitted)
        assert np.isfinite(grid.values).all()
        assert np.abs(grid.values).max() < 100
        hours.append(len(grid.measured("heart_rate")))
    assert np.median(hours) > 24
