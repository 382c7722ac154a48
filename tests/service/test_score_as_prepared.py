"""A cell means the same in a table that is scored as in one that is prepared."""

from datetime import timedelta
from pathlib import Path

import pytest

from clients.answers import Model
from clients.columns import Columns
from clients.document import Document
from clients.target import Field, Target
from lanistr.errors import InputError
from lanistr.issues import IssueLog
from lanistr.preprocess.values import cleaner, read_value
from lanistr.tasks import CategoryField, NumberField
from training.prepare.table.cells import read_field

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
}


def outcome(name, value):
    """Return what a field's cleaner makes of a value, or that it refuses it."""
    try:
        return cleaner(FIELDS[name])(value(), "", IssueLog())
    except InputError:
        return "refused"


def served(name, cell):
    described = {name: Field.read(Document(FIELDS[name].model_dump(mode="json")))}
    target = Target(
        task="t", model=Model(name="m", version="1", demo=False, raw={}), precision="fp32",
        modalities=("tabular",), fields=described, variables={}, label="binary", classes=(),
    )  # fmt: skip
    record = Columns([name], target, Path()).record({name: cell})
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
