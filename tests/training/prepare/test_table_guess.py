"""A first task file from the columns: with reasons, and ready to run or to say what to decide."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from tests.training.prepare.tables import (
    COLUMNS,
    as_csv,
    as_jsonl,
    picture,
    place,
    prepare_table,
    problems_of,
    rows,
)
from training.prepare.__main__ import KINDS, _parser
from training.prepare.table.columns import read_columns
from training.prepare.table.guess.kinds import guess
from training.prepare.table.guess.statistics import TableStatistics, told_by
from training.prepare.table.rows import MissingWords, Row

ROOT = Path(__file__).resolve().parents[3]


def guessed(table: Path, out: Path, *more: str) -> tuple[dict[str, Any], str]:
    """Run the command; return what it wrote, read and as it stands."""
    arguments = _parser().parse_args(
        ["table", "--guess", "--source", str(table), "--out", str(out), *more]
    )
    assert KINDS["table"].prepare(arguments) is None
    text = out.read_text(encoding="utf-8")
    return yaml.safe_load(text), text


def of_columns(folder: Path, delimiter: str = ",", **columns: list[Any]) -> tuple[Any, str]:
    """Guess from a CSV with these columns beside an id and a label."""
    count = len(next(iter(columns.values())))
    every = {
        "id": [f"a{i}" for i in range(count)],
        **columns,
        "label": ["no", "yes"] * (count // 2),
    }
    cases = [dict(zip(every, row, strict=True)) for row in zip(*every.values(), strict=True)]
    table = folder / "cases.csv"
    table.write_bytes(as_csv(cases, delimiter, tuple(every)))
    return guessed(table, folder / "task.yaml")


def test_the_guess_of_a_good_table_runs_as_it_is(tmp_path: Path):
    place(tmp_path, {"pictures/other.png": picture()})
    table = tmp_path / "stays.csv"
    cases = rows(24)
    for i, case in enumerate(cases):
        case["patient"] = f"p{i // 2}"
        case["picture"] = ("pictures/chest.png", "pictures/other.png")[i // 2 % 2]
        case["note"] = f"the patient slept {i} hours and walked well"
    table.write_bytes(as_csv(cases))
    task, text = guessed(table, tmp_path / "task.yaml")
    assert task["name"] == "stays"
    assert task["label"] == {"kind": "binary", "name": "died", "classes": ["survived", "died"]}
    assert set(task["tabular"]["fields"]) == {"age"}  # temperature never varies, sex tells
    source = task["source"]
    assert (source["id"], source["group"], source["label"]) == ("id", "patient", "died")
    assert source["text"] == {"columns": ["note"]}
    assert source["image"] == {"folder": ".", "columns": ["picture"]}
    assert "WARNING, a leak? It almost determines 'died' (100%)" in text
    assert "# sex: {kind: category" in text
    assert "'temperature', constant" in text
    data = prepare_table(table, tmp_path / "task.yaml", tmp_path / "data")
    assert data is not None
    assert len(data) == 24
    assert problems_of(data.folder) == []


def test_columns_are_taken_for_what_they_are(tmp_path: Path):
    task, text = of_columns(
        tmp_path,
        weight=[f"{50 + i / 7:.2f}" for i in range(60)],
        stage=[str(1 + i // 2 % 4) for i in range(60)],
        smoker=["true", "false", ""] * 20,
        ward=["surgery", "medicine", "?"] * 20,
        town=[f"town {i % 35}" for i in range(60)],
        seen=["2020-01-25", "2020-02-11"] * 30,
        link=[f"https://example.org/{i}" for i in range(60)],
        nothing=[""] * 60,
        always=["x"] * 60,
        fold=["train", "train", "test"] * 20,
        patient_id=[f"p{i // 3}" for i in range(60)],
        complaint=[f"pain in the {i}th toe since yesterday" for i in range(60)],
        discharge_to=["home", "ward", "rehab"] * 20,
        lactate=["1.5", "-1", "2.25", "-1", ">9"] + [f"{i / 10}" for i in range(55)],
    )
    fields = task["tabular"]["fields"]
    assert fields["weight"] == fields["lactate"] == {"kind": "number", "unit": ""}
    assert fields["stage"]["kind"] == "number"
    assert "4 distinct whole numbers: if they are codes" in text
    assert fields["smoker"] == {"kind": "category", "categories": ["false", "true"]}
    assert fields["ward"] == {"kind": "category", "categories": ["medicine", "surgery"]}
    assert fields["town"] == {"kind": "category", "buckets": 1024}
    assert set(fields) == {"weight", "stage", "smoker", "ward", "town", "lactate"}
    assert "# discharge_to: {kind: category" in text
    assert "suggests something known only afterwards" in text
    assert "not numbers, reported as problems when prepared: '>9'" in text
    assert "33% missing, 2 distinct, such as 'true'" in text
    source = task["source"]
    assert (source["split"], source["group"]) == ("fold", "patient_id")
    assert source["text"]["columns"] == ["complaint"]
    assert source["missing_in"] == {"ward": ["?"], "lactate": ["-1"]}
    for unused in ("'seen', date", "'link', address", "'nothing', empty", "'always', constant"):
        assert unused in text
    read_columns(tmp_path / "task.yaml")


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (["1", "0"] * 20, "binary", ["0", "1"]),
        (["yes", "no"] * 20, "binary", ["no", "yes"]),
        (["Died", "Alive", "?", "Alive"] * 10, "binary", ["Alive", "Died"]),
        (["ja, schwer", "nein"] * 20, "binary", ["nein", "ja, schwer"]),
        (["Rückfall", "kein Rückfall"] * 20, "binary", ["kein Rückfall", "Rückfall"]),
        (["a", "b", "c", "b"] * 10, "multiclass", ["a", "b", "c"]),
        (["1", "5", "4", "5"] * 10, "ordinal", ["1", "4", "5"]),
        ([f"{i / 3:.3f}" for i in range(40)], "regression", None),
    ],
)
def test_the_label_is_taken_for_what_it_is(
    values: list[str], kind: str, classes: list[str] | None, tmp_path: Path
):
    table = tmp_path / "cases.csv"
    cases = [{"id": f"a{i}", "x": str(i / 7), "target": v} for i, v in enumerate(values)]
    table.write_bytes(as_csv(cases, columns=("id", "x", "target")))
    task, _ = guessed(table, tmp_path / "task.yaml")
    assert task["label"]["kind"] == kind
    assert task["label"].get("classes") == classes
    spec, source = read_columns(tmp_path / "task.yaml")
    assert source.label == "target"
    data = prepare_table(table, tmp_path / "task.yaml", tmp_path / "data")
    assert data is not None
    assert sum(data.card.labelled.values()) == sum(value != "?" for value in values)
    assert spec.label.kind == kind


def test_words_that_differ_in_case_alone_are_one(tmp_path: Path):
    table, count = tmp_path / "cases.csv", 60
    columns = ("id", "sex", "ward", "x", "outcome")
    cases = [
        {"id": f"p{i}", "sex": ("M", "F", "m", "M", "f")[i % 5], "ward": ("a", "A")[i % 2],
         "x": i * 1.5, "outcome": ("Yes", "no", "yes", "Yes")[i % 4]}
        for i in range(count)
    ]  # fmt: skip
    table.write_bytes(as_csv(cases, columns=columns))
    task, text = guessed(table, tmp_path / "task.yaml")
    assert task["tabular"]["fields"]["sex"]["categories"] == ["F", "M"]
    assert (task["label"]["kind"], task["label"]["classes"]) == ("binary", ["no", "Yes"])
    assert "'ward', constant" in text
    read_columns(tmp_path / "task.yaml")


def test_whole_numbers_with_decimals_are_guessed_as_those_without(tmp_path: Path):
    found = []
    for number in (str, lambda value: f"{value}.0", lambda value: f"{value},0"):
        cases = [
            {"age": number(40 + i if i % 5 else -1), "ward": number(i % 3), "died": number(i % 2)}
            for i in range(200)
        ]
        table = tmp_path / "cases.csv"
        table.write_bytes(as_csv(cases, columns=("age", "ward", "died")))
        task = tmp_path / f"{len(found)}.yaml"
        _, text = guessed(table, task)
        spec, source = read_columns(task)
        found.append((spec.label.classes, dict(source.label_words), dict(source.missing_in)))
        assert prepare_table(table, task, tmp_path / f"data-{len(found)}") is not None, text
    assert found[0] == found[1] == found[2]
    assert found[0][2] == {"age": ("-1",)}


def test_where_only_the_user_can_decide_the_run_says_what(tmp_path: Path):
    table = tmp_path / "cases.csv"
    cases = [{"a": "xy"[i % 2], "b": "uvw"[i % 3], "c": str(i / 7)} for i in range(40)]
    table.write_bytes(as_csv(cases, columns=("a", "b", "c")))
    _, text = guessed(table, tmp_path / "task.yaml")
    assert 'label: "?"  # DECIDE; null for none. Candidates: a, b' in text
    with pytest.raises(ConfigError) as caught:
        prepare_table(table, tmp_path / "task.yaml", tmp_path / "data")
    assert (caught.value.code, caught.value.field) == ("undecided", "source.label")
    (tmp_path / "task.yaml").write_text(text.replace('label: "?"', "label: null"))
    assert prepare_table(table, tmp_path / "task.yaml", tmp_path / "data") is not None


@pytest.mark.parametrize(
    ("data", "written"),
    [
        ("id;größe;label\na;1,75;ja\nb;1,80;nein\nc;1,62;ja\nd;1,71;nein\n".encode("cp1252"),
         {"decimal": ",", "encoding": "cp1252"}),
        ("id\tgröße\tlabel\na\t1\tja\nb\t2\tnein\nc\t4\tja\nd\t9\tnein\n".encode("utf-16"),
         {"encoding": "utf-16"}),
    ],
)  # fmt: skip
def test_encoding_and_decimals_are_found_and_written_down(
    data: bytes, written: dict[str, str], tmp_path: Path
):
    table = tmp_path / "cases.csv"
    table.write_bytes(data)
    task, _ = guessed(table, tmp_path / "task.yaml")
    found = {key: task["source"][key] for key in ("decimal", "encoding") if key in task["source"]}
    assert found == written
    made = prepare_table(table, tmp_path / "task.yaml", tmp_path / "data")
    assert made is not None
    assert len(made) == 4


@pytest.mark.parametrize(
    ("cells", "decimal", "values"),
    [
        (['"1,101"', "500", '"2,250"', "700"], ".", [1101, 500, 2250, 700]),
        (['"1,101.5"', "500", '"1,250,000"', "7,5"], ".", [1101.5, 500, 1250000]),
        (['"1.100,50"', "500", '"1,101"', '"0,5"'], ",", [1100.5, 500, 1.101, 0.5]),
    ],
)
def test_marks_between_thousands_are_no_decimal_commas(
    cells: list[str], decimal: str, values: list[float], tmp_path: Path
):
    words = cells * 20
    lines = (f"a{i};{i // 4 % 2};{cell}" for i, cell in enumerate(words))
    table = tmp_path / "cases.csv"
    table.write_text("id;died;cost\n" + "\n".join(lines))
    task, text = guessed(table, tmp_path / "task.yaml")
    assert task["source"].get("decimal", ".") == decimal
    assert task["tabular"]["fields"] == {"cost": {"kind": "number", "unit": ""}}
    warning = "'cost': '1,101' is read as 1101, but as 1.101 with decimal: \",\" in `source`"
    assert (warning in text) == (cells[0] == '"1,101"')
    data = prepare_table(table, tmp_path / "task.yaml", tmp_path / "data")
    assert data is not None
    scale = json.loads((data.folder / "preprocessing.json").read_text())["tabular"]["numbers"]
    mean, std = scale["cost"]["mean"], scale["cost"]["std"]
    for at, value in enumerate(values):
        number = data.features(at).rows[Modality.TABULAR][0]["numbers"][0]
        assert number * std + mean == pytest.approx(value, rel=1e-3, abs=0.01)


@pytest.mark.parametrize("decimal", [".", ","])
def test_numbers_with_a_comma_are_guessed_as_those_with_a_point(decimal: str, tmp_path: Path):
    """Of z, -1 is a value among others below 0; score tells the label; leucocytes are thousands."""

    def cell(value: float) -> str:
        return f"{value:.4g}".replace(".", decimal)

    thousands = "," if decimal == "." else "."
    count = 200
    task, text = of_columns(
        tmp_path,
        ";",
        z=[cell((i * 7 % 41 - 20) / 10) for i in range(count)],
        score=[cell(0.5 + i % 2 * 10 + i / 500) for i in range(count)],
        width=[cell(12.28 + i / 3) for i in range(count)],
        leucocytes=[f"{4 + i % 9}{thousands}{i % 7}00" for i in range(count)],
    )
    assert task["source"].get("decimal", ".") == decimal
    assert "missing_in" not in task["source"]
    assert "from -2 to 2\n" in text
    assert "from 12.28 to 78.61\n" in text
    assert "from 4000 to 12600\n" in text or decimal == "."
    assert "WARNING, a leak? It almost determines 'label'" in text
    assert set(task["tabular"]["fields"]) == {"z", "width", "leucocytes"}


def test_a_point_that_may_stand_after_thousands_is_told_where_no_other_is_before_decimals(
    tmp_path: Path,
):
    warning = "'leuco': '117.000' is read as 117, but as 117000 with decimal: \",\" in `source`"
    leuco = [f"{117 + i}.000" for i in range(20)]
    for name, more in (("alone", {}), ("beside", {"ph": [f"7.{30 + i}" for i in range(20)]})):
        (tmp_path / name).mkdir()
        task, text = of_columns(tmp_path / name, leuco=leuco, **more)
        assert "decimal" not in task["source"]
        assert (warning in text) == (name == "alone")


def test_numbers_among_which_some_are_words_or_have_a_unit_are_numbers(tmp_path: Path):
    ages = [("k.A.", f"ca. {i}")[i // 12 % 2] if i % 12 == 0 else str(i) for i in range(120)]
    task, text = of_columns(
        tmp_path,
        age=ages,
        weight=[f"{50 + i / 10:.1f}{' kg' if i % 9 == 0 else ''}" for i in range(120)],
        dose=[f"{i / 10:.1f} mg" for i in range(120)],
        room=[f"{i // 2}{'abcd'[i // 2 % 4]}" for i in range(120)],
        code=[f"V{i}" if i % 9 == 0 else str(250 + i // 2) for i in range(120)],
        children=[str(i % 5 + 1) + "+" * (i % 5 == 4) for i in range(120)],
    )
    fields = task["tabular"]["fields"]
    assert fields["age"] == {"kind": "number", "unit": ""}
    assert "not numbers, reported as problems when prepared: 'ca. 12', 'ca. 36'" in text
    assert task["source"]["missing_in"] == {"age": ["k.A."]}
    assert fields["weight"] == {"kind": "number", "unit": "kg"}
    assert fields["dose"] == {"kind": "number", "unit": "mg"}
    assert {fields[name]["kind"] for name in ("room", "code", "children")} == {"category"}
    data = prepare_table(tmp_path / "cases.csv", tmp_path / "task.yaml", tmp_path / "data")
    assert data is not None
    assert {each["column"] for each in problems_of(data.folder)} == {"age"}


def test_codes_among_which_most_look_like_numbers_are_none(tmp_path: Path):
    def mixed(*odd: str) -> list[str]:
        return [
            odd[i // 7 % len(odd)].format(i) if i % 7 == 0 else str(10000 + i) for i in range(140)
        ]

    task, text = of_columns(
        tmp_path,
        post_code=mixed("{}2345-6789"),
        ticket=mixed("STON/O 26{}", "A/5 {}", "PC {}"),
        flat=mixed("{}A", "{}B", "{}C", "{}d"),
        pressure=mixed("1{}/80"),
        fever=mixed("{}F", "{}C"),
        cells=mixed("{}-10"),
    )
    fields = task["tabular"]["fields"]
    numbers = {name for name, field in fields.items() if field["kind"] == "number"}
    assert numbers == {"fever", "cells"}
    assert "'28-10'; if these are codes, remove the column or make it a category" in text


def test_an_id_whose_values_end_in_a_letter_is_the_id(tmp_path: Path):
    table = tmp_path / "cases.csv"
    lines = [f"{1000 + i}P,{50 + i / 7:.2f},{'no' if i % 2 else 'yes'}" for i in range(60)]
    table.write_text("\n".join(["case_id,weight,label", *lines]) + "\n")
    task, _ = guessed(table, tmp_path / "task.yaml")
    assert task["source"]["id"] == "case_id"
    assert set(task["tabular"]["fields"]) == {"weight"}


def test_an_object_of_a_value_and_its_unit_is_one_number(tmp_path: Path):
    cases = [
        {"id": f"a{i}", "died": "ny"[i // 2 % 2], "specs": {"colour": ["red", "green"][i % 2],
         "weight": {"value": i / 4, "unit": "kg" if i % 8 else "g"}}}
        for i in range(80)
    ]  # fmt: skip
    (tmp_path / "cases.jsonl").write_bytes(as_jsonl(cases))
    task, text = guessed(tmp_path / "cases.jsonl", tmp_path / "task.yaml")
    fields = task["tabular"]["fields"]
    assert set(fields) == {"specs.colour", "specs.weight"}
    assert fields["specs.weight"] == {"kind": "number", "unit": "kg"}
    assert "in other units, whose factors to add under units: 'g'" in text
    data = prepare_table(tmp_path / "cases.jsonl", tmp_path / "task.yaml", tmp_path / "data")
    assert data is not None
    assert {each["code"] for each in problems_of(data.folder)} <= {"unknown_unit"}


def test_names_that_yaml_would_misread_are_quoted(tmp_path: Path):
    names = ("id", "no", "yes: {x}", '"quoted"', "# half", "1", "label", "größe \u2028 m")
    cases = [
        {
            "id": f"k{i}",
            "label": "01"[i % 2],
            **{n: str(i / 7) for n in names if n not in ("id", "label")},
        }
        for i in range(20)
    ]
    table = tmp_path / "2 - my table!.csv"
    table.write_bytes(as_csv(cases, columns=names))
    task, _ = guessed(table, tmp_path / "task.yaml")
    assert set(task["tabular"]["fields"]) == set(names) - {"id", "label"}
    assert prepare_table(table, tmp_path / "task.yaml", tmp_path / "data") is not None


def test_a_word_with_a_joiner_is_written_as_yaml_reads_it(tmp_path: Path):
    words = ("\U0001f469\u200d\u2695\ufe0f", "a\\b\u2028c")
    task, _ = of_columns(tmp_path, who=[words[i // 2 % 2] for i in range(40)])
    assert task["tabular"]["fields"]["who"]["categories"] == sorted(words)
    data = prepare_table(tmp_path / "cases.csv", tmp_path / "task.yaml", tmp_path / "data")
    assert data is not None
    assert data.card.issues == {}


def test_pictures_of_which_a_few_are_no_names_are_still_pictures(tmp_path: Path):
    place(tmp_path, {})
    cases = [{**case, "picture": "pictures/chest.png"} for case in rows(40)]
    cases[3]["picture"], cases[4]["picture"] = 5, ["pictures/chest.png", None]
    (tmp_path / "cases.jsonl").write_bytes(as_jsonl(cases))
    task, _ = guessed(tmp_path / "cases.jsonl", tmp_path / "task.yaml")
    assert task["source"]["image"] == {"folder": ".", "columns": ["picture"]}


@pytest.mark.parametrize("without", [0.2, 0.6])
def test_lists_of_pictures_of_which_some_are_empty_are_still_pictures(
    without: float, tmp_path: Path
):
    place(tmp_path, {})
    cases = [{**case, "picture": ["pictures/chest.png"] * 2} for case in rows(40)]
    for case in cases[: int(40 * without)]:
        case["picture"] = []
    cases[-1]["picture"] = ["https://example.org/17", "pictures/chest.png", "pictures/chest.png"]
    (tmp_path / "cases.jsonl").write_bytes(as_jsonl(cases))
    task, text = guessed(tmp_path / "cases.jsonl", tmp_path / "task.yaml")
    assert task["source"]["image"] == {"folder": ".", "columns": ["picture"]}
    assert f'- "picture"  # {without:.0%} missing' in text


def test_a_number_that_nothing_calls_a_label_is_none_where_it_is_the_only_one(tmp_path: Path):
    """The outcome is the same in every row, and can be no label; the age may be an input."""
    cases = [{"id": f"a{i}", "age": str(40 + i / 2), "outcome": "no"} for i in range(40)]
    (tmp_path / "cases.csv").write_bytes(as_csv(cases, columns=("id", "age", "outcome")))
    task, text = guessed(tmp_path / "cases.csv", tmp_path / "task.yaml")
    assert set(task["tabular"]["fields"]) == {"age"}
    assert 'label: "?"  # DECIDE; null for none. Candidates: age' in text
    assert "'outcome', constant" in text


def test_of_an_encoding_that_is_not_the_tables_one_line_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("WARNING")
    lines = [f"a{i},{i},größe" for i in range(20)]
    data = "\n".join(["id,µ,label", *lines])
    (tmp_path / "cases.csv").write_bytes(data.encode("cp1252"))
    guessed(tmp_path / "cases.csv", tmp_path / "task.yaml")
    (said,) = [record.message for record in caplog.records]
    assert said.endswith("cases.csv, line 1: not text in utf-8; trying cp1252")
    caplog.clear()
    (tmp_path / "cases.csv").write_text("\n".join(["id,x,label", *lines, "b,1,2,3"]))
    guessed(tmp_path / "cases.csv", tmp_path / "ragged.yaml")
    (said,) = [record.message for record in caplog.records]
    assert said.endswith("ragged.yaml.problems.jsonl: 1 ragged_row")


def test_problems_are_counted_in_the_encoding_in_which_a_table_is_read(tmp_path: Path):
    lines = [f"a{i},{i},{i % 2}" + ",x,y" * (i < 30) for i in range(60)] + ["b,1,sch\xf6n"]
    (tmp_path / "cases.csv").write_bytes("\n".join(["id,x,label", *lines]).encode("cp1252"))
    task, _ = guessed(tmp_path / "cases.csv", tmp_path / "task.yaml", "--most-problems", "31")
    assert task["source"]["encoding"] == "cp1252"
    assert [each["code"] for each in problems_of(tmp_path / "task.yaml")] == ["ragged_row"] * 30


def test_of_large_values_only_beginnings_are_kept_and_bytes_are_no_input():
    large = 50_000
    cells = [
        {"scan": bytes([i]) * large, "note": f"{'word ' * (large // 5)}{i % 3}", "age": i,
         "notes": [f"{'x' * large}{i}"]}
        for i in range(60)
    ]  # fmt: skip
    rows_of = (Row("a", i, None, each) for i, each in enumerate(cells, 1))
    found = TableStatistics.of(rows_of, (), MissingWords([], {}))
    assert len(found.columns["scan"].distinct) == 60
    assert len(found.columns["note"].distinct) == 3
    assert found.columns["note"].length > 60 * large
    kept = [found.kept, *(column.words for column in found.columns.values())]
    assert len(str(kept)) < 10 * large
    kinds = {name: guess(column).kind for name, column in found.columns.items()}
    assert kinds == {"scan": "nested", "note": "text", "age": "number", "notes": "text"}


@pytest.mark.parametrize("ends", [200, 40, 3, 1])
def test_notes_that_differ_only_far_from_where_they_begin_are_not_constant(
    ends: int, tmp_path: Path
):
    head = "This report was made by the department of radiology of the hospital. " * 16
    notes = [head + f"Finding {i % ends}: the lungs are clear" for i in range(200)]
    task, text = of_columns(tmp_path, note=notes, age=[str(i % 90) for i in range(200)])
    assert task["source"].get("text") == ({"columns": ["note"]} if ends > 1 else None)
    assert ("'note', constant" in text) == (ends == 1)


def test_columns_of_usual_exports_are_taken_for_what_they_are(tmp_path: Path):
    count = 60
    months = ("Jan", "Feb", "Sep")
    task, text = of_columns(
        tmp_path,
        **{
            "Unnamed: 0": [str(i) for i in range(count)],
            "charges": [f"${1000 + 37 * i:,}.50" for i in range(count)],
            "price": ["$1,299.00 - $1,499.00", "$5"] * (count // 2),
            "swiss": [f"{1 + i}'{100 + 7 * i}.50" for i in range(count)],
            "french": [f"{1 + i}\u202f{100 + 7 * i},50" for i in range(count)],
            "saturation": [f"{90 + i // 2 % 10}%" for i in range(count)],
            "dose": ["5 mg", "10 mg", "20 mg"] * (count // 3),
            "uric_acid": [f"{2 + i / 9:.1f}" for i in range(count)],
            "body_mass_index": [f"{17 + i / 7:.2f}" for i in range(count)],
            "encounter_no": ["unknown", *(str(5000 + 3 * i) for i in range(count - 1))],
            "Fall-Nr.": [str(6000 + 3 * i) for i in range(count)],
            "Fallnummer": [str(7000 + 3 * i) for i in range(count)],
            "oracle": [f"{1 + i % 28:02d}-{months[i % 3]}-20{10 + i // 10}" for i in range(count)],
            "sas": [f"{1 + i % 28:02d}{months[i % 3]}2014:05:00:00" for i in range(count)],
            "slashes": [f"2014/09/{1 + i % 28:02d}" for i in range(count)],
        },
    )
    fields = task["tabular"]["fields"]
    assert set(fields) == {"saturation", "dose", "uric_acid", "body_mass_index"}
    assert fields["saturation"] == {"kind": "number", "unit": "%"}
    assert fields["dose"]["kind"] == "category"
    unused = dict.fromkeys(("charges", "price", "swiss", "french"), "amount")
    unused |= dict.fromkeys(("Unnamed: 0", "encounter_no", "Fall-Nr.", "Fallnummer"), "number")
    unused |= dict.fromkeys(("oracle", "sas", "slashes"), "date")
    for name, kind in unused.items():
        assert f"#   '{name}', {kind}:" in text


def test_percentages_of_a_label_are_words_and_those_among_words_too(tmp_path: Path):
    """A label's number is read without a unit; as an input, `target` would tell the answer."""
    table = tmp_path / "cases.jsonl"
    shares: list[Any] = ["word", {"value": 5, "unit": "%"}]
    cases = [
        {"target": f"{i % 2}%", "share": shares[i // 2 % 2], "oxygen": f"{21 + i // 2 % 2}%"}
        for i in range(60)
    ]
    table.write_text("".join(json.dumps(each) + "\n" for each in cases))
    task, _ = guessed(table, tmp_path / "task.yaml")
    assert (task["source"]["label"], task["label"]["classes"]) == ("target", ["0%", "1%"])
    kinds = {name: field["kind"] for name, field in task["tabular"]["fields"].items()}
    assert kinds == {"share": "category", "oxygen": "number"}


@pytest.mark.parametrize("text", ["${}.50", "1 {}", "Thing {}"])
def test_a_price_or_a_title_is_not_taken_for_the_id(text: str, tmp_path: Path):
    table = tmp_path / "cases.csv"
    cases = [
        {"what": text.format(100 + 3 * i), "age": f"{i % 30}", "label": "ny"[i % 2]}
        for i in range(60)
    ]
    table.write_bytes(as_csv(cases, ",", ("what", "age", "label")))
    task, _ = guessed(table, tmp_path / "task.yaml")
    assert task["source"]["id"] is None


def test_json_lines_with_nested_rows_and_late_columns_are_looked_at(tmp_path: Path):
    place(tmp_path, {})
    cases = rows(20)
    for i, case in enumerate(cases):
        case["note"] = ["slept well", "walked"]
        case["vitals"] = [{"hours": 0, "pulse": 80}]
        if i > 10:
            case["late"] = i / 3
    table = tmp_path / "cases.jsonl"
    table.write_bytes(as_jsonl(cases))
    task, text = guessed(table, tmp_path / "task.yaml")
    assert task["source"]["text"]["columns"] == ["note"]
    assert "late" in task["tabular"]["fields"]
    assert "'vitals', rows: 0% missing" in text
    assert "timeseries.column" in text


# ---- series -------------------------------------------------------------------------------------


def main_table(folder: Path) -> Path:
    place(folder, {})
    table = folder / "cases.csv"
    columns = tuple(column for column in COLUMNS if column != "vitals")
    cases = [{column: case[column] for column in columns} for case in rows(20)]
    table.write_bytes(as_csv(cases, columns=columns))
    return table


def test_a_wide_table_of_series_is_described(tmp_path: Path):
    lines = [
        f"stay-{1 + i % 20},{30 * (i // 20)},{80 + i},{i / 90},{'AB'[i % 2]}" for i in range(200)
    ]
    (tmp_path / "all.csv").write_text("stay,minutes,pulse,ph,pose\n" + "\n".join(lines))
    table = main_table(tmp_path)
    task, _ = guessed(table, tmp_path / "task.yaml", "--series", str(tmp_path / "all.csv"))
    assert task["source"]["timeseries"] == {
        "file": "all.csv", "id": "stay", "time": "minutes", "time_unit": "minutes",
    }  # fmt: skip
    series = task["timeseries"]
    assert (series["horizon_hours"], series["step_hours"]) == (5, 1)
    assert set(series["variables"]) == {"pulse", "ph", "pose"}
    assert series["variables"]["pose"]["categories"] == ["A", "B"]
    data = prepare_table(table, tmp_path / "task.yaml", tmp_path / "data")
    assert data is not None
    assert data.card.missing["timeseries"] == 0
    assert problems_of(data.folder) == []


def test_a_table_of_series_from_elsewhere_is_said_to_be_outside(tmp_path: Path):
    table, series = main_table(tmp_path / "here"), tmp_path / "there.csv"
    lines = (f"stay-{1 + i % 20},{i // 20},{80 + i}" for i in range(200))
    series.write_text("stay,hours,pulse\n" + "\n".join(lines))
    task, _ = guessed(table, tmp_path / "task.yaml", "--series", str(series))
    described = task["source"]["timeseries"]
    assert (described["file"], described["outside"]) == (str(series), True)
    data = prepare_table(table, tmp_path / "task.yaml", tmp_path / "data")
    assert data is not None
    assert data.card.missing["timeseries"] == 0


def test_a_long_table_of_series_is_described(tmp_path: Path):
    frame = pl.DataFrame(
        {
            "stay": [f"stay-{1 + i % 20}" for i in range(400)],
            "charttime": [i // 20 for i in range(400)],
            "itemid": [220045 + i % 2 for i in range(400)],
            "value": [i / 3 for i in range(400)],
            "valueuom": ["1/min"] * 400,
        }
    )
    frame.write_parquet(tmp_path / "all.parquet")
    table = main_table(tmp_path)
    file = tmp_path / "task.yaml"
    task, text = guessed(table, file, "--series", str(tmp_path / "all.parquet"))
    assert task["source"]["timeseries"] == {
        "file": "all.parquet", "id": "stay", "time": "charttime", "time_unit": "hours",
        "variable": "itemid", "value": "value", "unit": "valueuom",
    }  # fmt: skip
    assert set(task["timeseries"]["variables"]) == {"220045", "220046"}
    file.write_text(text.replace('unit: ""', "unit: 1/min"))
    data = prepare_table(table, file, tmp_path / "data")
    assert data is not None
    assert data.card.missing["timeseries"] == 0
    assert problems_of(data.folder) == []


def test_a_duration_is_its_hours_whatever_its_column_is_called(tmp_path: Path):
    frame = pl.DataFrame(
        {
            "stay": [f"stay-{1 + i % 20}" for i in range(400)],
            "offset_minutes": [timedelta(hours=i // 20) for i in range(400)],
            "pulse": [60 + i % 40 for i in range(400)],
        }
    )
    frame.write_parquet(tmp_path / "all.parquet")
    series = ("--series", str(tmp_path / "all.parquet"))
    task, _ = guessed(main_table(tmp_path), tmp_path / "task.yaml", *series)
    assert task["source"]["timeseries"]["time_unit"] == "hours"
    assert task["timeseries"]["horizon_hours"] == 19


def test_dates_of_series_leave_the_start_to_the_user(tmp_path: Path):
    (tmp_path / "all.csv").write_text(
        "stay,charttime,pulse\n"
        + "".join(f"stay-{i},2020-01-0{i} 10:00,{i}\n" for i in range(1, 9))
    )
    table = main_table(tmp_path)
    _, text = guessed(table, tmp_path / "task.yaml", "--series", str(tmp_path / "all.csv"))
    assert 'start: "?"  # DECIDE' in text
    with pytest.raises(ConfigError) as caught:
        prepare_table(table, tmp_path / "task.yaml", tmp_path / "data")
    assert caught.value.field == "source.timeseries.start"


def test_columns_of_series_that_are_not_used_are_named(tmp_path: Path):
    words = ["before noon", "after lunch", "at night", "in the early morning"]
    lines = [
        f"stay-{1 + i % 20},{words[i % 4]} of day {i},{i},{3 + i}.05.2022 21:30"
        for i in range(0, 25)
    ]
    (tmp_path / "all.csv").write_text("stay,when,pulse,seen\n" + "\n".join(lines))
    series = ("--series", str(tmp_path / "all.csv"))
    task, text = guessed(main_table(tmp_path), tmp_path / "task.yaml", *series)
    assert task["source"]["timeseries"]["time"] == "seen"
    assert "# Dates, here and there, are only read as 2020-01-31 or" in text
    assert "# Columns of all.csv that are not used:\n#   'when', text: 0% missing" in text
    (tmp_path / "all.csv").write_text(
        "stay,when,pulse\n"
        + "".join(f"stay-{i % 20},{words[i % 4]} of day {i},1\n" for i in range(25))
    )
    (tmp_path / "task.yaml").unlink()
    _, text = guessed(main_table(tmp_path), tmp_path / "task.yaml", *series)
    assert 'time: "?"  # DECIDE: the column with the time. Candidates: when\n' in text


# ---- leaks --------------------------------------------------------------------------------------


def test_how_far_a_column_tells_the_label():
    rows = [
        {"y": i % 4 == 0, "same": "ab"[i % 4 == 0], "id": f"u{i}", "noise": i * 37 % 101,
         "number": (i % 4 == 0) + i / 1000, "most": i % 4 == 0 and i % 8 == 0}
        for i in range(400)
    ]  # fmt: skip
    for row in rows[::4]:
        row["only_then"] = "x"  # missing is a value too
    told = {name: told_by(name, "y", rows) for name in (*rows[0], "only_then")}
    assert told["same"] == told["y"] == told["only_then"] == 1
    assert told["number"] > 0.9
    assert told["most"] == 0.5
    assert told["id"] <= 0
    assert told["noise"] < 0.1


# ---- a user's mistakes --------------------------------------------------------------------------


def test_a_task_file_that_is_there_is_kept(tmp_path: Path):
    (tmp_path / "task.yaml").write_text("mine")
    (tmp_path / "cases.csv").write_bytes(as_csv(rows()))
    with pytest.raises(ConfigError) as caught:
        guessed(tmp_path / "cases.csv", tmp_path / "task.yaml")
    assert caught.value.code == "exists"
    assert (tmp_path / "task.yaml").read_text() == "mine"


def test_a_table_without_inputs_is_refused(tmp_path: Path):
    (tmp_path / "cases.csv").write_text("id,label\na,0\nb,1\nc,0\nd,1\n")
    with pytest.raises(DataError) as caught:
        guessed(tmp_path / "cases.csv", tmp_path / "task.yaml")
    assert caught.value.code == "no_inputs"
    assert not (tmp_path / "task.yaml").exists()


def test_a_number_that_no_float_holds_is_no_number(tmp_path: Path):
    cases = [{**case, "age": 20 + i, "died": "ny"[i % 2]} for i, case in enumerate(rows(40))]
    cases[3]["age"] = 10**400
    place(tmp_path, {"cases.jsonl": as_jsonl(cases)})
    task, text = guessed(tmp_path / "cases.jsonl", tmp_path / "task.yaml")
    assert task["tabular"]["fields"]["age"]["kind"] == "number"
    assert "from 20 to 59" in text
    assert "not numbers, reported as problems when prepared: '10000" in text


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"id,label\n", b'id,label\n"a,0\n'])
def test_what_is_no_table_is_refused_without_a_file(data: bytes, tmp_path: Path):
    (tmp_path / "cases.csv").write_bytes(data)
    with pytest.raises(DataError):
        guessed(tmp_path / "cases.csv", tmp_path / "task.yaml")
    assert not (tmp_path / "task.yaml").exists()


def test_the_command_says_what_it_did(tmp_path: Path):
    (tmp_path / "cases.csv").write_bytes(as_csv(rows(20)))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "training.prepare", "table", "--guess", "--source",
         str(tmp_path / "cases.csv"), "--out", str(tmp_path / "task.yaml")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a first guess from 20 rows and 9 columns" in done.stderr
    assert (tmp_path / "task.yaml").is_file()


# ---- real data ----------------------------------------------------------------------------------


def test_the_guesses_from_real_tables_run_as_they_are(open_data: Path, tmp_path: Path):
    table = open_data / "covid_cxr" / "metadata.csv"
    task, text = guessed(table, tmp_path / "task.yaml")
    source = task["source"]
    assert (source["id"], source["group"], source["label"]) == (
        "filename", "patientid", "survival",
    )  # fmt: skip
    assert source["image"]["columns"] == ["pack_image"]
    assert "clinical_notes" in source["text"]["columns"]
    assert task["tabular"]["fields"]["location"] == {"kind": "category"}
    assert "# went_icu: {" in text
    data = prepare_table(table, tmp_path / "task.yaml", tmp_path / "covid")
    assert data is not None
    assert (len(data), sum(data.card.labelled.values())) == (312, 145)
    assert problems_of(data.folder) == []

    folder = open_data / "yaib_mortality24" / "eicu_demo"
    cases = pl.read_parquet(folder / "sta.parquet").join(
        pl.read_parquet(folder / "outc.parquet"), on="stay_id"
    )
    cases.head(60).write_parquet(tmp_path / "cases.parquet")
    pl.read_parquet(folder / "dyn.parquet").join(
        cases.head(60), on="stay_id", how="semi"
    ).write_parquet(tmp_path / "dyn.parquet")
    file = tmp_path / "eicu.yaml"
    task, _ = guessed(tmp_path / "cases.parquet", file, "--series", str(tmp_path / "dyn.parquet"))
    assert (task["source"]["id"], task["source"]["label"]) == ("stay_id", "label")
    assert len(task["timeseries"]["variables"]) > 40
    data = prepare_table(tmp_path / "cases.parquet", file, tmp_path / "eicu")
    assert data is not None
    assert len(data) == 60
    assert problems_of(data.folder) == []


@pytest.mark.parametrize(("name", "told"), [("observationoffset", False), ("minutes", True)])
def test_a_unit_of_time_that_nothing_tells_is_to_be_checked(name: str, told: bool, tmp_path: Path):
    """The eICU counts minutes in its offsets, which come out as hours."""
    place(tmp_path, {"all.csv": f"id,{name},pulse\n".encode() + b"stay-0,90,80\nstay-1,2000,90\n"})
    table = tmp_path / "stays.csv"
    table.write_bytes(as_csv(rows(24)))
    series = ("--series", str(tmp_path / "all.csv"))
    _, text = guessed(table, tmp_path / "task.yaml", *series)
    assert ("# CHECK, this is only a guess: seconds, minutes, hours, days" in text) != told
