"""A user's own table: every format and shape gives the same cases."""

import gzip
import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.tasks import find_task
from tests.training.prepare.tables import (
    COLUMNS,
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
from training.data.store import Dataset
from training.prepare.__main__ import KINDS, _parser
from training.prepare.problems import Problems
from training.prepare.table.columns import read_columns
from training.prepare.table.parquet import ParquetTable, _rows_at_once

ROOT = Path(__file__).resolve().parents[3]
Changes = dict[str, Any]


def arrays(data: Dataset) -> list[tuple[str, str, float, dict[str, list[Any]]]]:
    """Return all that a data set says of its cases."""
    found = []
    for at in range(len(data)):
        parts = {
            str(m): [{n: a.tolist() for n, a in row.items()} for row in rows_of]
            for m, rows_of in data.features(at).rows.items()
        }
        found.append((data.ids([at])[0], data.splits[at], float(data.labels[at]), parts))
    return found


def test_every_part_of_a_case_arrives(usual: Dataset):
    assert usual.ids(range(6)) == [f"stay-{i}" for i in range(1, 7)]
    assert usual.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert usual.card.missing == {"text": 0, "image": 0, "tabular": 0, "timeseries": 0}
    assert usual.card.issues == {}
    assert usual.card.refused == {}
    features = usual.features(0).rows
    assert features[Modality.IMAGE][0]["pixels"].shape == (3, 8, 8)
    measured = features[Modality.TIMESERIES][0]["values"][:, 2:]
    assert measured.tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]]
    assert problems_of(usual.folder) == []


# ---- formats ------------------------------------------------------------------------------------


