"""A user's files, wrong in every way we could think of: each is told by file, row and column."""

import copy
import gzip
import io
import json
import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lanistr.errors import LanistrError
from tests.training.prepare.tables import (
    COLUMNS,
    SERIES,
    SOURCE,
    TASK,
    as_csv,
    as_jsonl,
    picture,
    place,
    prepare_table,
    prepared,
    problems_of,
    rows,
    write_task,
)
from training.prepare.problems import Problems

Cases = list[dict[str, Any]]


@dataclass(frozen=True)
class Fault:
    """What is wrong in a folder, and how it must be told.

    Attributes:
        code: of the first problem.
        row: of it.
        column: of it.
        left: how many of the six cases are still prepared; None: the run stops.
        table: makes the table's bytes of the six good cases.
        file: the file that is named; the table itself by default.
        name: of the table.
        files: what else lies there.
        source: what is written in `source` beside the usual; None takes a key out.
        task: likewise in the task.
        says: a part of the message.
        arrange: does to the folder what bytes cannot.
    """

    code: str
    row: int | None = None
    column: str = ""
    left: int | None = None
    table: Callable[[Cases], bytes] = as_csv
    file: str = ""
    name: str = "cases.csv"
    files: Mapping[str, bytes] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""
    arrange: Callable[[Path], None] | None = None


FAULTS: dict[str, Fault] = {}


# ---- one cell -----------------------------------------------------------------------------------


def cell(column: str, value: str, code: str, left: int = 6, **more: Any) -> Fault:
    """Return a table whose second row has this in a column."""

    def table(cases: Cases) -> bytes:
        cases[1][column] = value
        return as_csv(cases)

    return Fault(code, 2, column, left, table, **more)


def json_cell(column: str, value: Any, code: str, left: int = 6, **more: Any) -> Fault:
    """Return the same as JSON lines."""

    def table(cases: Cases) -> bytes:
        cases[1][column] = value
        return as_jsonl(cases)

    return Fault(code, 2, column, left, table, name="cases.jsonl", **more)


