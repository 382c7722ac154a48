"""Tables on disk are read and written a row at a time, whatever their format."""

import gzip
import json
import os
import subprocess
import sys
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clients import InvalidInput
from clients.tables import Column, find_writer, open_table

COLUMNS = [
    Column("id", "text"),
    Column("chance", "number"),
    Column("set", "texts"),
    Column("issues", "json"),
]
ROWS = [
    ["a", 0.1 + 0.2, ["x", "y"], [{"seen": 1, "why": 'a "quoted"\nline'}]],
    [None, None, None, None],
    ["müde, 38 °C", 1e-12, [], []],
]


def rows_of(path, start=0, wanted=None):
    table = open_table(path)
    return list(table.read(start, table.columns if wanted is None else wanted))


def test_what_is_written_is_read_again(tmp_path):
    for name in ("t.csv", "t.jsonl", "t.ndjson", "t.parquet"):
        find_writer(tmp_path / name)(tmp_path / name, COLUMNS, iter(ROWS))
        table = open_table(tmp_path / name)
        assert (table.columns, table.rows) == (["id", "chance", "set", "issues"], 3), name
    assert [list(row.values()) for row in rows_of(tmp_path / "t.jsonl")] == ROWS
    first, empty, last = rows_of(tmp_path / "t.parquet")
    assert (first["chance"], first["set"], empty["set"]) == (0.1 + 0.2, ["x", "y"], None)
    assert json.loads(first["issues"]) == ROWS[0][3]
    first, empty, last = rows_of(tmp_path / "t.csv")
    assert (float(first["chance"]), json.loads(first["issues"])) == (0.1 + 0.2, ROWS[0][3])
    assert list(empty.values()) == ["", "", "", ""]
    assert last["id"] == "müde, 38 °C"


@pytest.mark.parametrize("groups", [1, 7, 1000])
def test_reading_begins_at_any_row(tmp_path, groups):
    numbers = list(range(150))
    pq.write_table(pa.table({"n": numbers}), tmp_path / "t.parquet", row_group_size=groups)
    (tmp_path / "t.csv").write_text("n\n" + "".join(f"{n}\n" for n in numbers))
    (tmp_path / "t.jsonl").write_text("".join(f'{{"n": {n}}}\n\n' for n in numbers))
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        for start in (0, 6, 7, 63, 64, 149, 150):
            found = [int(row["n"]) for row in rows_of(tmp_path / name, start)]
            assert found == numbers[start:], (name, start)


def test_text_may_be_packed_as_where_it_is_prepared(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress("id;text\na;müde\nb;wach\n".encode()))
    (tmp_path / "t.JSONL.GZ").write_bytes(gzip.compress(b'{"id": "a"}\n{"id": "b"}\n'))
    for name in ("t.csv.gz", "t.JSONL.GZ"):
        table = open_table(tmp_path / name)
        assert (table.rows, [row["id"] for row in table.read(1, ["id"])]) == (2, ["b"]), name


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "cut.csv.gz",
            gzip.compress(os.urandom(9000).hex().encode())[:-400],
            "the compressed file is damaged",
        ),
        ("damaged.csv.gz", gzip.compress(b"a,b\n")[:12] + b"\xff" * 20, "cannot read"),
        ("plain.csv.gz", b"a,b\n1,2\n", "Not a gzipped file"),
        ("t.parquet.gz", b"", "accepted: .csv, .jsonl, .ndjson or .parquet; text also compressed"),
        ("t.gz", b"", "cannot tell the format of"),
    ],
)
def test_what_is_packed_and_damaged_is_told(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match="input: ") as caught:
        open_table(tmp_path / name)
    assert problem in str(caught.value)