def parquet(cases: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame([{**case, "age": int(case["age"])} for case in cases]).write_parquet(out)
    return out.getvalue()


def commas(cases: list[dict[str, Any]]) -> bytes:
    return as_csv([{**c, "temperature": "36,5"} for c in cases], ";")


def padded(cases: list[dict[str, Any]]) -> bytes:
    return as_csv([{k: f"  {v} " for k, v in case.items()} for case in cases])


def broken_header(cases: list[dict[str, Any]]) -> bytes:
    """Return a table that begins with a name of three lines, with more commas than semicolons."""
    more = [{**case, "number, of,\n\nthe, case": "0"} for case in cases]
    return as_csv(more, ";", ("number, of,\n\nthe, case", *COLUMNS))


def reordered(cases: list[dict[str, Any]]) -> bytes:
    more = [{**case, "": "0", "unused": "x"} for case in cases]
    return as_csv(more, columns=("", *reversed(COLUMNS), "unused"))


def numbers(cases: list[dict[str, Any]]) -> bytes:
    return as_jsonl([{**c, "age": int(c["age"]), "temperature": 36.5} for c in cases])


FORMATS: dict[str, tuple[Callable[[list[dict[str, Any]]], bytes], str, Changes]] = {
    "semicolons": (lambda c: as_csv(c, ";"), "cases.csv", {}),
    "tabs": (lambda c: as_csv(c, "\t"), "cases.tsv", {}),
    "bars": (lambda c: as_csv(c, "|"), "cases.txt", {}),
    "a delimiter that is named": (lambda c: as_csv(c, "|"), "cases.csv", {"delimiter": "|"}),
    "a name of several lines": (broken_header, "cases.csv", {}),
    "Excel's first line": (lambda c: b"sep=;\r\n" + as_csv(c, ";"), "cases.csv", {}),
    "Excel's first line, and a delimiter": (
        lambda c: b'\xef\xbb\xbf"sep=|"\n' + as_csv(c, "|"),
        "cases.csv",
        {"delimiter": "|"},
    ),
    "lines of Windows": (lambda c: as_csv(c, end="\r\n"), "cases.csv", {}),
    "lines of an old Mac": (lambda c: as_csv(c, end="\r"), "cases.csv", {}),
    "no newline at the end": (lambda c: as_csv(c).rstrip(), "cases.csv", {}),
    "blank lines": (lambda c: b"\n" + as_csv(c).replace(b"\n", b"\n\n"), "cases.csv", {}),
    "lines that name nothing": (
        lambda c: b"\n  \n,,,\n , \n" + as_csv(c, ";"),
        "cases.csv",
        {},
    ),
    "empty rows of a spreadsheet": (lambda c: as_csv(c) + b",,,,,,,,\n" * 3, "cases.csv", {}),
    "a byte-order mark": (lambda c: b"\xef\xbb\xbf" + as_csv(c), "cases.csv", {}),
    "commas at the ends": (lambda c: as_csv(c).replace(b"\n", b",,\n"), "cases.csv", {}),
    "padded cells": (padded, "cases.csv", {}),
    "columns in another order": (reordered, "cases.csv", {}),
    "decimal commas": (commas, "cases.csv", {"decimal": ","}),
    "gzip": (lambda c: gzip.compress(as_csv(c)), "cases.csv.gz", {}),
    "gzip without its name": (lambda c: gzip.compress(as_csv(c)), "cases.csv", {}),
    "UTF-16": (lambda c: as_csv(c).decode().encode("utf-16"), "cases.csv", {"encoding": "utf-16"}),
    "Windows letters": (as_csv, "cases.csv", {"encoding": "cp1252"}),
    "JSON lines": (as_jsonl, "cases.jsonl", {}),
    "JSON lines with numbers": (numbers, "cases.ndjson", {}),
    "JSON lines by content": (as_jsonl, "cases.txt", {}),
    "JSON lines in gzip": (lambda c: gzip.compress(as_jsonl(c)), "cases.jsonl.gz", {}),
    "JSON lines with a mark": (lambda c: b"\xef\xbb\xbf" + as_jsonl(c), "cases.json", {}),
    "Parquet": (parquet, "cases.parquet", {}),
    "Parquet by content": (parquet, "cases", {}),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_cases(form: str, usual: Dataset, tmp_path: Path):
    make, name, source = FORMATS[form]
    data = prepared(tmp_path, make(rows()), name, source)
    assert arrays(data) == arrays(usual)
    assert problems_of(data.folder) == []


def test_a_quoted_note_keeps_its_lines_and_rows_are_told_by_line_and_number(tmp_path: Path):
    cases = rows()
    cases[0]["note"] = 'slept "well"\n\nwalked, a little'
    cases[2]["age"] = "old"
    data = prepared(tmp_path, as_csv(cases), source={"text": {"columns": ["note"]}})
    (problem,) = problems_of(data.folder)
    assert (problem["row"], problem["message"][:8]) == (3, "line 6: ")
    assert len(data.features(0).rows[Modality.TEXT][0]["token_ids"]) > 8


def test_lines_are_told_as_they_stand_in_a_file_with_excels_first_line(tmp_path: Path):
    cases = rows()
    cases[2]["age"] = "old"
    data = prepared(tmp_path, b"sep=,\n" + as_csv(cases))
    (problem,) = problems_of(data.folder)
    assert (problem["row"], problem["message"][:8]) == (3, "line 5: ")


def test_records_of_the_house_come_out_as_if_they_had_never_been_files(tmp_path: Path):
    words = ["--samples", "25", "--vocabulary-size", "300", "--image-size", "16"]
    made = KINDS["synthetic"].prepare(
        _parser().parse_args(
            ["synthetic", "--task", "mortality", "--out", str(tmp_path / "made"), "--raw",
             str(tmp_path / "raw"), *words]
        )
    )  # fmt: skip
    task = find_task("mortality").model_dump(mode="json", exclude_none=True)
    source = {
        "id": "id",
        "label": "label",
        "text": {"columns": ["text"]},
        "image": {"columns": ["image"]},
        "tabular": {name: f"tabular.{name}" for name in task["tabular"]["fields"]},
        "timeseries": {"column": "timeseries"},
    }
    read = KINDS["table"].prepare(
        _parser().parse_args(
            ["table", "--source", str(tmp_path / "raw" / "records.jsonl"), "--task",
             str(write_task(tmp_path, task, source)), "--out", str(tmp_path / "read"), *words[2:]]
        )
    )  # fmt: skip
    assert made is not None
    assert read is not None
    assert arrays(read) == arrays(made)
    # By chance these few records have nothing of some variables.
    assert {each["code"] for each in problems_of(read.folder)} <= {"never_measured"}


def test_structs_of_parquet_are_columns_too(usual: Dataset, tmp_path: Path):
    out = io.BytesIO()
    cases = [{**case, "facts": {"age": int(case.pop("age")), "more": {"x": 1}}} for case in rows()]
    pl.DataFrame(cases).write_parquet(out)
    data = prepared(
        tmp_path, out.getvalue(), "cases.parquet", source={"tabular": {"age": "facts.age"}}
    )
    assert arrays(data) == arrays(usual)


@pytest.mark.parametrize("name", ["cases.jsonl", "cases.parquet"])
@pytest.mark.parametrize("column", ["years", "years.value"])
def test_a_value_and_its_unit_are_one_value_and_a_column_each(
    column: str, name: str, usual: Dataset, tmp_path: Path
):
    cases = [{**c, "years": {"value": int(c.pop("age")), "unit": "years"}} for c in rows()]
    data = as_jsonl(cases)
    if name == "cases.parquet":
        out = io.BytesIO()
        pl.DataFrame(cases).write_parquet(out)
        data = out.getvalue()
    made = prepared(tmp_path, data, name, source={"tabular": {"age": column}})
    assert arrays(made) == arrays(usual)


# ---- parts --------------------------------------------------------------------------------------


def test_what_python_cannot_hold_is_no_matter_in_columns_that_nothing_names(
    usual: Dataset, tmp_path: Path
):
    far = pa.array([0, 0, 0, 0, 0, 2**62], pa.timestamp("us"))
    table = pa.Table.from_pylist(rows()).append_column("valid_until", far)
    table = table.append_column("stay", pa.StructArray.from_arrays([far], ["until"]))
    out = io.BytesIO()
    pq.write_table(table, out)
    data = prepared(tmp_path, out.getvalue(), "cases.parquet")
    assert arrays(data) == arrays(usual)
    assert problems_of(data.folder) == []


def test_cells_of_parquet_that_cannot_be_read_stand_alone_and_no_time_is_another(tmp_path: Path):
    stamp, end = pa.timestamp("ns"), 2**62
    columns = {
        "seen": pa.array([1_000_001, 0], stamp),
        "far": pa.array([0, end], pa.timestamp("ms")),
        "in": pa.array([{"a": 1, "b": end}, {"a": 1, "b": 0}],
                       pa.struct([("a", pa.int8()), ("b", pa.timestamp("us"))])),
        "list": pa.array([[{"t": 1_000_001}], [{"t": 0}]], pa.list_(pa.struct([("t", stamp)]))),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "odd.parquet")
    problems = Problems(tmp_path / "problems", 0)
    first, second = ParquetTable(tmp_path / "odd.parquet", "odd", problems).rows()
    start = datetime(1970, 1, 1)
    assert first.cells["seen"] == start + timedelta(milliseconds=1)
    assert first.cells["list"] == [{"t": start + timedelta(milliseconds=1)}]
    assert (first.cells["in.a"], str(first.cells["in.b"])) == (1, f"{end} as timestamp[us]")
    assert str(second.cells["far"]).startswith(str(end))
    assert (first.cells["far"], second.cells["in.b"]) == (start, start)


def test_rows_of_parquet_are_decoded_a_few_at_a_time_where_they_are_large(tmp_path: Path):
    count, size = 200, 300_000
    table = pa.table({"id": range(count), "scan": [bytes([i]) * size for i in range(count)]})
    pq.write_table(table, tmp_path / "a.parquet", write_batch_size=1, use_dictionary=False)
    del table
    before = most = pa.total_allocated_bytes()
    for row in ParquetTable(tmp_path / "a.parquet", "a", Problems(tmp_path / "problems", 0)).rows():
        assert row.cells["scan"] == bytes([row.number - 1]) * size
        most = max(most, pa.total_allocated_bytes())
    assert row.number == count
    assert most - before < count * size / 2


def test_groups_of_parquet_without_rows_say_nothing_of_how_large_rows_are(tmp_path: Path):
    table = pa.table({"id": range(3000)})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for part in (table[:0], table, table[:0]):
            writer.write_table(part)
    read = ParquetTable(tmp_path / "a.parquet", "a", Problems(tmp_path / "problems", 0)).rows()
    assert [row.cells["id"] for row in read] == list(range(3000))
    assert _rows_at_once(pq.read_metadata(tmp_path / "a.parquet")) == 1024


def test_several_columns_are_several_notes_or_one(tmp_path: Path):
    cases = [{**case, "plan": "home"} for case in rows()]
    table = as_csv(cases, columns=(*COLUMNS, "plan"))
    apart = prepared(tmp_path / "a", table, source={"text": {"columns": ["note", "plan"]}})
    joined = prepared(
        tmp_path / "b", table, source={"text": {"columns": ["note", "plan"], "join": "\n"}}
    )
    assert len(apart.features(0).rows[Modality.TEXT]) == 2
    assert len(joined.features(0).rows[Modality.TEXT]) == 1


def test_lists_of_notes_and_pictures_and_rows_in_a_line_are_taken(tmp_path: Path):
    cases = rows()
    for case in cases:
        case["note"] = ["slept well", None, "walked well"]
        case["picture"] = ["pictures/chest.png", "pictures/chest.png"]
        case["vitals"] = [{"hours": 0, "pulse": 80, "ph": 7.4}, {"hours": 1.5, "pulse": 90}]
    data = prepared(tmp_path, as_jsonl(cases), "cases.jsonl")
    features = data.features(0).rows
    assert len(features[Modality.TEXT]) == len(features[Modality.IMAGE]) == 2
    assert features[Modality.TIMESERIES][0]["values"][:, 2:].sum() == 3


def test_several_pictures_stand_in_a_cell_or_in_columns(tmp_path: Path):
    cases = [{**case, "side": "pictures\\chest.png"} for case in rows()]
    cases[0]["picture"] = "pictures/chest.png;  pictures/chest.png"
    cases[1]["picture"] = ""
    table = as_csv(cases, columns=(*COLUMNS, "side"))
    image = {"columns": ["picture", "side"], "separator": ";"}
    data = prepared(tmp_path, table, source={"image": image})
    assert data.row_counts(Modality.IMAGE).tolist() == [3, 1, 2, 2, 2, 2]
    assert data.card.source["pictures"]["files"] == 12


def test_a_picture_may_lie_outside_where_that_is_said(tmp_path: Path):
    (tmp_path / "far.png").write_bytes(picture())
    cases = rows()
    cases[0]["picture"], cases[1]["picture"] = str(tmp_path / "far.png"), "../far.png"
    image = {"columns": ["picture"], "outside": True}
    data = prepared(tmp_path / "x", as_csv(cases), source={"image": image})
    assert [each["column"] for each in problems_of(data.folder)] == ["picture"]  # ../far.png
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "far.png").write_bytes(picture())
    data = prepared(tmp_path / "y", as_csv(cases), source={"image": image})
    assert problems_of(data.folder) == []


@pytest.mark.parametrize("far", ["/far", "../../far", "link"])
@pytest.mark.parametrize(
    ("part", "columns", "key", "name"),
    [
        ("image", {"columns": ["picture"]}, "folder", ""),
        ("timeseries", {"column": "vitals"}, "folder", ""),
        ("timeseries", {"id": "stay"}, "file", "all.csv"),
    ],
)
def test_what_the_task_file_names_lies_outside_only_where_that_is_said(
    part: str, columns: Changes, key: str, name: str, far: str, tmp_path: Path
):
    place(tmp_path / "far", {"all.csv": b"stay,hours,pulse,ph\nstay-1,0,80,7.4\n"})
    start = str(tmp_path / "far") if far == "/far" else far
    source = {part: {**columns, key: f"{start}/{name}"}}
    for folder in ("refused", "taken"):
        (tmp_path / folder / "raw").mkdir(parents=True)
        (tmp_path / folder / "raw" / "link").symlink_to(tmp_path / "far")
    with pytest.raises(ConfigError) as caught:
        prepared(tmp_path / "refused", as_csv(rows()), source=source)
    assert (caught.value.code, caught.value.field) == ("outside_folder", f"source.{part}.{key}")
    assert [path.name for path in (tmp_path / "refused").iterdir()] == ["raw"]
    source[part]["outside"] = True
    data = prepared(tmp_path / "taken", as_csv(rows()), source=source)
    assert data.card.missing[part] < 1


def test_files_may_lie_elsewhere_than_the_table(tmp_path: Path):
    place(tmp_path / "disk", {})
    table = tmp_path / "cases.csv"
    table.write_bytes(as_csv(rows()))
    task = write_task(tmp_path, TASK, SOURCE)
    data = prepare_table(table, task, tmp_path / "data", "--files", str(tmp_path / "disk"))
    assert data is not None
    assert data.card.missing["image"] == 0


def test_a_unit_in_the_cell_is_converted(tmp_path: Path):
    cases = rows()
    cases[0]["temperature"] = "101.3 degF"
    data = prepared(tmp_path, as_csv(cases))
    assert data.card.issues == {"unit_converted/converted": 1}


def test_missing_words_are_those_that_the_user_names(tmp_path: Path):
    cases = rows()
    cases[0]["age"], cases[1]["age"], cases[2]["age"], cases[3]["age"] = "-1", "n/a", "?", "NAN"
    missing = {"missing": ["NA", "N/A", "NaN", "?"], "missing_in": {"age": [-1]}}
    data = prepared(tmp_path, as_csv(cases), source=missing)
    numbers = [data.features(i).rows[Modality.TABULAR][0]["numbers"] for i in range(6)]
    assert [float(each[2]) for each in numbers] == [1, 1, 1, 1, 0, 0]  # the indicator of age
    assert problems_of(data.folder) == []


REGION = {"region": {"kind": "category", "categories": ["NA", "EU"], "synonyms": {"null": "EU"}}}
OUTCOME = {"kind": "multiclass", "name": "died", "classes": ["N/A", "bad"]}


def test_words_that_the_task_lists_are_no_missing_values(tmp_path: Path):
    cases = rows()
    regions, classes = ["NA", "na", "EU", "null", "", "NaN"], ["N/A", "n/a", "bad", "bad", "", "NA"]
    for case, region, label in zip(cases, regions, classes, strict=True):
        case |= {"age": "NA", "region": region, "died": label}
    fields = REGION | {"age": {"kind": "number"}}
    task = {"label": OUTCOME, "metric": "accuracy", "tabular": {"fields": fields}}
    data = prepared(tmp_path, as_csv(cases, columns=(*COLUMNS, "region")), task=task)
    assert data.labels.tolist() == pytest.approx([0, 0, 1, 1, np.nan, np.nan], nan_ok=True)
    found = [data.features(i).rows.get(Modality.TABULAR) for i in range(6)]
    assert [each and int(each[0]["categories"][0]) for each in found] == [2, 2, 3, 3, None, None]
    assert problems_of(data.folder) == []


def test_a_label_is_told_by_its_words(tmp_path: Path):
    cases = rows()
    for case, word in zip(cases, ["0", "1", "", "1.0", " Died", "SURVIVED"], strict=True):
        case["died"] = word
    words = {0: "survived", 1: "died", "1.0": "died"}
    data = prepared(tmp_path, as_csv(cases), source={"label_words": words})
    assert data.labels[[0, 1, 3, 4, 5]].tolist() == [0, 1, 1, 1, 0]
    assert np.isnan(data.labels[2])
    assert sum(data.card.labelled.values()) == 5


def test_without_a_label_column_every_case_is_unlabelled(tmp_path: Path):
    data = prepared(tmp_path, as_csv(rows()), source={"label": None})
    assert np.isnan(data.labels).all()


def test_a_number_can_be_the_label(tmp_path: Path):
    task = {
        "label": {"kind": "regression", "name": "age"},
        "metric": "mae",
        "tabular": {"fields": {"sex": {"kind": "category"}}},
    }
    data = prepared(tmp_path, as_csv(rows()), source={"label": "age"}, task=task)
    assert data.labels.tolist() == [41, 42, 43, 44, 45, 46]


def test_words_for_labels_are_heeded_by_numbers_too(tmp_path: Path):
    cases = rows()
    written = ["999", "none", "3.5", "1.0", 7, "12"]
    for case, label in zip(cases, written, strict=True):
        case["died"] = label
    task = {"label": {"kind": "regression", "name": "days"}, "metric": "mae"}
    source = {"label_words": {"999": "12", "none": "0", "1": "100"}}
    data = prepared(tmp_path, as_csv(cases), source=source, task=task)
    found = dict(zip(data.ids(range(6)), data.labels.tolist(), strict=True))
    assert [found[case["id"]] for case in cases] == [12, 0, 3.5, 100, 7, 12]


def test_classes_that_a_gap_turned_into_decimals_are_known(tmp_path: Path):
    cases = rows()
    for case, label in zip(cases, ["1.0", "0.0", "", "1", "0", "1.00"], strict=True):
        case["died"] = label
    data = prepared(tmp_path, as_csv(cases), source={"label_words": {"0": "survived", "1": "died"}})
    found = dict(zip(data.ids(range(6)), data.labels.tolist(), strict=True))
    assert [found[case["id"]] for case in cases] == pytest.approx(
        [1, 0, np.nan, 1, 0, 1], nan_ok=True
    )


def test_subgroups_ids_and_splits_come_from_columns(tmp_path: Path):
    cases = rows()
    for case, word in zip(cases, ["a", "a", "Val", "dev", "TEST", "a"], strict=True):
        case["fold"] = word
    source = {"split": "fold", "split_words": {"a": "train"}, "subgroups": ["sex"]}
    data = prepared(tmp_path, as_csv(cases, columns=(*COLUMNS, "fold")), source=source)
    assert data.splits == ["train", "train", "validation", "validation", "test", "train"]
    assert data.subgroups() == {"sex": ["M", "F", "M", "F", "M", "F"]}


def test_words_of_subgroups_are_told_apart_as_they_are_written(tmp_path: Path):
    codes = ["250", "250.0", "250.00", "401.9", "250.0", "401"]
    cases = [{**case, "icd": code} for case, code in zip(rows(), codes, strict=True)]
    data = prepared(
        tmp_path, as_csv(cases, columns=(*COLUMNS, "icd")), source={"subgroups": ["icd"]}
    )
    assert data.subgroups() == {"icd": codes}


def test_a_label_may_have_marks_between_thousands(tmp_path: Path):
    task = {"label": {"kind": "regression", "name": "cost"}, "metric": "mae"}
    cases = [{**case, "died": f"{i},{100 + i}"} for i, case in enumerate(rows(), 1)]
    data = prepared(tmp_path, as_csv(cases), task=task)
    assert problems_of(data.folder) == []
    assert data.labels.tolist() == [1000 * i + 100 + i for i in range(1, 7)]


@pytest.mark.parametrize("end", [",0", ".0", ".00"])
def test_whole_numbers_of_a_table_with_decimal_commas_are_known_as_such(end: str, tmp_path: Path):
    columns = ("id", "weight", "ward", "ph", "died")
    cases = [
        {"id": f"{i}{end}", "weight": f"-999{end}" if i == 3 else f"{50 + i},5",
         "ward": f"{i % 2}{end}", "ph": ("1,0", "2,50")[i % 2], "died": f"{i % 2}{end}"}
        for i in range(24)
    ]  # fmt: skip
    fields = {
        "weight": {"kind": "number", "range": [0, 300]},
        "ward": {"kind": "category"},
        "ph": {"kind": "category", "categories": ["1,0", "2,50"]},
    }
    task = {"text": None, "image": None, "timeseries": None, "tabular": {"fields": fields}}
    place(tmp_path, {"cases.csv": as_csv(cases, ";", columns)})
    described = {"id": "id", "label": "died", "decimal": ",", "missing": ["", "-999"]}
    described["label_words"] = {0: "survived", 1: "died"}
    wanted = {key: value for key, value in {**TASK, **task}.items() if value is not None}
    file = write_task(tmp_path, wanted, described)
    data = prepare_table(tmp_path / "cases.csv", file, tmp_path / "data")
    assert data is not None
    assert problems_of(data.folder) == []
    assert data.card.issues == {}
    assert data.ids(range(24)) == [str(i) for i in range(24)]
    assert data.labels.tolist() == [0, 1] * 12
    learned = json.loads((data.folder / "preprocessing.json").read_text())["tabular"]["categories"]
    assert learned == {"ward": ["0", "1"], "ph": ["1,0", "2,50"]}


def test_numbers_that_name_a_group_or_split_do_so_with_decimals_too(tmp_path: Path):
    cases = [
        {**case, "id": f"{i}.0", "patient": f"{i // 2}{'.0' * (i % 2)}", "fold": f"{1 + i // 4}.0"}
        for i, case in enumerate(rows(8))
    ]
    cases[0]["patient"] = cases[1]["patient"] = "007"
    source = {"split": "fold", "split_words": {1.0: "train", 2: "test"}, "subgroups": ["patient"]}
    data = prepared(tmp_path, as_csv(cases, columns=(*COLUMNS, "fold")), source=source)
    assert problems_of(data.folder) == []
    assert data.ids(range(8)) == [str(i) for i in range(8)]
    assert data.splits == ["train"] * 4 + ["test"] * 4
    assert data.groups == ["007", "007", "1", "1", "2", "2", "3", "3"]


@pytest.mark.parametrize(
    ("decimal", "cell", "word"),
    [
        (",", "{},0", "{},0"),
        (",", "{}.0", "{}.0"),
        (",", "{},0", "{}"),
        (",", "{}", "{}.0"),
        (",", "{}.000", "{}.000"),
        (".", "{}.00", "{}.0"),
        (".", "{},0", "{},0"),
        (".", "{},5", "{},5"),
    ],
)
def test_words_for_splits_are_read_as_their_cells_are(
    decimal: str, cell: str, word: str, tmp_path: Path
):
    cases = [
        {**case, "temperature": "36", "fold": cell.format(1 + i // 2)}
        for i, case in enumerate(rows())
    ]
    splits = ["train", "validation", "test"]
    words = {word.format(i): split for i, split in enumerate(splits, 1)}
    data = prepared(
        tmp_path, as_csv(cases, ";", (*COLUMNS, "fold")),
        source={"split": "fold", "split_words": words, "decimal": decimal},
    )  # fmt: skip
    assert problems_of(data.folder) == []
    assert data.splits == [split for split in splits for _ in range(2)]


def test_a_case_whose_row_is_put_into_words_and_says_nothing_is_a_problem_of_its_file(
    tmp_path: Path,
):
    cases = rows()
    cases[2] = {"id": "c", "patient": "c", "age": "900", "died": "died"}
    old = {"age": {"kind": "number", "range": [0, 120]}}
    task = {"tabular": {"fields": old}}
    data = prepared(tmp_path, as_csv(cases), task=task, more=("--tab2txt",))
    assert len(data) == 5
    (problem,) = problems_of(data.folder)
    assert (problem["code"], problem["row"], problem["column"], problem["seen"]) == (
        "nothing_usable", 3, "tabular.age", 900,
    )  # fmt: skip


def test_cases_of_a_group_stand_in_one_split(tmp_path: Path):
    cases = rows(30)
    for i, case in enumerate(cases):
        case["patient"] = f"p{i // 3}"
    data = prepared(tmp_path, as_csv(cases))
    for first in range(0, 30, 3):
        assert len(set(data.splits[first : first + 3])) == 1
    assert len(set(data.splits)) == 3


def test_without_an_id_cases_are_called_by_their_row(tmp_path: Path):
    source = {"id": None, "group": None, "repeated_rows": "keep"}
    data = prepared(tmp_path, as_csv([*rows(3), rows(1)[0]]), source=source)
    assert data.ids(range(4)) == ["row-1", "row-2", "row-3", "row-4"]


# ---- the task file ------------------------------------------------------------------------------

WRONG: dict[str, tuple[Changes, Changes, str, str]] = {
    "no source at all": ({}, {"everything": None}, "no_source", "source"),
    "an unknown key": ({}, {"labels": "died"}, "bad_schema", "labels"),
    "not decided": ({}, {"label": "?"}, "undecided", "source.label"),
    "not decided deeper": (
        {}, {"timeseries": {"column": "v", "start": "?"}}, "undecided", "source.timeseries.start",
    ),
    "a part without columns": ({}, {"text": None}, "no_columns", "source.text"),
    "columns without a part": ({"text": None}, {}, "no_such_part", "source.text"),
    "a field that is none": (
        {}, {"tabular": {"agee": "age"}}, "unknown_field", "source.tabular.agee",
    ),
    "a variable that is none": (
        {}, {"timeseries": {"column": "vitals", "names": {"puls": "HR"}}}, "unknown_field",
        "source.timeseries.names.puls",
    ),
    "two variables of one column": (
        {}, {"timeseries": {"column": "vitals", "names": {"pulse": "ph"}}}, "repeated_column",
        "source.timeseries.names",
    ),
    "the label as an input": ({}, {"label": "sex"}, "label_as_input", "source.label"),
    "a class that is none": ({}, {"label_words": {"x": "dead"}}, "bad_label", "died"),
    "series without ids": (
        {}, {"id": None, "timeseries": {"file": "a.csv", "id": "stay"}}, "no_id", "source.id",
    ),
    "series twice": (
        {}, {"timeseries": {"file": "a.csv", "id": "s", "column": "v"}}, "bad_schema", "timeseries",
    ),
    "long rows by half": (
        {}, {"timeseries": {"column": "v", "variable": "name"}}, "bad_schema", "timeseries",
    ),
    "a category that means missing": (
        {"tabular": {"fields": REGION}}, {"missing": ["", "na"]}, "listed_as_missing",
        "source.missing",
    ),
    "a class that means missing": (
        {"label": OUTCOME, "metric": "accuracy"}, {"missing_in": {"died": ["n/a"]}},
        "listed_as_missing", "source.missing",
    ),
    "a delimiter that is none": ({}, {"delimiter": "x"}, "bad_schema", "delimiter"),
    "a split that is none": ({}, {"split_words": {"a": "training"}}, "bad_schema", "split_words.a"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_task_file_is_told_by_its_key(fault: str, tmp_path: Path):
    task, source, code, field = WRONG[fault]
    place(tmp_path, {"cases.csv": as_csv(rows())})
    described = {**SOURCE, **source}
    described = {k: v for k, v in described.items() if v is not None or k == "id"}
    if "everything" in source:
        described = None  # type: ignore[assignment]
    wanted = {key: value for key, value in {**TASK, **task}.items() if value is not None}
    file = write_task(tmp_path, wanted, described)
    with pytest.raises(Exception) as caught:  # noqa: PT011, its code is looked at
        prepare_table(tmp_path / "cases.csv", file, tmp_path / "data")
    assert (caught.value.code, caught.value.field) == (code, field)  # type: ignore[attr-defined]
    assert not (tmp_path / "data").exists()


def test_a_task_file_is_needed(tmp_path: Path):
    place(tmp_path, {"cases.csv": as_csv(rows())})
    words = ["table", "--source", str(tmp_path / "cases.csv"), "--out", str(tmp_path / "data")]
    with pytest.raises(ConfigError, match="--guess writes a first one"):
        KINDS["table"].prepare(_parser().parse_args(words))


@pytest.mark.parametrize("words", [("--guess", "--task", "t.yaml"), ("--series", "all.csv")])
def test_options_that_do_not_go_together_are_refused(words: tuple[str, ...], tmp_path: Path):
    always = ["table", "--source", str(tmp_path / "cases.csv"), "--out", str(tmp_path / "data")]
    with pytest.raises(ConfigError) as caught:
        KINDS["table"].prepare(_parser().parse_args([*always, *words]))
    assert caught.value.code == "not_together"


def test_the_documented_task_file_is_read(tmp_path: Path):
    page = (ROOT / "docs" / "bring-your-data.md").read_text(encoding="utf-8")
    (tmp_path / "task.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    task, source = read_columns(tmp_path / "task.yaml")
    assert task.modalities == tuple(Modality)
    assert source.label_words == {"0": "no", "1": "yes"}
    assert source.missing_in == {"temperature": ("-1",)}


def test_the_columns_stay_behind_when_the_task_goes_on(usual: Dataset, tmp_path: Path):
    file = write_task(tmp_path, TASK, SOURCE)
    task, source = read_columns(file)
    assert find_task(str(file)) == task == usual.task
    assert source.group == "patient"
    assert "source" not in task.model_dump()


# ---- real data ----------------------------------------------------------------------------------


def test_real_x_rays_notes_and_rows_are_prepared_without_a_problem(open_data: Path, tmp_path: Path):
    data = prepare_table(
        open_data / "covid_cxr" / "metadata.csv", ROOT / "examples" / "covid" / "task.yaml",
        tmp_path / "data",
    )  # fmt: skip
    assert data is not None
    assert len(data) == 312
    assert data.card.missing == {"text": 0.2019, "image": 0.0, "tabular": 0.0}
    assert (np.nansum(data.labels), (~np.isnan(data.labels)).sum()) == (20, 145)
    assert data.card.source["pictures"]["files"] == 312
    table = pl.read_csv(open_data / "covid_cxr" / "metadata.csv", infer_schema_length=0)
    split_of = dict(zip(data.ids(range(312)), data.splits, strict=True))
    dealt = table.select("patientid", pl.col("filename").replace_strict(split_of).alias("split"))
    assert dealt.group_by("patientid").agg(pl.col("split").n_unique())["split"].max() == 1
    assert problems_of(data.folder) == []


def test_a_real_cohort_of_another_hospital_is_prepared(open_data: Path, tmp_path: Path):
    folder = open_data / "yaib_mortality24" / "eicu_demo"
    cases = pl.read_parquet(folder / "sta.parquet").join(
        pl.read_parquet(folder / "outc.parquet"), on="stay_id"
    )
    series = pl.read_parquet(folder / "dyn.parquet")
    some = cases.sample(150, seed=0).sort("stay_id")
    some.write_parquet(tmp_path / "cases.parquet")
    series.write_parquet(tmp_path / "dyn.parquet")
    fields = {"age": {"kind": "number"}, "sex": {"kind": "category"}}
    task = {
        **{key: TASK[key] for key in ("name", "title", "metric")},
        "label": {"kind": "binary", "name": "died", "classes": ["0", "1"]},
        "tabular": {"fields": fields},
        "timeseries": {
            "horizon_hours": 24,
            "step_hours": 1,
            "variables": {name: {"kind": "number"} for name in series.columns[2:]},
        },
    }
    source = {
        "id": "stay_id",
        "label": "label",
        "timeseries": {"file": "dyn.parquet", "id": "stay_id", "time": "time"},
    }
    file = write_task(tmp_path, task, source)
    data = prepare_table(tmp_path / "cases.parquet", file, tmp_path / "data")
    assert data is not None
    assert len(data) == 150
    assert np.nansum(data.labels) == some["label"].sum()
    one = series.filter(pl.col("stay_id") == some["stay_id"][0]).drop("stay_id")
    hours = np.minimum(one["time"].dt.total_minutes().to_numpy() / 60, 23).astype(int)
    measured = np.zeros((24, 48))
    np.maximum.at(measured, hours, ~np.isnan(one.drop("time").to_numpy()))
    found = data.features(0).rows[Modality.TIMESERIES][0]["values"][:, 48:]
    assert (found == measured).all()
    assert problems_of(data.folder) == []