FAULTS |= {
    "a decimal comma": cell("age", "37,5", "number_with_comma", says='decimal: ","'),
    "a decimal comma before three digits": cell("age", "0,375", "number_with_comma"),
    "digits without end before a comma": cell("age", "1" * 5000 + ",123", "wrong_type"),
    "a word for a number": cell("age", "old", "wrong_type", says="line 3: not a number"),
    "an unknown unit": cell("age", "54 kg", "unknown_unit", says="years"),
    "a unit with a typo": cell("temperature", "98 degFF", "unknown_unit", says="degF"),
    "a bound for a number": cell("age", ">90", "wrong_type"),
    "a range for a number": cell("age", "12-15", "wrong_type"),
    "an ISO date for a number": cell("age", "2020-01-25", "date_for_number"),
    "a local date for a number": cell("age", "25.01.2020", "date_for_number"),
    "infinity": cell("age", "inf", "not_finite"),
    "minus infinity": cell("age", "-Infinity", "not_finite"),
    "a number beyond all": cell("age", "1e999", "not_finite"),
    "digits of another script": cell("age", "\uff11\uff12", "wrong_type"),
    "an underscore in a number": cell("age", "4_5", "wrong_type", says="not a number"),
    "a number in base sixteen": cell("age", "0x20", "wrong_type", says="not a number"),
    "a number beyond all, with its unit": cell("age", "1e400 years", "not_finite"),
    "a word of truth for a number": cell("age", "true", "wrong_type"),
    "a missing word nobody named": cell("age", "unbekannt", "wrong_type"),
    "a truth for a number": json_cell("age", True, "wrong_type"),
    "a list for a number": json_cell("age", [1, 2], "nested_value"),
    "an object for a number": json_cell("age", {"years": 1}, "nested_value"),
    "a quantity in an unknown unit": json_cell("age", {"value": 1, "unit": "kg"}, "unknown_unit"),
    "NaN that is not missing": json_cell(
        "age", float("nan"), "not_finite", source={"missing": [""]}
    ),
    "Infinity in JSON": json_cell("age", float("inf"), "not_finite"),
    "a whole number beyond floats": json_cell("age", 10**400, "not_finite"),
    "one where another number means missing": json_cell(
        "age", 10**400, "not_finite", source={"missing_in": {"age": ["-1"]}}
    ),
    "a list for a category": json_cell("sex", ["F"], "nested_value"),
    "an object for a category": json_cell("sex", {"F": 1}, "nested_value"),
    "infinity for a category": json_cell("sex", float("-inf"), "not_finite"),
    "a number for a note": json_cell("note", 5, "wrong_type"),
    "a number among notes": json_cell("note", ["slept well", 5], "wrong_type"),
    "an object for a note": json_cell("note", {"text": "slept"}, "wrong_type"),
    "a point where decimals have a comma": Fault(
        "number_with_point", 1, "temperature", 6, source={"decimal": ","}
    ),
    # ---- label, id, group, split ----
    "a label outside its set": cell("died", "maybe", "bad_label", says="one of survived, died"),
    "a label with a typo": cell("died", "survivd", "bad_label", says="did you mean 'survived'"),
    "a code for a label": cell("died", "2", "bad_label", source={"label_words": {1: "died"}}),
    "a list for a label": json_cell("died", ["died"], "nested_value"),
    "infinity for a label": json_cell("died", float("inf"), "not_finite"),
    "a word for a regression label": cell(
        "age", "old", "bad_label", source={"label": "age"},
        task={"label": {"kind": "regression", "name": "age"}, "metric": "mae",
              "tabular": {"fields": {"sex": {"kind": "category"}}}},
    ),
    "a duration for a label in another unit": Fault(
        "unknown_unit", 1, "age", 6, lambda cases: as_parquet(
            [{**case, "age": timedelta(days=i)} for i, case in enumerate(cases)]
        ),
        name="cases.parquet", source={"label": "age"}, says="a number of days",
        task={"label": {"kind": "regression", "name": "age", "unit": "days"}, "metric": "mae",
              "tabular": {"fields": {"sex": {"kind": "category"}}}},
    ),
    "a label beyond floats": json_cell(
        "age", 10**400, "not_finite", source={"label": "age"},
        task={"label": {"kind": "regression", "name": "age"}, "metric": "mae",
              "tabular": {"fields": {"sex": {"kind": "category"}}}},
    ),
    "no id": cell("id", "", "missing_id", left=5),
    "an id that is a missing word": cell("id", " NA ", "missing_id", left=5),
    "an id twice": cell("id", "stay-1", "repeated_id", left=5, says="row 1"),
    "an id twice but for blanks": cell("id", "  stay-1 ", "repeated_id", left=5),
    "a list for an id": json_cell("id", ["a"], "nested_value", left=5),
    "an object for an id": json_cell("id", {"value": 1, "unit": "x"}, "nested_value", left=5),
    "no group": cell("patient", "", "missing_group", left=5),
    "an object for a group": json_cell("patient", {"a": 1}, "nested_value", left=5),
    "an object for a subgroup": json_cell(
        "sex", {"a": 1}, "nested_value", source={"subgroups": ["sex"]}
    ),
}  # fmt: skip


def split(
    words: list[str], code: str, row: int | None, left: int | None = 5, says: str = ""
) -> Fault:
    """Return a table with a column `fold`; rows 1 and 3 are of one patient."""

    def table(cases: Cases) -> bytes:
        for case, word in zip(cases, words, strict=True):
            case["fold"] = word
        cases[2]["patient"] = cases[0]["patient"]
        return as_csv(cases, columns=(*COLUMNS, "fold"))

    return Fault(code, row, "fold", left, table, source={"split": "fold"}, says=says)


FAULTS |= {
    "no split": split(["train", "", "train", "val", "test", "test"], "missing_split", 2),
    "no row to learn from": split(["test"] * 6, "no_training", None, left=None),
    "an unknown split": split(
        ["train", "fold2", "train", "val", "test", "test"], "unknown_split", 2, says="split_words"
    ),
    "a group in two splits": split(
        ["Train", "train", "test", "val", "test", "test"], "group_in_two_splits", 3,
        says="'p1' is already in train",
    ),
}  # fmt: skip


# ---- pictures -----------------------------------------------------------------------------------


def make_link(folder: Path) -> None:
    (folder.parent / "outside.png").write_bytes(picture())
    (folder / "link.png").symlink_to(folder.parent / "outside.png")


def make_huge(folder: Path) -> None:
    with (folder / "huge.png").open("wb") as file:
        file.truncate(200_000_001)


