"""A series as CSV."""

import pytest

from lanistr.errors import InputError
from lanistr.fields import CategoryField
from lanistr.issues import IssueLog
from lanistr.preprocess.values import cleaner, read_value
from lanistr.tasks import find_task
from service.inputs import csv
from training.prepare.table.cells import read_field


def test_numbers_words_and_gaps():
    text = "hours, heart_rate,gcs_eye\n0.5, 92,None\n1,,n/a\n\n2,NaN,To Pain\n"
    assert csv.decode(text, "timeseries", 100, {}) == [
        {"hours": 0.5, "heart_rate": 92, "gcs_eye": "None"},  # in charts, None is a finding
        {"hours": 1, "heart_rate": None, "gcs_eye": None},
        {"hours": 2, "heart_rate": None, "gcs_eye": "To Pain"},
    ]


def test_a_word_that_the_variable_lists_is_a_value_in_it():
    words = {"kind": "category", "categories": ["None", "N/A"], "synonyms": {"nan": "None"}}
    variables = {"rhythm": CategoryField.model_validate(words)}
    text = "hours,rhythm,other\n1,n/a,n/a\n2,NaN,NaN\n3,null,null\n"
    assert csv.decode(text, "timeseries", 100, variables) == [
        {"hours": 1, "rhythm": "n/a", "other": None},
        {"hours": 2, "rhythm": "NaN", "other": None},
        {"hours": 3, "rhythm": None, "other": None},
    ]


@pytest.mark.parametrize("cell", ["01", "007", "7.0", "3E2", "+5", "1e1", "1234567890123456789"])
def test_digits_of_a_category_are_the_word_that_they_are_where_tables_are_prepared(cell):
    listed = CategoryField(kind="category", categories=("01", "02", "3E2", "7"))
    for spec in (listed, CategoryField(kind="category")):
        (row,) = csv.decode(f"hours,code\n0, {cell}\n", "timeseries", 100, {"code": spec})
        served = cleaner(spec)(read_value(row["code"], ""), "", IssueLog())
        assert served == cleaner(spec)(read_field(cell, spec, "."), "", IssueLog())
        if cell != "7.0":
            assert served == cell


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("temperature", "101.3 degF"),
        ("temperature", " 101.3DEGF "),
        ("temperature", "1,013 degF"),
        ("temperature", "38 degC"),
        ("temperature", "1.013e2 °F"),
        ("temperature", "101.3"),
        ("temperature", "101.3 furlongs"),
        ("temperature", "0x2F"),
        ("heart_rate", "92 1/min"),
        ("heart_rate", "921/min"),
        ("heart_rate", "1 234"),
    ],
)
def test_a_number_with_its_unit_is_what_it_is_where_tables_are_prepared(name, cell):
    variables = find_task("mortality").timeseries.variables
    spec = variables[name]
    text = f'hours,{name},gcs_eye,other\n1,"{cell}","{cell}","{cell}"\n'
    (row,) = csv.decode(text, "timeseries", 100, variables)
    try:
        prepared = cleaner(spec)(read_field(cell.strip(), spec, "."), "", IssueLog())
    except InputError:
        assert row[name] == cell.strip()  # which is refused
    else:
        served = read_value(row[name], "")
        assert cleaner(spec)(served, "", IssueLog()) == prepared
    assert not isinstance(row["gcs_eye"], dict)  # a category has no unit
    assert not isinstance(row["other"], dict)


def test_behind_white_space_a_unit_may_begin_with_a_digit():
    variables = find_task("mortality").timeseries.variables
    (row,) = csv.decode("hours,heart_rate\n1,92 1/min\n", "timeseries", 100, variables)
    assert row["heart_rate"] == {"value": 92, "unit": "1/min"}


def test_quotes_and_windows_line_ends():
    text = 'hours,weight,gcs_eye\r\n1,"1,200","To\r\nPain"\r\n'
    assert csv.decode(text, "timeseries", 100, {}) == [
        {"hours": 1, "weight": "1,200", "gcs_eye": "To\r\nPain"}
    ]


def test_what_only_looks_like_a_number_is_a_word():
    text = "hours,a,b,c,d\n1,1_000,inf,1e2,-.5\n"
    assert csv.decode(text, "timeseries", 100, {}) == [
        {"hours": 1, "a": "1_000", "b": "inf", "c": 100.0, "d": -0.5}
    ]


def test_a_column_without_a_name_is_left_out_where_nothing_stands_in_it():
    text = "hours,,heart_rate,,\n0.5,,92,NA, \n1,,93,,\n"
    assert csv.decode(text, "timeseries", 100, {}) == [
        {"hours": 0.5, "heart_rate": 92},
        {"hours": 1, "heart_rate": 93},
    ]
    with pytest.raises(InputError) as caught:
        csv.decode("hours,heart_rate,\n1,80,\n2,81, 37.5\n", "timeseries", 100, {})
    refused = caught.value
    assert (refused.code, refused.field, refused.seen) == ("not_csv", "timeseries[1]", "37.5")
    assert (refused.message, refused.accepted) == (
        "column 3 has no name",
        "a column name in the first line, or no values in this column",
    )


@pytest.mark.parametrize("text", ["", "hours;heart_rate\n1;2\n", "a,b\n1,2\n", "hours,a,a\n1,2,3"])
def test_what_is_no_table_is_refused(text: str):
    with pytest.raises(InputError) as caught:
        csv.decode(text, "timeseries", 100, {})
    assert caught.value.code == "not_csv"
    assert "hours" in caught.value.accepted


def test_no_more_rows_are_read_than_may_come():
    rows, broken = "hours\n1\n\n2\n", '3\n"no end'
    assert csv.decode(rows, "timeseries", 2, {}) == [{"hours": 1}, {"hours": 2}]
    with pytest.raises(InputError) as caught:
        csv.decode(rows + broken, "timeseries", 2, {})
    assert (caught.value.code, caught.value.field) == ("too_many", "timeseries")
    assert (caught.value.seen, caught.value.accepted) == ("more than 2 rows", "at most 2")
