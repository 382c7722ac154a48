"""A cell means the same in a table that is scored as in one that is prepared."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from clients import InvalidInput, reading
from clients.answers import Model
from clients.columns import Columns
from clients.document import Document
from clients.reading import AS_USUAL, USUAL, Reading
from clients.target import Field, Target
from lanistr.errors import InputError
from lanistr.fields import CategoryField, NumberField, listed_words, whole
from lanistr.issues import IssueLog
from lanistr.preprocess.values import cleaner, read_value
from training.prepare.table.cells import read_field
from training.prepare.table.rows import MissingWords, fold_words

FIELDS = {
    "plain": NumberField(kind="number"),
    "h": NumberField(kind="number", unit="h"),
    "hours": NumberField(kind="number", unit="Hours"),
    "hrs": NumberField(kind="number", unit="hrs"),
    "days": NumberField(kind="number", unit="days"),
    "days of hours": NumberField(kind="number", unit="days", units={"h": {"scale": 1 / 24}}),
    "days of hr": NumberField(kind="number", unit="days", units={"hr": {"scale": 1 / 24}}),
    "mg": NumberField(kind="number", unit="mg"),
    "10^9/L": NumberField(kind="number", unit="10^9/L"),
    "category": CategoryField(kind="category"),
    "listed": CategoryField(kind="category", categories=("NA", "1,0", "2", "-999")),
}


def outcome(name, value):
    """Return what a field's cleaner makes of a value, or that it refuses it."""
    try:
        return cleaner(FIELDS[name])(value(), "", IssueLog())
    except InputError:
        return "refused"


def columns(names, reading):
    fields = {
        name: Field.read(Document(spec.model_dump(mode="json"))) for name, spec in FIELDS.items()
    }
    target = Target(
        task="t", model=Model(name="m", version="1", demo=False, raw={}), precision="fp32",
        modalities=("text", "tabular"), fields=fields, variables={}, label="binary", classes=(),
    )  # fmt: skip
    return Columns(names, target, Path(), reading=reading)


def served(name, cell, reading=AS_USUAL):
    try:
        record = columns([name], reading).record({name: cell})
    except InvalidInput:
        return "refused"
    return outcome(name, lambda: read_value(record["tabular"][name], ""))


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    "cell",
    [timedelta(days=3), timedelta(minutes=90), "1,234", "5e2 mg", "1,234 mg", "+1,234,567.5mg",
     "12,34 mg", "1,234,5 mg", "0,375 mg", "101 10^9/L", "1,234 10^9/l", "10110^9/L", "1 234"],
    ids=str,
)  # fmt: skip
def test_a_cell_is_the_same_scored_as_prepared(name, cell):
    prepared = outcome(name, lambda: read_field(cell, FIELDS[name], "."))
    assert served(name, cell) == prepared


@pytest.mark.parametrize(("cell", "value"), [("101 10^9/L", 101), ("1,234 10^9/l", 1234)])
def test_behind_white_space_a_unit_may_begin_with_a_digit(cell, value):
    assert served("10^9/L", cell) == value


@pytest.mark.parametrize("name", ["plain", "mg", "category", "listed"])
@pytest.mark.parametrize(
    "cell",
    ["62,9", "6.559", "-1.234.567,5", "62.9", "0.375", ".5", "17", "1e3", "1,234", "1,234,567",
     "1.23,4", "1,2,3", "62,9 mg", "6.559mg", "62.9 mg", "5e2 mg", "1,0", "1.0", "1.000", "2,0",
     "01.02.2020", "2020-01-31", "ca. 70", ",", {"value": "62,9", "unit": "mg"}, 62.9],
    ids=str,
)  # fmt: skip
def test_a_cell_with_a_decimal_comma_is_the_same_scored_as_prepared(name, cell):
    prepared = outcome(name, lambda: read_field(cell, FIELDS[name], ","))
    assert served(name, cell, Reading(decimal=",")) == prepared


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("name", ["plain", "category", "listed", "text"])
@pytest.mark.parametrize(
    "words", [USUAL, ("?", "-999"), ("k.A.", "-1,0", "1.5"), ("", "n/a")], ids=str
)
def test_the_same_words_mean_a_missing_value_in_a_table_that_is_scored(name, words, decimal):
    asked = Reading(decimal=decimal, missing=words, missing_in={name: ["7", "x Y", "-"]})
    told = MissingWords(words, asked.missing_in, decimal)
    listed = fold_words(listed_words(FIELDS[name])) if name in FIELDS else ()
    cells = [
        "?", " ? ", "-999", "-999.0", "-999,0", "-999.5", -999, -999.0, Decimal("-999"), "NA",
        "N/a", "nan", "", "  ", "K.a.", "-1", -1, "1.5", 1.5, "7", "07", 7, "7,0", "X Y", "-", "0",
    ]  # fmt: skip
    for cell in cells:
        if name == "text" and not isinstance(cell, str):
            continue
        try:
            record = columns(["id", name], asked).record({"id": "a", name: cell})
        except InvalidInput:  # a point where decimals have a comma
            missing = False
        else:
            missing = record == {"id": "a"}
        assert missing == (told.known(cell, name, listed) is None), cell


@pytest.mark.parametrize("decimal", [".", ","])
def test_whole_numbers_are_known_as_preparing_knows_them(decimal):
    for word in ["1.0", "1,0", "1.000", "01.000", "1000.000", "-5.00", "+5,00", "5", "x", "1.0.0"]:
        assert reading.whole(word, decimal) == whole(word, decimal), word