PNG = picture((60, 60))
FAULTS |= {
    "no such picture": cell("picture", "pictures/chst.png", "no_such_file"),
    "a picture of another ending": cell(
        "picture", "pictures/chest.PNG", "no_such_file", says="did you mean 'chest.png'?"
    ),
    "a picture outside the folder": cell("picture", "../outside.png", "outside_folder"),
    "a picture outside by a detour": cell(
        "picture", "pictures/../../outside.png", "outside_folder"
    ),
    "an absolute path": cell("picture", "/etc/passwd", "outside_folder", says="outside: true"),
    "an absolute path of Windows": cell("picture", "C:\\scans\\1.png", "outside_folder"),
    "a link out of the folder": cell("picture", "link.png", "outside_folder", arrange=make_link),
    "a link to itself": cell(
        "picture", "loop.png", "no_such_file",
        arrange=lambda folder: (folder / "loop.png").symlink_to("loop.png"),
    ),
    "an address for a picture": cell(
        "picture", "https://example.org/1.png", "not_a_path", says="nothing is downloaded"
    ),
    "a folder for a picture": cell("picture", "pictures", "not_a_file"),
    "a pipe for a picture": cell(
        "picture", "pipe.png", "not_a_file", arrange=lambda folder: os.mkfifo(folder / "pipe.png")
    ),
    "a name too long for a file": cell("picture", "x" * 300 + ".png", "not_a_path"),
    "an empty picture": cell("picture", "a.png", "empty_file", files={"a.png": b""}),
    "text for a picture": cell("picture", "a.png", "not_an_image", files={"a.png": b"hello"}),
    "a DICOM picture": cell(
        "picture", "a.dcm", "not_an_image", files={"a.dcm": bytes(128) + b"DICM" + bytes(40)},
        says="DICOM",
    ),
    "a vector picture": cell("picture", "a.svg", "not_an_image", files={"a.svg": b"<svg/>"}),
    "a picture that breaks off": cell(
        "picture", "a.png", "broken_image", files={"a.png": PNG[:70]}
    ),
    "a JPEG that breaks off": cell(
        "picture", "a.jpg", "broken_image", files={"a.jpg": picture((90, 90), "JPEG")[:400]}
    ),
    "a picture of too many pixels": cell(
        "picture", "a.png", "image_too_large", files={"a.png": picture((8000, 6000))}
    ),
    "pictures of too many pixels together": cell(
        "picture", "a.png; a.png; a.png", "image_too_large", files={"a.png": picture((5000, 4000))},
        source={"image": {"columns": ["picture"], "separator": ";"}},
        says="60,000,000 pixels together with the images before it",
    ),
    "a picture of too many bytes": cell("picture", "huge.png", "huge_file", arrange=make_huge),
    "one of several pictures": cell(
        "picture", "pictures/chest.png; gone.png", "no_such_file",
        source={"image": {"columns": ["picture"], "separator": ";"}},
    ),
    "a number for a picture": json_cell("picture", 7, "not_a_path"),
    "a NUL in a path": json_cell("picture", "a\x00.png", "not_a_path"),
    "an object among pictures": json_cell("picture", [{"path": "a.png"}], "not_a_path"),
}  # fmt: skip


# ---- a series of its own for each case ----------------------------------------------------------


def own_series(
    text: str | bytes, code: str, row: int | None, column: str, name: str = "series/odd.csv",
    **more: Any,
) -> Fault:  # fmt: skip
    """Return a table whose second case has this series."""
    data = text.encode() if isinstance(text, str) else text

    def table(cases: Cases) -> bytes:
        cases[1]["vitals"] = name
        return as_csv(cases)

    return Fault(code, row, column, 6, table, name, files={name: data}, **more)


def inline(items: Any, code: str, column: str, **more: Any) -> Fault:
    """Return JSON lines whose second case has its series in the line."""

    def table(cases: Cases) -> bytes:
        for case in cases:
            case["vitals"] = [{"hours": 0, "pulse": 80, "ph": 7.4}]
        cases[1]["vitals"] = items
        return as_jsonl(cases)

    return Fault(code, 2, column, 6, table, name="cases.jsonl", **more)