def test_what_stands_in_objects_is_a_column_and_a_value_with_its_unit_too(tmp_path):
    weight = {"value": 175, "unit": "lb"}
    cells = {"id": "a", "tabular": {"age": 71, "weight": weight}, "vitals": [{"hours": 1}]}
    (tmp_path / "t.jsonl").write_text(json.dumps(cells))
    pq.write_table(pa.Table.from_pylist([cells]), tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        table = open_table(tmp_path / name)
        assert table.columns == ["id", "tabular.age", "tabular.weight", "vitals"]
        inner = {"tabular.weight.value": 175, "tabular.weight.unit": "lb"}
        assert table.inner == dict.fromkeys(inner, "tabular.weight")
        (row,) = rows_of(tmp_path / name)
        assert row == {
            "id": "a", "tabular.age": 71, "tabular.weight": weight, **inner,
            "vitals": [{"hours": 1}],
        }  # fmt: skip
        assert rows_of(tmp_path / name, wanted=["tabular.weight.value"])[0].items() >= inner.items()
    flat = {"tabular": {"weight": 80}, "tabular.weight.unit": "kg"}
    (tmp_path / "t.jsonl").write_text(f"{json.dumps(cells)}\n{json.dumps(flat)}\n")
    table = open_table(tmp_path / "t.jsonl")
    assert "tabular.weight.unit" in table.columns
    assert table.inner == {"tabular.weight.value": "tabular.weight"}


def test_of_parquet_only_the_columns_wanted_are_read(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": [2], "c": [Decimal("1.5")]}), tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet", wanted=["b"]) == [{"b": 2}]


@pytest.mark.parametrize("names", [["a", "b", "a"], ["b", "a.b", "a"]])
def test_of_two_columns_of_one_name_neither_is_taken(tmp_path, names):
    cells = [pa.array([1]), pa.array([2]), pa.array([{"b": 3}])]
    pq.write_table(pa.Table.from_arrays(cells, names=names), tmp_path / "t.parquet")
    with pytest.raises(InvalidInput, match="two columns are named 'a"):
        open_table(tmp_path / "t.parquet")


def test_a_single_column_may_have_empty_cells(tmp_path):
    (tmp_path / "t.csv").write_text("\ntext\nhello\n\n\nworld\n\n")
    assert [row["text"] for row in rows_of(tmp_path / "t.csv")] == ["hello", "", "", "world"]
    assert [row["text"] for row in rows_of(tmp_path / "t.csv", start=2)] == ["", "world"]


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb", 'a",b'])
def test_a_cell_may_hold_the_end_of_a_line(tmp_path, text):
    find_writer("t.csv")(tmp_path / "t.csv", COLUMNS, [[text, 0.5, None, None], ["c", 1, [], []]])
    assert [row["id"] for row in rows_of(tmp_path / "t.csv")] == [text, "c"]


def test_a_row_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n1\n\n3,4\n")
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"a":\n[1]\n\n{"b": 2}\n')
    ragged = rows_of(tmp_path / "t.csv")
    assert [isinstance(row, InvalidInput) for row in ragged] == [False, True, False]
    assert str(ragged[1]) == "row: has 1 cells, but the header has 2"
    (tmp_path / "twice.jsonl").write_text('{"a": 1, "b": {"c": 1, "c": 2}}\n')
    assert "'c' appears twice" in str(*rows_of(tmp_path / "twice.jsonl"))
    (tmp_path / "both.jsonl").write_text('{"b.c": 5, "b": {"c": 3}}\n{"b": {"c": 3}}\n')
    twice, once = rows_of(tmp_path / "both.jsonl")
    assert (str(twice), once) == ("b.c: appears twice in a row; accepted: one value", {"b.c": 3})
    broken = rows_of(tmp_path / "t.jsonl")
    assert [isinstance(row, InvalidInput) for row in broken] == [False, True, True, False]
    assert "not JSON" in str(broken[1])


def test_a_row_of_parquet_that_python_cannot_have_does_not_stop_the_others(tmp_path):
    starts = pa.array([0, 1, 3, 4], pa.int32()).buffers()[1]
    times = pa.array([0, 0, 10**14], pa.timestamp("s"))
    texts = pa.StringArray.from_buffers(3, starts, pa.py_buffer(b"a\xe9bc"))
    pq.write_table(pa.table({"text": texts, "time": times}), tmp_path / "t.parquet")
    for start in (0, 1):
        *before, text, time = rows_of(tmp_path / "t.parquet", start)
        assert [row["text"] for row in before] == ["a"][start:]
        assert str(text).startswith("row: text cannot be read: 'utf-8' codec")
        assert str(time).startswith("row: time cannot be read: ")
    other = rows_of(tmp_path / "t.parquet", wanted=["text"])
    assert [isinstance(row, InvalidInput) for row in other] == [False, True, False]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_are_separated_by_whatever_the_first_line_has(tmp_path, delimiter):
    (tmp_path / "t.csv").write_text(f'\ufeffa{delimiter}b\n"1{delimiter}5"{delimiter}2\n')
    assert rows_of(tmp_path / "t.csv") == [{"a": f"1{delimiter}5", "b": "2"}]


@pytest.mark.parametrize("said", ["sep=;\n", '\ufeff"sep=;"\r\n'])
def test_excels_first_line_tells_the_delimiter_and_is_passed_over(tmp_path, said):
    (tmp_path / "t.csv").write_text(f"{said}age;a, b, c\n71;5\n", newline="")
    table = open_table(tmp_path / "t.csv")
    assert (table.columns, table.rows) == (["age", "a, b, c"], 1)
    assert list(table.read(0, table.columns)) == [{"age": "71", "a, b, c": "5"}]


def test_a_name_of_several_lines_is_a_name_and_a_record_of_nothing_names_nothing(tmp_path):
    (tmp_path / "t.csv").write_text(';;\n"number, of,\n\nthe, case";age;sex\n1;71;F\n')
    assert rows_of(tmp_path / "t.csv") == [
        {"number, of,\n\nthe, case": "1", "age": "71", "sex": "F"}
    ]
    (tmp_path / "t.csv").write_text('"number, of,\n\nthe, case";age\n1;71\n')
    assert rows_of(tmp_path / "t.csv") == [{"number, of,\n\nthe, case": "1", "age": "71"}]


def test_a_column_without_a_name_is_called_by_its_place_where_it_holds_anything(tmp_path):
    (tmp_path / "t.csv").write_text("age,,sex, ,\n71,,F,,\n64,,M,x, \n50,,F\n")
    table = open_table(tmp_path / "t.csv")
    assert (table.columns, table.rows) == (["age", "sex", "(column 4)"], 3)
    first, second, cut = table.read(0, ["(column 4)"])
    assert (first["(column 4)"], second["(column 4)"], second["sex"]) == ("", "x", "M")
    assert str(cut) == "row: has 3 cells, but the header has 5"


def test_what_stands_in_quotes_separates_nothing_and_a_blank_line_names_nothing(tmp_path):
    (tmp_path / "t.csv").write_text('\n\nid;"Age, years";"Weight, kg"\n1;50;70\n')
    assert rows_of(tmp_path / "t.csv") == [{"id": "1", "Age, years": "50", "Weight, kg": "70"}]
    for blank in ("\n\n  \n", " \t\n", ",,,\n", " , ,\n\n", "|\n;;\n"):
        (tmp_path / "t.csv").write_text(f"{blank}id;text\n1;abc\n")
        assert rows_of(tmp_path / "t.csv") == [{"id": "1", "text": "abc"}]


def test_empty_cells_beyond_the_header_are_passed_over(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2,, \n1,2,3\n")
    empty, more = rows_of(tmp_path / "t.csv")
    assert empty == {"a": "1", "b": "2"}
    assert str(more) == "row: has 3 cells, but the header has 2"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.csv", None, "No such file"),
        ("t.xlsx", b"PK", "cannot tell the format of"),
        ("t.csv", b"", "there is no header line"),
        ("t.csv", b"a,a\n1,2\n", "two columns are named 'a'"),
        ("t.csv", "a\nm\xfcde\n".encode("latin-1"), "UTF-8"),
        ("t.jsonl", '{"a": "m\xfcde"}\n'.encode("latin-1"), "UTF-8"),
        ("t.csv", b'a,b\n1,"2\n3,4\n', "not CSV: unexpected end"),
        ("t.csv", b'a;"b\n' + b"1;2\n" * 100, "not CSV: unexpected end"),
        ("t.csv", b"sep=;\n", "there is no header line"),
        ("t.parquet", b"PAR1 and no more", "cannot read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        open_table(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "latin-1"])
def test_a_table_is_read_in_the_encoding_that_is_named(tmp_path, encoding):
    (tmp_path / "t.csv").write_text("id;Größe\nä;1\n", encoding=encoding)
    (tmp_path / "t.jsonl").write_text('{"id": "ä", "Größe": "1"}\n', encoding=encoding)
    for name in ("t.csv", "t.jsonl"):
        table = open_table(tmp_path / name, encoding)
        assert list(table.read(0, table.columns)) == [{"id": "ä", "Größe": "1"}]
        if encoding != "utf-8":
            with pytest.raises(InvalidInput, match=r"cannot read .*; accepted: .* cp1252"):
                open_table(tmp_path / name)
        if encoding != "utf-16":
            with pytest.raises(InvalidInput, match=r"cannot read .*; accepted: .* cp1252"):
                open_table(tmp_path / name, "utf-16")


def test_a_table_may_have_no_rows(tmp_path):
    for name, content in {"t.csv": "a,b\n", "t.jsonl": ""}.items():
        (tmp_path / name).write_text(content)
        assert rows_of(tmp_path / name) == []


def test_only_parquet_needs_pyarrow(tmp_path):
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from clients import InvalidInput\n"
        "from clients.tables import find_writer, open_table\n"
        "find_writer('a.csv'); find_writer('a.jsonl')\n"
        "for use in (find_writer, open_table):\n"
        "    try: use('a.parquet')\n"
        "    except InvalidInput as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("Parquet needs pyarrow; accepted: pip install pyarrow") == 2


PEAK = """
import sys
from clients.tables import open_table
def peak():  # of this process alone; what getrusage tells begins with its parent's
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
table = open_table(sys.argv[1])
before = peak()
print(sum(len(row["image"]) for row in table.read(0, ["image"])) >> 20, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("pages", "most"), [({"write_batch_size": 1}, 60), ({"row_group_size": 8}, 85)], ids=str
)
def test_of_large_pictures_no_more_than_a_few_pages_and_rows_are_held(tmp_path, pages, most):
    pictures = pa.array([os.urandom(1_200_000) for _ in range(80)])
    pq.write_table(pa.table({"image": pictures}), tmp_path / "t.parquet", **pages)
    words = [sys.executable, "-c", PEAK, str(tmp_path / "t.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    read, grown = map(int, done.stdout.split())
    assert read == 91
    assert grown < most
