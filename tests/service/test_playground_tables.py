"""Tables in the playground, which takes them as the service takes the same text."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from lanistr.errors import InputError
from lanistr.fields import CategoryField
from lanistr.tasks import find_task
from service.inputs import csv
from tests.pages import ask, opening, paste
from tests.servers import Server

SERIES = find_task("physionet2012").timeseries
assert SERIES is not None
RHYTHM = CategoryField(kind="category", categories=("sinus", "N/A"), synonyms={"nan": "sinus"})
SERIES = SERIES.model_copy(update={"variables": {**SERIES.variables, "rhythm": RHYTHM}})


@pytest.fixture(scope="module")
def loaded(browser: Browser, served: Server) -> Iterator[Page]:
    """A page, of which nothing but its modules is used."""
    with opening(browser, served.url) as open_:
        yield open_()


def taken(loaded: Page, text: str) -> Any:
    """Return the rows that the page would send of a table, or why it takes none."""
    return loaded.evaluate(
        "async ([text, spec]) => {"
        "  const { Part } = await import('/playground/timeseries.js');"
        "  const part = new Part(spec, () => {});"
        "  part.take(text);"
        "  return part.whole.list.textContent || part.read();"
        "}",
        [text, SERIES.model_dump(mode="json", exclude_none=True)],
    )


def quantity(name: str, value: float, unit: str) -> dict[str, Any]:
    return {"hours": 2, name: {"value": value, "unit": unit}}


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("hours,Na,K\n0.5,140,4\n1,141,na\n", {"hours": 1, "Na": 141}),  # sodium
        ("hours,rhythm,HR\n1,n/a,n/a\n2,NaN,NaN\n", {"hours": 2, "rhythm": "NaN"}),
        ("hours,rhythm,HR\n1, nA ,Null\n2,null,60\n", {"hours": 2, "HR": 60}),
        ("hours,HR\r0.5,60\r1.5,61\r", {"hours": 1.5, "HR": 61}),
        ("hours,HR\r\n0.5,60\n\r\n1.5,61", {"hours": 1.5, "HR": 61}),
        ('hours, "HR"\r\n1,"60"\r\n"2", 61\r\n', {"hours": 2, "HR": 61}),
        ('hours,rhythm\n1,sinus\n2,"a ""b"",\r\nc"\n', {"hours": 2, "rhythm": 'a "b",\r\nc'}),
        ("\n\nhours,HR\n1,60\n", {"hours": 1, "HR": 60}),
        ("hours,,HR,,\n0.5,,92,NA, \n1,,93,,\n", {"hours": 1, "HR": 93}),
        ("hours,Temp\n1,38 DEGC\n2,101.3DEGF\n", quantity("Temp", 101.3, "DEGF")),
        ('hours,Temp\n1,38 k\n2,"1,013 F"\n', quantity("Temp", 1013, "F")),
        ("hours,Temp\n1,1.013e2  f\n2,38 k\n", {"hours": 2, "Temp": "38 k"}),
        ("hours,Temp\n1,1013F1\n2,1e400 F\n", {"hours": 2, "Temp": "1e400 F"}),
        ("hours,HR\n1,921/min\n2,92 1/min\n", quantity("HR", 92, "1/min")),
        (
            "hours,Creatinine\n1,80 \u00b5mol/L\n2,80\u03bcMOL/l\n",
            quantity("Creatinine", 80, "\u03bcMOL/l"),
        ),
    ],
)
def test_a_table_is_read_as_the_service_reads_it(loaded, text, last):
    rows = csv.decode(text, "timeseries", 100, SERIES.variables)
    present = [{name: each for name, each in row.items() if each is not None} for row in rows]
    assert taken(loaded, text) == present
    assert present[-1] == last


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1,013.5 F", 1013.5), ("-1,013,000F", -1013000), ("0,375 F", None), ("1,01 F", None)],
)
def test_thousands_may_have_commas_before_a_unit(loaded, cell, value):
    (row,) = taken(loaded, f"hours\tTemp\n2\t{cell}\n")
    assert row["Temp"] == (cell if value is None else {"value": value, "unit": "F"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('hours,HR\n0.5,"80"1\n', "Text after a closing quotation mark in line 2"),
        ('hours,HR\r0.5,"80" \r1,81\r', "Text after a closing quotation mark in line 2"),
        ('hours,HR\n0.5,80\n1,"81\n2,82\n', "A quotation mark that is not closed in line 3"),
        ("hours,HR,\n0.5,80,\n1,81,37\n", "A column without a name: row 2 has 37 in column 3"),
        ("hours,,HR,\n0.5,x,80,y\n", "A column without a name: row 1 has x in column 2"),
    ],
)
def test_a_table_that_the_service_refuses_is_refused(loaded, text, said):
    with pytest.raises(InputError):
        csv.decode(text, "timeseries", 100, SERIES.variables)
    assert taken(loaded, text) == said


def test_cells_end_where_lines_do_whichever_way_these_end(open_page):
    page = open_page()
    paste(page.get_by_label("hours, row 1", exact=True), "0.5\t60\r1.5\t61\r")
    for row, values in enumerate((("0.5", "60"), ("1.5", "61")), 1):
        for name, value in zip(("hours", "diastolic_bp"), values, strict=True):
            expect(page.get_by_label(f"{name}, row {row}", exact=True)).to_have_value(value)
    expect(page.get_by_label("hours, row 3", exact=True)).to_be_hidden()


def test_copied_cells_with_a_stray_quote_are_not_taken(open_page):
    page = open_page()
    paste(page.get_by_label("hours, row 1", exact=True), '0.5\t"60\n1.5\t61\n')
    expect(page.get_by_text("A quotation mark that is not closed in line 1")).to_be_visible()
    expect(page.get_by_label("hours, row 1", exact=True)).to_have_value("")


def test_a_row_added_to_a_long_series_can_be_filled(open_page):
    page = open_page()
    page.get_by_text("Paste or open CSV").click()
    rows = "".join(f"{k / 100},80\n" for k in range(203))
    page.get_by_label("CSV, with the column names in the first line").fill(
        f"hours,heart_rate\n{rows}"
    )
    page.get_by_role("button", name="Use as series").click()
    expect(page.get_by_text("3 more rows are not shown")).to_be_visible()
    page.get_by_role("button", name="Add a row").click()
    added = page.get_by_label("hours, row 204", exact=True)
    expect(added).to_be_focused()
    added.fill("3")
    page.get_by_label("heart_rate, row 204", exact=True).fill("9999")
    expect(page.get_by_text("3 more rows are not shown")).to_be_visible()
    ask(page)
    page.get_by_role("button", name="timeseries[203].heart_rate", exact=True).click()
    expect(page.get_by_label("heart_rate, row 204", exact=True)).to_be_focused()
    page.get_by_role("button", name="Remove row 204", exact=True).click()
    expect(page.get_by_label("hours, row 200", exact=True)).to_be_focused()


def test_copied_cells_beyond_the_last_column_are_said_to_be_left_out(open_page):
    page = open_page()
    last = page.locator(".series tbody input").last
    paste(last, "60\t\n61\t\n")
    expect(last).to_have_value("61")
    said = page.get_by_text("Cells beyond the last column were left out")
    expect(said).to_be_hidden()
    paste(last, "62\t120\n")
    expect(said).to_be_visible()
    expect(last).to_have_value("62")