FAULTS |= {
    "no such series": cell("vitals", "series/none.csv", "no_such_file"),
    "a series outside the folder": cell("vitals", "../../x.csv", "outside_folder"),
    "a folder for a series": cell("vitals", "series", "not_a_file"),
    "an empty series": cell("vitals", "a.csv", "empty_file", files={"a.csv": b""}),
    "a series without its time": own_series(
        "hour,pulse\n1,80\n", "missing_column", None, "hours", says="did you mean 'hour'?"
    ),
    "a series with its header alone": own_series("hours,pulse\n", "header_only", None, ""),
    "a row without its time": own_series("hours,pulse\n0,80\n,90\n", "no_time", 2, "hours"),
    "a negative time": own_series("hours,pulse\n0,80\n-3,90\n", "negative_hours", 2, "hours"),
    "a word for a time": own_series("hours,pulse\nnoon,80\n", "not_a_time", 1, "hours"),
    "an infinite time": own_series("hours,pulse\n1e999,80\n", "not_finite", 1, "hours"),
    "a date for a time": own_series(
        "hours,pulse\n2020-01-01 10:00,80\n", "date_for_number", 1, "hours", says="start"
    ),
    "a clock for a time": own_series("hours,pulse\n10:30,80\n", "not_a_time", 1, "hours"),
    "a decimal comma in a series": own_series(
        "hours;pulse\n0;80\n1;80,5\n", "number_with_comma", 2, "pulse"
    ),
    "a word for a measurement": own_series("hours,pulse\n0,fast\n", "wrong_type", 1, "pulse"),
    "a variable that is none": own_series(
        "hours,pulse,pulze\n0,80,81\n1,80,81\n", "unknown_variable", 1, "pulze", says="ignore"
    ),
    "a ragged row in a series": own_series("hours,pulse\n0,80\n1\n", "ragged_row", 2, "pulse"),
    "an open quote in a series": own_series('hours,pulse\n0,"80\n', "unclosed_quote", 1, ""),
    "a picture for a series": own_series(PNG, "not_a_table", None, "", says="a picture"),
    "a series cut off": own_series(
        gzip.compress(SERIES.encode())[:-12], "cut_off", 1, "", "series/odd.csv.gz"
    ),
    "a column twice in a series": own_series(
        "hours,pulse,pulse\n0,80,80\n", "repeated_column", None, "pulse"
    ),
    "no object in a series": inline([{"hours": 0, "pulse": 1}, 5], "wrong_type", "vitals"),
    "a negative time in the line": inline(
        [{"hours": 0, "pulse": 80}, {"hours": -1, "pulse": 80}],
        "negative_hours",
        "vitals[1].hours",
    ),
    "a time beyond floats": inline(
        [{"hours": 10**400, "pulse": 8}], "not_finite", "vitals[0].hours"
    ),
    "a truth for a time": inline([{"hours": True, "pulse": 8}], "not_a_time", "vitals[0].hours"),
    "a variable that is none in the line": inline(
        [{"hours": 0, "puls": 80}], "unknown_variable", "vitals[0].puls", says="'pulse'"
    ),
    "a list for a measurement": inline(
        [{"hours": 0, "pulse": [80]}], "nested_value", "vitals[0].pulse"
    ),
    "an object for a series": json_cell("vitals", {"hours": [0]}, "not_a_path"),
    "a variable that no series has": Fault(
        "never_measured", None, "pulse", 6,
        files={"series/vitals.csv": b"hours,ph\n0,7.4\n"},
    ),
}  # fmt: skip


# ---- one table of all series --------------------------------------------------------------------

LONG = {"variable": "name", "value": "value", "unit": "unit"}


def all_series(
    text: str, code: str, row: int | None, column: str, left: int | None = 6, **columns: Any
) -> Fault:
    """Return a table whose series stand in one table; keys of `columns` are of its description."""
    says = columns.pop("says", "")
    described = {"file": "all.csv", "id": "stay", **columns}
    return Fault(
        code, row, column, left, file="all.csv", files={"all.csv": text.encode()},
        source={"timeseries": described}, says=says,
    )  # fmt: skip


