"""One raw value: unit, type, range, spelling."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanistr.errors import InputError
from lanistr.fields import CategoryField, NumberField, Unit
from lanistr.issues import Action, IssueLog
from lanistr.preprocess.values import CategoryCleaner, NumberCleaner, cleaner, read_value
from lanistr.sample import Quantity, Value
from lanistr.tasks import TaskSpec, find_task

FIELDS = find_task("mortality").timeseries.variables  # type: ignore[union-attr]


def vital(name: str, value: Value) -> tuple[Any, list[tuple[str, str]]]:
    """Clean a value of a mortality variable; return it and what was said of it."""
    log = IssueLog()
    cleaned = cleaner(FIELDS[name])(value, name, log)
    return cleaned, [(issue.code, str(issue.action)) for issue in log.issues]


def fails(name: str, value: Value) -> InputError:
    with pytest.raises(InputError) as caught:
        vital(name, value)
    assert caught.value.field == name
    return caught.value


CONVERTED = ("unit_converted", "converted")
IMPLIED = ("unit_implied", "converted")
DROPPED = ("out_of_range", "dropped")
CLIPPED = ("out_of_range", "clipped")

WORDS = [
    word
    for field in FIELDS.values()
    if isinstance(field, CategoryField)
    for word in (*field.categories, *field.synonyms)
]


@given(
    st.sampled_from(list(FIELDS)),
    st.floats()
    | st.floats(0, 200)
    | st.integers(0, 200)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.sampled_from(WORDS)
    | st.sampled_from(WORDS).map(str.upper)
    | st.text(max_size=3)
    | st.builds(Quantity, st.integers(0, 200), st.sampled_from(["degF", "%", "lb"])),
)
def test_a_plain_value_is_one_that_is_taken_without_a_word(name: str, value: Value):
    plain = cleaner(FIELDS[name]).plain(value)
    if plain is not None:
        cleaned, said = vital(name, value)
        assert (cleaned, type(cleaned), said) == (plain, type(plain), [])


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("heart_rate", 80, 80.0),
        ("temperature", 36.5, 36.5),
        ("gcs_eye", 4, "4"),
        ("gcs_eye", "Spontaneously", "4"),
        ("heart_rate", True, None),
        ("heart_rate", "80", None),
        ("temperature", 98.6, None),  # out of range
        ("oxygen_saturation", 0.9, None),  # a fraction
        ("gcs_eye", "spontaneously ", None),
    ],
)
def test_plain_are_numbers_in_range_and_words_as_the_task_spells_them(
    name: str, value: Value, plain: Any
):
    assert cleaner(FIELDS[name]).plain(value) == plain


# ---- units --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["degF", "F", "°F", "DEGF", " degf "])
def test_fahrenheit_is_converted_because_of_its_unit(unit: str):
    value, said = vital("temperature", Quantity(101.3, unit))
    assert value == pytest.approx(38.5)
    assert said == [CONVERTED]


def test_fahrenheit_is_never_guessed_from_the_size_of_the_value():
    assert vital("temperature", 101.3) == (None, [DROPPED])
    # Cold in Fahrenheit, warm in Celsius: only the unit can tell.
    assert vital("temperature", Quantity(45, "degF")) == (None, [CONVERTED, DROPPED])
    assert vital("temperature", 45) == (45, [])


@pytest.mark.parametrize(
    ("name", "given", "unit", "value"),
    [
        ("temperature", 37.2, "C", 37.2),
        ("weight", 150, "lb", 68.0388555),
        ("weight", 80_000, "g", 80),
        ("height", 70, "in", 177.8),
        ("height", 1.75, "m", 175),
        ("glucose", 5.5, "mmol/L", 99.0858),
        ("mean_bp", 10, "kPa", 75.00616827),
        ("fio2", 40, "%", 0.4),
        ("fio2", 0.4, "fraction", 0.4),
        ("oxygen_saturation", 0.97, "fraction", 97),
        ("heart_rate", 80, "bpm", 80),
    ],
)
def test_other_units_are_converted(name: str, given: float, unit: str, value: float):
    cleaned, said = vital(name, Quantity(given, unit))
    assert cleaned == pytest.approx(value)
    assert said == ([] if given == value else [CONVERTED])


FAHRENHEIT = Unit(scale=5 / 9, offset=-160 / 9)


@pytest.mark.parametrize(
    ("low", "high", "unit", "given", "end"),
    [
        (26, 43, FAHRENHEIT, 109.4, 43),  # 43.000000000000004 by itself
        (486.54, 500, Unit(scale=18.02), 27, 486.54),  # 486.53999999999996
        (-30, 0, Unit(scale=0.1, offset=-0.3), 3, 0),  # 5.551115123125783e-17
        (0, 0.3, Unit(scale=0.1), 3, 0.3),  # 0.30000000000000004
    ],
)
def test_a_converted_value_at_the_end_of_its_range_is_in_it(
    low: float, high: float, unit: Unit, given: float, end: float
):
    spec = NumberField(kind="number", range=(low, high), units={"other": unit})
    log = IssueLog()
    assert NumberCleaner(spec)(Quantity(given, "other"), "x", log) == end
    assert [issue.code for issue in log.issues] == ["unit_converted"]
    beyond = given * (1 + 1e-9) if end == high else given * (1 - 1e-9)
    assert NumberCleaner(spec)(Quantity(beyond, "other"), "x", log) is None


def test_an_unknown_unit_is_refused_and_the_nearest_named():
    error = fails("temperature", Quantity(300, "degK"))
    assert (error.code, error.seen) == ("unknown_unit", "degK")
    assert "did you mean 'deg" in error.accepted


def test_a_field_without_a_unit_takes_none():
    assert fails("ph", Quantity(7.4, "mol")).accepted == "a number without a unit"


@pytest.mark.parametrize(
    ("given", "value", "said"),
    [
        (0.4, 0.4, []),
        (40, 0.4, [IMPLIED]),
        (100, 1.0, [IMPLIED]),
        (1.0, 1.0, []),
        (0.21, 0.21, []),
        (21, 0.21, [IMPLIED]),
        (20, 0.21, [IMPLIED, CLIPPED]),
        (0.2, 0.21, [CLIPPED]),
        (1.05, 1.0, [CLIPPED]),
        (110, 1.0, [IMPLIED, CLIPPED]),
        (111, None, [DROPPED]),
        (2, None, [DROPPED]),  # litres of oxygen a minute, not a share
        (0, None, [DROPPED]),
    ],
)
def test_inspired_oxygen_comes_as_percent_or_as_fraction(
    given: float, value: float | None, said: list[Any]
):
    cleaned, issues = vital("fio2", given)
    assert cleaned == (None if value is None else pytest.approx(value))
    assert issues == said


@pytest.mark.parametrize(
    ("given", "value", "said"),
    [
        (97, 97, []),
        (0.97, 97, [IMPLIED]),
        (1, 100, [IMPLIED]),
        (0.2, 20, [IMPLIED]),
        (0.1, 0.1, []),
        (0, 0, []),
        (100, 100, []),
        (101, 100, [CLIPPED]),
        (150, 100, [CLIPPED]),
        (151, None, [DROPPED]),
        (-1, None, [DROPPED]),
    ],
)
def test_saturation_comes_as_percent_or_as_fraction(
    given: float, value: float | None, said: list[Any]
):
    cleaned, issues = vital("oxygen_saturation", given)
    assert cleaned == (None if value is None else pytest.approx(value))
    assert issues == said


def test_a_named_unit_is_believed_where_a_bare_number_would_be_read_otherwise():
    assert vital("oxygen_saturation", Quantity(0.97, "%")) == (0.97, [])
    assert vital("fio2", Quantity(40, "fraction")) == (None, [DROPPED])


# ---- ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "value", "said"),
    [
        ("heart_rate", 350, 350, []),
        ("heart_rate", 351, 350, [CLIPPED]),
        ("heart_rate", 390, 350, [CLIPPED]),
        ("heart_rate", 390.5, None, [DROPPED]),
        ("heart_rate", 10_000, None, [DROPPED]),
        ("glucose", 20, 33, [CLIPPED]),
        ("glucose", -1, None, [DROPPED]),
        ("systolic_bp", 376, None, [DROPPED]),  # no wider limits: nothing is clipped
        ("ph", 6.2, None, [DROPPED]),
        ("ph", 9, 8.4, [CLIPPED]),
        ("temperature", 20, 26, [CLIPPED]),
        ("temperature", 14, None, [DROPPED]),
    ],
)
def test_beyond_the_limits_a_value_is_dropped_and_between_limits_and_range_clipped(
    name: str, given: float, value: float | None, said: list[Any]
):
    assert vital(name, given) == (value, said)


def test_ranges_are_those_of_the_fields_own_unit():
    assert vital("temperature", Quantity(112, "degF"))[1] == [CONVERTED]
    assert vital("temperature", Quantity(114, "degF")) == (45, [CONVERTED, CLIPPED])
    assert vital("temperature", Quantity(120, "degF")) == (None, [CONVERTED, DROPPED])


def test_an_issue_tells_what_was_seen_and_what_it_became(log: IssueLog):
    clean = NumberCleaner(NumberField(kind="number", unit="C", range=(0, 9), units={"mC": Unit()}))
    clean(99, "tabular.x", log)
    issue = log.issues[0]
    assert (issue.field, issue.seen, issue.action) == ("tabular.x", 99, Action.DROPPED)
    assert "from 0 to 9" in issue.detail


def test_what_is_clipped_is_held_against_what_was_learned_as_it_then_is(log: IssueLog):
    spec = NumberField(kind="number", range=(0, 10), limits=(0, 1e9))
    clean = NumberCleaner(spec, reach=(-1e6, 1e6))
    assert [clean(each, "x", log) for each in (2e6, 1e9, 2e9)] == [10, 10, None]
    assert log.issues[-1].detail == "a number from 0 to 10"
    far = NumberCleaner(spec, reach=(-1, 8))
    assert [far(each, "x", log) for each in (8, 9, 11)] == [8, None, None]
    assert log.issues[-1].detail.endswith("; this model can only use 0 to 8")


def test_a_field_without_a_range_takes_what_the_model_can_hold(log: IssueLog):
    clean = NumberCleaner(NumberField(kind="number", units={"huge": Unit(scale=1e300)}))
    assert clean(-1e9, "x", log) == -1e9
    assert clean(1e300, "x", log) is None
    assert clean(Quantity(1e300, "huge"), "x", log) is None
    assert [issue.code for issue in log.issues if issue.action == Action.DROPPED] == [
        "out_of_range",
        "out_of_range",
    ]


# ---- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("36.6", 36.6), (" 36.6 ", 36.6), ("+36.6", 36.6), ("3.66e1", 36.6), ("40", 40)],
)
def test_a_number_in_words_is_read_and_reported(text: str, value: float):
    assert vital("temperature", text) == (value, [("text_as_number", "converted")])


def test_commas_between_thousands_are_read():
    assert vital("glucose", "1,234")[0] == 1234
    assert vital("weight", Quantity("1,234,000", "g")) == (None, [
        ("text_as_number", "converted"), CONVERTED, DROPPED,
    ])  # fmt: skip


@pytest.mark.parametrize(
    "text", ["36,6", "1,23", "12,34,567", ",123", "1,234,", "high", "36.6 C", "0x20", "1 234", "--"]
)
def test_a_comma_elsewhere_or_a_word_is_not_guessed_at(text: str):
    error = fails("temperature", text)
    assert (error.code, error.seen) == ("wrong_type", text)


@pytest.mark.parametrize("text", ["0,375", "-0,375", "37,5", "0,375,000"])
def test_a_decimal_comma_is_refused_with_the_way_to_write_it(text: str):
    error = fails("fio2", text)
    assert (error.code, error.seen) == ("wrong_type", text)
    assert ("point, not a comma" in error.accepted) == (text.count(",") == 1)


@pytest.mark.parametrize("text", ["101.3 degF", "101.3degF", " 101.3 DEGF "])
def test_a_unit_in_the_text_is_refused_with_the_way_to_write_it(text: str):
    unit = text.strip()[5:].strip()
    assert fails("temperature", text).accepted.endswith(
        f'; or {{"value": 101.3, "unit": "{unit}"}}'
    )


def test_no_way_to_write_it_is_made_up():
    for text in ("101.3 furlongs", "1.2.3", "high", "0x20", "36.6.C", "1e999 degF"):
        assert "value" not in fails("temperature", text).accepted


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "nan", "inf", "-Infinity", "1e999"]
)
def test_what_is_not_finite_is_refused_and_null_recommended(value: Value):
    error = fails("heart_rate", value)
    assert error.code == "not_finite"
    assert isinstance(error.seen, str)  # JSON has no NaN to answer with
    assert "null" in error.accepted


def test_a_whole_number_beyond_floating_point_is_not_finite():
    assert fails("heart_rate", 10**400).code == "not_finite"


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_number(value: bool):
    assert fails("heart_rate", value).code == "wrong_type"


def test_null_and_the_empty_string_are_missing():
    assert vital("heart_rate", None) == (None, [])
    assert vital("heart_rate", "") == (None, [])
    assert vital("gcs_eye", None) == (None, [])
    assert vital("gcs_eye", "  ") == (None, [])


# ---- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["4", 4, 4.0, " 4 ", "4.0", "4.000", "Spontaneously", "spontaneously", "SPONTANEOUSLY"]
)
def test_a_category_is_known_by_every_spelling(value: Value):
    assert vital("gcs_eye", value) == ("4", [])


def test_the_word_none_is_a_finding_and_null_is_not():
    assert vital("gcs_eye", "None") == ("1", [])
    assert vital("gcs_eye", None) == (None, [])


def test_the_same_words_may_mean_different_things_to_different_variables():
    assert vital("gcs_motor", "No response")[0] == "1"
    assert vital("gcs_verbal", "No Response-ETT")[0] == "1"
    assert vital("capillary_refill_rate", "Abnormal  >3\nSeconds")[0] == "1"


def test_truth_values_are_words_to_a_category(rating: TaskSpec):
    assert rating.tabular is not None
    field = rating.tabular.fields["verified"]
    assert isinstance(field, CategoryField)
    clean = CategoryCleaner(field)
    spellings = [True, "TRUE", "yes", 1, "1", False, "No", 0]
    assert [clean(each, "x", IssueLog()) for each in spellings] == ["true"] * 5 + ["false"] * 3


def test_a_truth_value_is_one_word_however_a_table_wrote_it():
    learned = CategoryCleaner(CategoryField(kind="category"))
    for one in (True, "True", "TRUE", " true "):
        assert learned(one, "x", IssueLog()) == "true"
    listed = CategoryCleaner(CategoryField(kind="category", categories=("False", "yes")))
    assert [listed(each, "x", IssueLog()) for each in (False, "false")] == ["False", "False"]


def test_a_code_is_one_word_however_a_table_wrote_it():
    learned = CategoryCleaner(CategoryField(kind="category"))
    for one in ("2", 2, 2.0, "2.0", " 2.00 "):
        assert learned(one, "x", IssueLog()) == "2"
    listed = CategoryCleaner(CategoryField(kind="category", categories=("1.0", "2.5")))
    for word in ("1.0", "2.5", "2.50", "v1.0"):
        assert listed(word, "x", IssueLog()) == word


@pytest.mark.parametrize("value", [1, 1.0, "1", "1.0", " 1.00 "])
def test_a_code_is_known_however_its_task_wrote_it(value: Value):
    for listed in (
        CategoryField(kind="category", categories=("0.5", "1.0", "1.5")),
        CategoryField(kind="category", categories=("0.5", "1.0"), synonyms={"1": "1.0"}),
        CategoryField(kind="category", categories=("1.0",), synonyms={"1.00": "1.0"}),
    ):
        assert CategoryCleaner(listed)(value, "x", IssueLog()) == "1.0"
    both = CategoryCleaner(CategoryField(kind="category", categories=("1.0", "1")))
    assert both(value, "x", IssueLog()) == (value if value == "1.0" else "1")


def test_a_synonym_that_is_a_code_is_known_however_its_task_wrote_it():
    synonyms = {"1.0": "yes", "0.0": "no"}
    listed = CategoryField(kind="category", categories=("no", "yes"), synonyms=synonyms)
    clean = CategoryCleaner(listed)
    assert [clean(each, "x", IssueLog()) for each in (1, 0.0, "1", "0.00")] == [
        "yes", "no", "yes", "no",
    ]  # fmt: skip


def test_an_unknown_word_is_returned_with_its_spaces_folded():
    clean = CategoryCleaner(CategoryField(kind="category", categories=("a",)))
    assert clean("  Some   thing ", "x", IssueLog()) == "Some thing"


@pytest.mark.parametrize(
    ("value", "code"), [(math.nan, "not_finite"), (Quantity(4, "x"), "wrong_type")]
)
def test_what_cannot_be_a_word_is_refused(value: Value, code: str):
    assert fails("gcs_eye", value).code == code


def test_a_code_that_a_float_cannot_hold_is_refused_and_is_taken_as_a_string():
    clean = CategoryCleaner(CategoryField(kind="category"))
    for long in (9876543210987654321, "98765432109876543210987", 2**53 - 1, float(2**53 - 1)):
        assert clean(long, "x", IssueLog()) == str(long).removesuffix(".0")
    for rounded in (98765432109876543210987.0, -1e20, float(2**53)):
        with pytest.raises(InputError) as caught:
            clean(rounded, "tabular.code", IssueLog())
        assert (caught.value.code, caught.value.field) == ("wrong_type", "tabular.code")
        assert caught.value.accepted.endswith("; send a long number as a string")


# ---- decoded JSON -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (None, None),
        (3, 3),
        ("a", "a"),
        (True, True),
        ({"value": 3, "unit": "kg"}, Quantity(3, "kg")),
        ({"value": "3", "unit": "kg"}, Quantity("3", "kg")),
        ({"value": 3}, 3),
        ({"value": 3, "unit": None}, 3),
        ({"value": None, "unit": "kg"}, None),
        ({"value": " ", "unit": "kg"}, None),
        ({"value": "", "unit": None}, None),
        ({"value": 3, "unit": " "}, 3),
    ],
)
def test_a_value_stands_alone_or_with_its_unit(given: Any, value: Value):
    assert read_value(given, "x") == value


@pytest.mark.parametrize(
    "given",
    [
        [],
        [3],
        b"3",
        {"value": [3]},
        {"value": {"value": 3}},
        {"value": 3, "unit": 3},
        {"value": None, "unit": 3},
        {},
        {"unit": "kg"},
        object(),
    ],
)
def test_anything_else_is_no_value(given: Any):
    with pytest.raises(InputError) as caught:
        read_value(given, "x")
    assert caught.value.code == "wrong_type"


def test_a_misspelt_key_of_a_quantity_is_named():
    with pytest.raises(InputError, match="did you mean 'unit'") as caught:
        read_value({"value": 3, "unti": "kg"}, "tabular.x")
    assert caught.value.field == "tabular.x.unti"


def test_values_nested_without_end_are_refused_like_any_other():
    nested: Any = 3
    for _ in range(5000):
        nested = {"value": nested}
    with pytest.raises(InputError):
        read_value(nested, "x")


@given(st.sampled_from(["fio2", "temperature", "weight", "gcs_total"]), st.data())
def test_whatever_comes_is_cleaned_into_the_range_or_refused(name: str, data: st.DataObject):
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    value = data.draw(
        scalars | st.builds(Quantity, st.floats() | st.text(), st.text() | st.just("lb"))
    )
    try:
        cleaned, said = vital(name, value)
    except InputError:
        return
    field = FIELDS[name]
    if isinstance(field, NumberField) and cleaned is not None:
        assert field.range is not None
        assert field.range[0] <= cleaned <= field.range[1]
        assert said or cleaned == value


@pytest.mark.parametrize(
    "text", ["1" * 200_000 + "a\nb", "1" + " " * 200_000 + "\n1", "1" * 200_000 + "_"]
)
def test_a_long_text_that_is_no_number_holds_nobody_up(text: str):
    """Read by a pattern that has two ways to read digits it would take an hour."""
    assert fails("temperature", text).code == "wrong_type"
