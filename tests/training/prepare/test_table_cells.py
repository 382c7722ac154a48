"""What a cell of a user's table says: a number, with or without its unit, a time, or nothing."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lanistr.errors import InputError
from lanistr.fields import NumberField
from lanistr.sample import Quantity, Value
from training.prepare.table.cells import (
    Decimals,
    read_amount,
    read_date,
    read_field,
    read_hours,
    read_key,
    read_name,
    read_number,
)
from training.prepare.table.rows import MissingWords, fold_words


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("38", 38),
        ("+38.50", 38.5),
        (".5", 0.5),
        ("4e1", 40.0),
        ("1,234", "1,234"),  # as the service reads it: 1234, and says so
        ("101.3 degF", Quantity(101.3, "degF")),
        ("101degF", Quantity(101.0, "degF")),
        ("101 10^9/L", Quantity(101, "10^9/L")),
        ("80  1/min", Quantity(80, "1/min")),
        ("1 234", "1 234"),
        ("-1 234.5", "-1 234.5"),
        ("-1", -1),
        ("0x20", "0x20"),
        ("4_5", "4_5"),
        (7, 7),
        (True, True),
    ],
)
def test_numbers_are_read_strictly(cell: Any, value: Any):
    found = read_number(cell)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "cell", ["1e400", "-1e400", "9" * 400, "1e400 kg", 10**400], ids=lambda cell: str(cell)[:9]
)
def test_a_number_that_no_float_holds_is_told_as_it_stands_there(cell: Any):
    with pytest.raises(InputError) as caught:
        read_number(cell)
    assert caught.value.code == "not_finite"
    assert str(caught.value.seen)[:4] == str(cell)[:4]


@pytest.mark.parametrize(
    ("cell", "value"), [("36,5", 36.5), ("1.234,5", 1234.5), ("1.234", 1234), ("7", 7)]
)
def test_numbers_may_have_a_comma(cell: str, value: float):
    assert read_number(cell, ",") == value


def test_hours_are_those_that_went_by_where_clocks_were_changed():
    berlin = ZoneInfo("Europe/Berlin")
    for start, later, hours in (
        (datetime(2024, 3, 31, 1, tzinfo=berlin), datetime(2024, 3, 31, 4, tzinfo=berlin), 2),
        (
            datetime(2024, 10, 27, 2, 30, tzinfo=berlin),
            datetime(2024, 10, 27, 2, fold=1, tzinfo=berlin),
            0.5,
        ),
    ):
        assert read_hours(later, "hours", read_date(start), ".") == hours
    with pytest.raises(InputError, match="not a date"):
        read_date("0001-01-01T00:00+01:00")


@pytest.mark.parametrize(
    ("cell", "decimal", "expected"),
    [
        ({"value": "1,234", "unit": "mV"}, ",", Quantity(1.234, "mV")),
        ({"value": "2.000,5", "unit": "mV"}, ",", Quantity(2000.5, "mV")),
        ({"value": "1.5", "unit": "mV"}, ".", Quantity(1.5, "mV")),
        ("1,5 kg", ",", Quantity(1.5, "kg")),
        ("1.250 kg", ",", Quantity(1250, "kg")),
        ("1.250 kg", ".", Quantity(1.25, "kg")),
        ("2e3 Hz", ".", Quantity(2000.0, "Hz")),
        ("1.2.3 kg", ".", "1.2.3 kg"),
        (timedelta(minutes=90), ".", 1.5),
    ],
)
def test_a_number_with_its_unit_is_read_as_numbers_are(
    cell: object, decimal: Decimals, expected: object
):
    assert read_number(cell, decimal) == expected


@pytest.mark.parametrize(
    "cell", ["1.25 kg", {"value": "1.25", "unit": "kg"}, {"value": "1.25", "unit": None}]
)
def test_a_point_is_refused_where_numbers_have_a_comma_with_a_unit_too(cell: object):
    with pytest.raises(InputError, match="with a decimal point"):
        read_number(cell, ",")


@pytest.mark.parametrize(
    "cell", ["0.375", "-0.125", "0.375 kg", "1.234e2", "012.345", "0.37", "1.5e3 kg"]
)
def test_what_no_group_of_thousands_can_be_is_a_point_even_before_three_digits(cell: str):
    with pytest.raises(InputError, match="with a decimal point"):
        read_number(cell, ",")
    assert read_number("1.234,5", ",") == 1234.5
    assert read_number("1,5e2", ",") == 150
    assert read_number("0,375", ",") == 0.375


@pytest.mark.parametrize("value", [Decimal("1.50"), "1.50", 1.5])
def test_a_struct_of_a_value_and_its_unit_is_read_whatever_the_type_of_the_value(value: object):
    assert read_number({"value": value, "unit": "kg"}) == Quantity(1.5, "kg")
    assert read_number({"value": value, "unit": None}) == 1.5


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (Decimal("12345678901234567"), "12345678901234567"),
        (
            Decimal("12345678901234567890123456789012345678"),
            "12345678901234567890123456789012345678",
        ),
        (Decimal("12345678901234567.890"), "12345678901234567.89"),
        (Decimal("17.00"), "17"),
        (Decimal("1.50"), "1.5"),
        (Decimal("0.00001"), "1e-05"),  # as a float of that value
    ],
)
def test_a_name_has_every_digit_of_a_decimal(cell: Decimal, name: str):
    assert read_name(cell) == name
    assert float(str(read_number(cell))) == float(cell)


@pytest.mark.parametrize(
    ("cell", "decimal", "key"),
    [
        ("17.0", ".", "17"),
        ("17,00", ",", "17"),
        ("17.0", ",", "17"),
        ("17.000", ",", "17.000"),
        ("0.000", ",", "0"),
        ("1234.000", ",", "1234"),
        (17.0, ",", "17"),
        ("007", ".", "007"),
        ("007.0", ".", "007"),
        ("1e5", ".", "1e5"),
        ("1.5", ".", "1.5"),
        ("v1.0", ".", "v1.0"),
    ],
)
def test_a_whole_number_is_one_name_with_decimals_or_without(
    cell: object, decimal: Decimals, key: str
):
    assert read_key(cell, decimal) == key


def test_a_duration_is_its_hours_where_the_field_counts_them_and_else_converted_or_refused():
    def read(unit: str, **more: Any) -> Value:
        spec = NumberField(kind="number", unit=unit, **more)
        return read_field(timedelta(days=3), spec, ".")

    assert read("") == read("h") == read("Hours") == read("hr") == read("hrs") == 72
    for unit in ("h", "hr"):
        assert read("days", units={"s": {}, unit: {"scale": 1 / 24}}) == Quantity(72, unit)
    with pytest.raises(InputError, match="a duration, but the field's unit") as caught:
        read("days", units={"s": {}})
    assert (caught.value.code, caught.value.seen) == ("unknown_unit", "3 days, 0:00:00")
    assert (
        caught.value.accepted == "a number of days; or, in the task, units: {h: ...} for the field"
    )


def test_marks_between_thousands_are_read_wherever_a_number_is():
    assert read_amount("1,234", ".") == read_amount("1.234", ",") == 1234
    assert read_amount("1,234,567.5", ".") == 1234567.5
    assert read_hours("1,234", "days", None, ".") == 1234 * 24
    assert read_number("1,234 mg") == Quantity("1,234", "mg")
    united = read_field("1,234 mg", NumberField(kind="number", unit="mg"), ".")
    assert united == Quantity("1,234", "mg")
    for odd in ("0,375", "12,34 mg"):
        with pytest.raises(InputError, match="a number with a comma"):
            read_amount(odd, ".")


def test_a_number_that_means_missing_is_known_by_the_mark_of_its_table():
    words = MissingWords(["-999"], {"t": ["-1,0"]}, ",")
    for value in ("-999", "-999,0", "-999.0", "-1,0", "-1.00", "-1", -1):
        assert words.known(value, "t") is None
    assert words.known("-1.000", "t") == "-1.000"  # a thousand


def test_a_number_that_means_missing_everywhere_is_known_as_one_of_a_column_is():
    for words in (MissingWords(["", "-999"], {}), MissingWords(["-999.0"], {"other": ["x"]})):
        for value in ("-999", "-999.0", " -999.00 ", -999, -999.0, Decimal("-999")):
            assert words.known(value, "t") is None
        for value in ("-99", -998.5, False, "-999 kg"):
            assert words.known(value, "t") == value


def test_a_word_that_is_listed_is_a_value_though_it_means_missing_elsewhere():
    words = MissingWords(["NA", "null"], {})
    assert words.known("na", "t") is None
    assert words.known(" NA ", "t", fold_words(["Na", "EU"])) == "NA"
    assert words.known("null", "t", fold_words(["Na", "EU"])) is None
    assert words.known(" ", "t", fold_words(["", " "])) is None


@pytest.mark.parametrize(
    ("value", "word"),
    [(Decimal("-1.0"), "-1"), (Decimal("-1"), "-1.0"), (99999999.0, "99999999"), (-1.5, "-1.5")],
)
def test_a_number_that_means_missing_is_known_however_it_is_stored(value: object, word: str):
    if float(str(value)).is_integer():
        assert MissingWords([], {"t": [word]}).known(f" {float(str(value))} ", "t") is None
    assert MissingWords([], {"t": [word]}).known(value, "t") is None
    assert MissingWords([], {"u": [word]}).known(value, "t") == value


@pytest.mark.parametrize(("unit", "hours"), [("seconds", 1 / 3600), ("days", 24), ("hours", 1)])
def test_times_become_hours(unit: str, hours: float):
    assert read_hours("1", unit, None, ".") == pytest.approx(hours)
    with pytest.raises(InputError):
        read_hours("-1", unit, None, ".")