WIDE = "stay,hours,pulse,ph\nstay-1,0,80,7.4\n"
FAULTS |= {
    "a series' table that is not there": Fault(
        "no_such_file", file="none.csv", source={"timeseries": {"file": "none.csv", "id": "stay"}}
    ),
    "a series' table without ids": all_series(
        "case,hours,pulse,ph\nstay-1,0,80,7\n", "missing_column", None, "stay", None
    ),
    "a series' table without a variable": all_series(
        "stay,hours,pulse,pH\nstay-1,0,80,7\n", "missing_column", None, "ph", None, says="pH"
    ),
    "a series' table without times": all_series(
        "stay,time,pulse,ph\nstay-1,0,80,7\n", "missing_column", None, "hours", None
    ),
    "a row of no case": all_series(WIDE + ",1,80,7\n", "missing_id", 2, "stay"),
    "a series' table of other cases": all_series(
        "stay,hours,pulse,ph\n17,0,80,7\n", "no_case_matches", None, "stay", None, says="'stay-1'"
    ),
    "a negative time among all": all_series(WIDE + "stay-2,-1,8,7\n", "negative_hours", 2, "hours"),
    "minutes that are no number": all_series(
        WIDE + "stay-2,1h,8,7\n", "not_a_time", 2, "hours", time_unit="minutes"
    ),
    "a long row of an unknown variable": all_series(
        "stay,hours,name,value,unit\nstay-1,0,pulse,80,\nstay-1,0,ph,7,\nstay-1,1,Temp,37,C\n",
        "unknown_variable", 3, "name", **LONG,
    ),
    "a long row of no variable": all_series(
        "stay,hours,name,value,unit\nstay-1,0,pulse,80,\nstay-1,0,ph,7,\nstay-1,1,,37,C\n",
        "no_variable", 3, "name", **LONG,
    ),
    "a long row in an unknown unit": all_series(
        "stay,hours,name,value,unit\nstay-1,0,ph,7,\nstay-1,1,pulse,1,Hz\n",
        "unknown_unit", 2, "value", **LONG,
    ),
    "a long row with a word": all_series(
        "stay,hours,name,value,unit\nstay-1,0,ph,7,\nstay-1,1,pulse,fast,\n",
        "wrong_type", 2, "value", **LONG,
    ),
    "a long table without values": all_series(
        "stay,hours,name\nstay-1,0,ph\n", "missing_column", None, "name2", None,
        variable="name2", value="value",
    ),
}  # fmt: skip


def dated(start: str, time: str, code: str, row: int, column: str, of_series: bool) -> Fault:
    """Return a table of series with dates, and the second case's start."""

    def table(cases: Cases) -> bytes:
        for case in cases:
            case["admitted"] = "2020-01-01 08:00"
        cases[1]["admitted"] = start
        return as_csv(cases, columns=(*COLUMNS, "admitted"))

    text = f"stay,when,pulse,ph\nstay-1,2020-01-01 09:00,80,7\nstay-2,{time},80,7\n"
    described = {"file": "all.csv", "id": "stay", "time": "when", "start": "admitted"}
    return Fault(
        code, row, column, 6, table, "all.csv" if of_series else "",
        files={"all.csv": text.encode()}, source={"timeseries": described},
    )  # fmt: skip


FAULTS |= {
    "no start to count from": dated("", "2020-01-01 10:00", "no_start", 2, "admitted", False),
    "a start that is no date": dated("noon", "2020-01-01", "not_a_date", 2, "admitted", False),
    "a time that is no date": dated("2020-01-01", "1.5", "not_a_date", 2, "when", True),
    "a time zone on one side": dated(
        "2020-01-01", "2020-01-01T10:00+02:00", "time_zone", 2, "when", True
    ),
}


def test_the_report_tells_what_was_lost_while_the_table_was_read(tmp_path: Path):
    cases = rows(8)
    for case, age in zip(cases, ("ca. 70", "ca. <b>", "ca. 72", "ca. 73"), strict=False):
        case["age"] = age
    cases.append({**cases[7], "id": "stay-8", "note": "again"})
    data = prepared(tmp_path, as_csv(cases))
    report = json.loads((data.folder / "report.json").read_text())
    lost, left_out = report["problems"]
    assert (lost["column"], lost["code"], lost["times"]) == ("age", "wrong_type", 4)
    assert [each["seen"] for each in lost["examples"]] == ["ca. 70", "ca. <b>", "ca. 72"]
    assert (left_out["column"], left_out["code"], left_out["times"]) == ("id", "repeated_id", 1)
    html = (data.folder / "report.html").read_text()
    assert "ca. 70 (1), ca. &lt;b&gt; (2), ca. 72 (3)" in html


def test_what_was_lost_is_told_though_the_file_that_lists_it_was_moved_away(tmp_path: Path):
    lost = Problems(tmp_path / "problems.jsonl", 9)
    for row in range(1, 5):
        lost.add("wrong_type", "not a number", file="a.csv", row=row, column="age", seen=f"x{row}")
    kept = lost.counts.copy()
    told = lost.by_column()
    lost.add("repeated_id", "there twice", file="b.csv", row=1, column="id", seen="stay-8")
    lost.add("wrong_type", "not a number", file="b.csv", row=1, column="age", seen="x1")
    lost.take_back(kept)  # of a file that is read once more
    (tmp_path / "problems.jsonl").unlink()
    first = [{"row": row, "seen": f"x{row}"} for row in (1, 2, 3)]
    assert lost.by_column() == told
    assert told == [{"column": "age", "code": "wrong_type", "times": 4, "examples": first}]


# ---- rows ---------------------------------------------------------------------------------------


def text_of(change: Callable[[str], str], encoding: str = "utf-8") -> Callable[[Cases], bytes]:
    """Return a maker of the good CSV, changed."""
    return lambda cases: change(as_csv(cases).decode()).encode(encoding)


def line(number: int, change: Callable[[str], str]) -> Callable[[Cases], bytes]:
    """Return a maker of the good CSV with one line (from 1) changed."""

    def apply(text: str) -> str:
        lines = text.splitlines()
        lines[number - 1] = change(lines[number - 1])
        return "\n".join(lines) + "\n"

    return text_of(apply)


def json_line(number: int, text: bytes) -> Callable[[Cases], bytes]:
    """Return a maker of the good JSON lines with one line (from 1) replaced."""

    def apply(cases: Cases) -> bytes:
        lines = as_jsonl(cases).splitlines()
        lines[number - 1] = text
        return b"\n".join(lines) + b"\n"

    return apply


def bad_line(text: bytes, code: str, column: str = "", **more: Any) -> Fault:
    return Fault(code, 3, column, 5, json_line(3, text), name="cases.jsonl", **more)


FAULTS |= {
    "a row with one cell more": Fault(
        "ragged_row", 2, "died", 5, line(3, lambda row: row + ",more"), says="line 3: 10 cells"
    ),
    "a row with one cell less": Fault(
        "ragged_row", 2, "died", 5, line(3, lambda row: row.rpartition(",")[0])
    ),
    "a comma in text without quotes": Fault(
        "ragged_row", 2, "died", 5, line(3, lambda row: row.replace('"', ""))
    ),
    "a row that breaks off": Fault("ragged_row", 6, "patient", 5, line(7, lambda row: row[:6])),
    "the same row twice": Fault(
        "repeated_row", 3, "", 5, lambda cases: as_csv([*cases[:2], cases[1], *cases[3:]])
    ),
    "the same row twice without ids": Fault(
        "repeated_row", 3, "", 5, lambda cases: as_csv([*cases[:2], cases[1], *cases[3:]]),
        source={"id": None, "group": None},
    ),
    "a row with nothing in it": Fault(
        "nothing_usable", 2, "", 5,
        lambda cases: as_csv(
            [cases[0], {"id": "b", "patient": "b", "died": "died"}, *cases[2:]]
        ),
    ),
    "a line that is no object": bad_line(b'["stay-3"]', "not_an_object"),
    "a line that is a word": bad_line(b'"stay-3"', "not_an_object"),
    "a line that is no JSON": bad_line(b"{'id': 'stay-3'}", "not_json", says="line 3"),
    "a line that breaks off": bad_line(b'{"id": "stay-3", "age": 4', "not_json"),
    "a comma after the object": bad_line(b'{"id": "stay-3"},', "not_json"),
    "a key twice": bad_line(b'{"id": "stay-3", "age": 4, "age": 5}', "repeated_key", "age"),
    "half a character": bad_line(b'{"id": "stay-3", "note": "\\ud83d"}', "not_unicode"),
    "objects without end": bad_line(b'{"a":' * 100_000, "not_json"),
    "digits without end": bad_line(b'{"age": ' + b"9" * 5000 + b"}", "not_json"),
}  # fmt: skip


# ---- the file as a whole ------------------------------------------------------------------------


def as_parquet(cases: Cases) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(cases).write_parquet(out)
    return out.getvalue()


def parquet_cell(column: str, array: Any, code: str, left: int = 6, **more: Any) -> Fault:
    """Return a Parquet table whose second row has something in a column that Python cannot hold."""

    def table(cases: Cases) -> bytes:
        columns = pa.Table.from_pylist(cases)
        columns = columns.set_column(columns.column_names.index(column), column, array)
        out = io.BytesIO()
        pq.write_table(columns, out)
        return out.getvalue()

    return Fault(code, 2, column, left, table, name="cases.parquet", **more)


WORDS = pa.array([b"F", b"m\xe4nnlich", *[b"M"] * 4])
NO_TEXT = pa.Array.from_buffers(pa.string(), len(WORDS), WORDS.buffers())
HOURS = [0, 2**62, 0, 0, 0, 0]


def empty_parquet(cases: Cases) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(cases).clear().write_parquet(out)
    return out.getvalue()


def twin_parquet(cases: Cases) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["id", "id"]), out)
    return out.getvalue()


def torn_parquet(cases: Cases) -> bytes:
    data = bytearray(as_parquet(cases))
    data[4:300] = bytes(296)
    return bytes(data)


def a_database(cases: Cases) -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE cases (id TEXT)")
        data = bytes(database.serialize())
    database.close()
    return data


def constant(data: bytes) -> Callable[[Cases], bytes]:
    return lambda _: data


def remove(folder: Path) -> None:
    (folder / "cases.csv").unlink()


def make_folder(folder: Path) -> None:
    remove(folder)
    (folder / "cases.csv").mkdir()
    (folder / "cases.csv" / "part-1.csv").write_bytes(b"id\n1\n")


def make_pipe(folder: Path) -> None:
    remove(folder)
    os.mkfifo(folder / "cases.csv")


HEADER = ",".join(COLUMNS).encode()
FAULTS |= {
    "no such table": Fault("no_such_file", arrange=remove),
    "a folder for a table": Fault("a_folder", arrange=make_folder, says="part-1.csv"),
    "a pipe for a table": Fault("not_a_file", arrange=make_pipe),
    "an empty table": Fault("empty_file", table=constant(b"")),
    "a table of blanks": Fault("empty_file", table=constant(b" \n\n")),
    "a table of a byte-order mark": Fault("empty_file", table=constant(b"\xef\xbb\xbf")),
    "a header alone": Fault("header_only", table=constant(HEADER + b"\n")),
    "a header with its newline missing": Fault("header_only", table=constant(HEADER)),
    "UTF-16": Fault(
        "utf16", table=text_of(str, "utf-16"), says="encoding: utf-16"
    ),
    "UTF-16 without a mark": Fault("nul_byte", table=text_of(str, "utf-16-le"), says="UTF-16"),
    "a letter of Windows": Fault(
        "not_utf8", 2, "note", says="cp1252",
        table=text_of(lambda text: text.replace("42,36.5,F,\"", "42,36.5,F,\"schön "), "cp1252"),
    ),
    "a letter of Windows in the header": Fault(
        "not_utf8", None, "", table=lambda cases: as_csv(cases).replace(b"sex", b"m\xe4nnlich")
    ),
    "a letter of Windows in JSON": Fault(
        "not_utf8", 3, "", table=json_line(3, b'{"id": "stay-3", "note": "sch\xf6n"}'),
        name="cases.jsonl",
    ),
    "another delimiter than named": Fault(
        "missing_column", None, "id", source={"delimiter": ";"}, says="give the delimiter"
    ),
    "a quote that is never closed in the header": Fault(
        "unclosed_quote", table=constant(b'id;"age\n' + b"1;2\n" * 100), says="line 1"
    ),
    "two delimiters in the header": Fault(
        "which_delimiter", table=constant(b"id;age,sex\n1;2,3\n"), says="delimiter: ',' or ';'",
    ),
    "a column that is not there": Fault(
        "missing_column", None, "patient",
        table=lambda cases: as_csv(cases).replace(b"patient", b"patients"),
        says="did you mean 'patients'?",
    ),
    "a field that is not there": Fault(
        "missing_column", None, "temperature",
        table=lambda cases: as_csv(cases).replace(b"temperature", b"Temperature"),
        says="'Temperature'",
    ),
    "a column with missing words that is not there": Fault(
        "missing_column", None, "weight",
        source={"missing_in": {"weight": ["-1"]}, "timeseries": None}, task={"timeseries": None},
    ),
    "a column that no line of JSON has": Fault(
        "missing_column", None, "patient", name="cases.jsonl", says="did you mean 'patients'?",
        table=lambda cases: as_jsonl(cases).replace(b'"patient"', b'"patients"'),
    ),
    "a column twice": Fault(
        "repeated_column", None, "sex", table=lambda c: as_csv(c).replace(b",age,", b",sex,")
    ),
    "a column twice but for blanks": Fault(
        "repeated_column", None, "sex", table=lambda c: as_csv(c).replace(b",age,", b", sex ,")
    ),
    "a quote that is never closed": Fault(
        "unclosed_quote", 2, "", table=line(3, lambda row: row.replace('well"', "well")),
        says="line 3",
    ),
    "text after a closing quote": Fault(
        "bad_quote", 2, "", table=line(3, lambda row: row.replace('well"', 'well" x')),
        says="line 3",
    ),
    "a NUL byte": Fault("nul_byte", 2, "sex", table=line(3, lambda r: r.replace(",F,", ",\0,"))),
    "a NUL byte in JSON": Fault(
        "nul_byte", 3, "", table=json_line(3, b'{"id": "\x00"}'), name="cases.jsonl"
    ),
    "gz in name alone": Fault("not_gzip", name="cases.csv.gz"),
    "a compressed table that breaks off": Fault(
        "cut_off", 2, "", name="cases.csv.gz",
        table=lambda c: gzip.compress(as_csv(c))[:-40],
    ),
    "a compressed table with wrong bytes": Fault(
        "cut_off", 7, "", name="cases.csv.gz",
        table=lambda c: gzip.compress(as_csv(c))[:-8] + bytes(8),
    ),
    "a compressed table with nothing in it": Fault(
        "empty_file", name="cases.csv.gz", table=lambda _: gzip.compress(b"")
    ),
    "a workbook": Fault("not_a_table", table=constant(b"PK\x03\x04 xlsx"), says="Excel"),
    "an old workbook": Fault(
        "not_a_table", table=constant(b"\xd0\xcf\x11\xe0 xls"), says="save the sheet as CSV"
    ),
    "a database": Fault("not_a_table", table=a_database, says="a database"),
    "a PDF": Fault("not_a_table", table=constant(b"%PDF-1.7\n"), says="a PDF"),
    "a picture for a table": Fault("not_a_table", table=constant(PNG), says="a picture"),
    "another compression": Fault("not_a_table", table=constant(b"BZh91AY"), says="bzip2"),
    "Parquet in name alone": Fault("not_parquet", name="cases.parquet"),
    "Parquet that breaks off": Fault(
        "damaged_parquet", table=lambda c: as_parquet(c)[:-60], name="cases.parquet"
    ),
    "Parquet with torn pages": Fault(
        "damaged_parquet", 1, "", table=torn_parquet, name="cases.parquet"
    ),
    "a word of Parquet in another encoding": parquet_cell("sex", NO_TEXT, "unreadable_value"),
    "a note of Parquet in another encoding": parquet_cell("note", NO_TEXT, "wrong_type"),
    "a name of Parquet in another encoding": parquet_cell("id", NO_TEXT, "unreadable_value", 2),
    "a duration of Parquet without end": parquet_cell(
        "age", pa.array(HOURS, pa.duration("ms")), "unreadable_value",
        task={"tabular": {"fields": {"age": {"kind": "number", "unit": "h"}}}},
    ),
    "a date of Parquet after the year 9999": parquet_cell(
        "sex", pa.array(HOURS, pa.timestamp("us")), "unreadable_value"
    ),
    "Parquet without rows": Fault("no_rows", table=empty_parquet, name="cases.parquet"),
    "Parquet with a column twice": Fault(
        "repeated_column", None, "id", table=twin_parquet, name="cases.parquet"
    ),
    "one JSON list": Fault(
        "not_json_lines", table=lambda c: json.dumps(c).encode(), name="cases.json"
    ),
    "JSON lines without a line": Fault("empty_file", table=constant(b"\n"), name="cases.jsonl"),
}  # fmt: skip


# ---- the test -----------------------------------------------------------------------------------


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description with keys changed, or taken out where the change is None."""
    found = {**copy.deepcopy(dict(base)), **changes}
    return {key: value for key, value in found.items() if value is not None or key == "id"}


@pytest.mark.parametrize("fault", [pytest.param(each, id=name) for name, each in FAULTS.items()])
def test_a_fault_is_told_by_file_row_and_column(fault: Fault, tmp_path: Path):
    raw, out = tmp_path / "raw", tmp_path / "made" / "data"
    raw.mkdir()
    place(raw, {fault.name: fault.table(rows()), **fault.files})
    task = write_task(raw, merged(TASK, fault.task), merged(SOURCE, fault.source))
    if fault.arrange:
        fault.arrange(raw)
    if fault.left is None:
        with pytest.raises(LanistrError) as caught:
            prepare_table(raw / fault.name, task, out)
        assert caught.value.code == fault.code
        assert [path.name for path in out.parent.iterdir()] == ["data.problems.jsonl"]
    else:
        data = prepare_table(raw / fault.name, task, out)
        assert data is not None
        assert len(data) == fault.left
        assert data.card.source["problems"][fault.code] >= 1
        assert data.card.refused == {}
    first = problems_of(out)[0]
    told = (first["code"], first["row"], first["column"])
    assert told == (fault.code, fault.row, fault.column), first
    assert first["file"].endswith(fault.file or fault.name), first
    assert fault.says in first["message"], first


def test_there_are_a_hundred_ways_and_their_codes_are_documented():
    assert len(FAULTS) >= 100
    page = (Path(__file__).resolve().parents[3] / "docs" / "bring-your-data.md").read_text("utf-8")
    documented = set(re.findall(r"`([a-z0-9_]+)`", page))
    assert {fault.code for fault in FAULTS.values()} <= documented
