"""MIMIC-IV's unlabelled sets, and runs that are interrupted, repeated or read in pieces."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from lanistr.errors import DataError
from lanistr.modalities import Modality
from tests.training.prepare.mimic_files import Files, at, prepare
from training.data.store import Dataset
from training.prepare import prepared
from training.prepare.mimic_iv import command, events, notes, pictures, tables
from training.prepare.mimic_iv.tables import read_blocks, read_table

UNLABELLED = ("--unlabelled",)
PRODUCT = ("--unlabelled", "--pairing", "patient-product")


def hospital() -> Files:
    """Make 20 patients in intensive care; the first has two of everything, others lack most."""
    files = Files()
    for number in range(20):
        files.stay(number)
        files.chart(number, 1, 220045, 70 + number, valueuom="bpm")
        files.lab(number, 2, 50931, 100 + number, valueuom="mg/dL")
    second = files.rows["icu/icustays"][0] | {
        "stay_id": 31_000_000,
        "intime": at(100),
        "outtime": at(120),
    }
    files.add("icu/icustays", **second)
    files.chart(1_000_000, 101, 220045, 65, valueuom="bpm")
    files.note(0, 1, "first note of the first patient")
    files.note(0, 150, "second note, long after both stays")
    for hour, name, view in ((2, "a", "AP"), (30, "b", "LATERAL"), (170, "c", "PA")):
        files.xray(0, hour, name, view, grey=40 + hour)
    files.note(1, 5, "only a note")
    files.xray(2, 5, "d", grey=20)
    # A patient of the hospital who never was in intensive care.
    files.add("hosp/patients", subject_id=10_000_099, gender="M", anchor_age=50, anchor_year=2150)
    files.note(99, 5, "seen as an outpatient")
    files.xray(99, 7, "e", grey=230)
    return files


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hospital().write(tmp_path_factory.mktemp("hospital") / "source")


def rows_of(data: Dataset, modality: Modality) -> int:
    with pa.memory_map(str(data.folder / f"{modality}.arrow")) as file:
        return int(pa.ipc.open_file(file).read_all().num_rows)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- pairings -----------------------------------------------------------------------------------


def test_unlabelled_stays_bring_the_parts_of_their_own_window(source: Path, tmp_path: Path):
    data = prepare(source, tmp_path / "data", *UNLABELLED)
    names = data.ids(range(len(data)))
    assert len(data) == 21
    assert np.isnan(data.labels).all()
    first, second = names.index("30000000"), names.index("31000000")
    assert data.patterns([first])[0] == "text+image+tabular+timeseries"
    assert data.patterns([second])[0] == "tabular+timeseries"  # note and picture are of other hours
    assert data.row_counts(Modality.TEXT)[first] == 1
    assert data.patterns([names.index("30000001")])[0] == "text+tabular+timeseries"
    assert data.patterns([names.index("30000002")])[0] == "image+tabular+timeseries"
    assert [rule["rule"] for rule in data.card.source["attrition"]] == ["all", "known", "adult"]


def test_a_short_stay_ends_before_48_hours_and_so_does_its_window(tmp_path: Path):
    files = Files()
    files.stay(0, outtime=at(20))
    files.note(0, 19, "still there")
    files.note(0, 21, "already on the ward")
    data = prepare(files.write(tmp_path / "source"), tmp_path / "data", *UNLABELLED,
                   "--splits", "1", "0", "0")  # fmt: skip
    assert data.row_counts(Modality.TEXT).tolist() == [1]


def test_a_patients_product_pairs_everything_and_stores_each_part_once(
    source: Path, tmp_path: Path
):
    data = prepare(source, tmp_path / "data", *PRODUCT)
    names = data.ids(range(len(data)))
    assert len(set(names)) == len(names) == 2 * 2 * 3 + 19 + 1
    of_first = [name for name in names if name.startswith(("30000000/", "31000000/"))]
    assert len(of_first) == 12
    assert "/10000099-RR-3/e" in names  # a note and a picture, no stay
    assert data.patterns([names.index("/10000099-RR-3/e")])[0] == "text+image"
    assert data.patterns([names.index("30000005//")])[0] == "tabular+timeseries"
    assert rows_of(data, Modality.TEXT) == 4
    assert rows_of(data, Modality.IMAGE) == 5
    assert rows_of(data, Modality.TIMESERIES) == 21
    assert (data.row_counts(Modality.IMAGE) <= 1).all()
    pairs = {
        tuple(int(data.references(m, [names.index(name)])[0]) for m in Modality)
        for name in of_first
    }
    assert len(pairs) == 12
    assert data.card.missing["timeseries"] == pytest.approx(1 / 32, abs=1e-4)


def test_a_series_that_many_samples_share_counts_once_for_the_scales(source: Path, tmp_path: Path):
    data = prepare(source, tmp_path / "data", *PRODUCT, "--splits", "1", "0", "0")
    scale = data.preprocessor.parts[Modality.TIMESERIES].scales["heart_rate"]  # type: ignore[attr-defined]
    assert scale.mean == pytest.approx(np.mean([65, *range(70, 90)]))


def test_a_patient_is_in_the_same_split_of_the_labelled_and_the_unlabelled_sets(
    source: Path, tmp_path: Path
):
    split_of: dict[str, set[str]] = {}
    sizes = []
    for name, options in (("labelled", ()), ("stays", UNLABELLED), ("product", PRODUCT)):
        data = prepare(source, tmp_path / name, *options, "--splits", "0.6", "0.2", "0.2")
        groups = data._index["group"].to_pylist()
        for group, split in zip(groups, data.splits, strict=True):
            split_of.setdefault(group, set()).add(split)
        sizes.append(data.card.cases)
    assert {len(splits) for splits in split_of.values()} == {1}
    assert len(split_of) == 21
    assert sizes[0] == {"train": 12, "validation": 4, "test": 3}  # of 19 who can have a label


# ---- again and again ----------------------------------------------------------------------------


def test_two_runs_are_identical_byte_by_byte(source: Path, tmp_path: Path):
    for options in ((), UNLABELLED, PRODUCT):
        one, two = (prepare(source, tmp_path / f"{len(options)}{n}", *options) for n in "ab")
        assert contents(one.folder) == contents(two.folder)


@pytest.mark.parametrize("when", ["events", "notes", "pictures", "prepare"])
def test_a_run_that_was_interrupted_goes_on_and_ends_the_same(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
):
    whole = prepare(source, tmp_path / "whole")
    out = tmp_path / "data"
    made: list[str] = []

    def note(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            made.append(name)
            return real(*args, **options)

        return step

    def interrupted(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    steps = {"events": events, "notes": notes, "pictures": pictures}
    for name, module in steps.items():
        step = note(name, getattr(module, f"extract_{name}"))
        monkeypatch.setattr(command, f"extract_{name}", step)
    with monkeypatch.context() as patch:
        if when == "prepare":
            patch.setattr(prepared, "prepare", interrupted)
        else:
            patch.setattr(command, f"extract_{when}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out)
    assert not out.exists()
    before = made.copy()
    data = prepare(source, out)
    assert contents(data.folder) == contents(whole.folder)
    assert sorted(made) == ["events", "notes", "pictures"]  # each was made once, by one of the runs
    assert len(before) == ["events", "notes", "pictures", "prepare"].index(when)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "whole"]


def test_what_was_extracted_from_other_files_or_for_other_options_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = hospital()
    source = files.write(tmp_path / "source")

    def stop(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    for change in ("options", "files"):
        out = tmp_path / change
        with monkeypatch.context() as patch:
            patch.setattr(prepared, "prepare", stop)
            with pytest.raises(KeyboardInterrupt):
                prepare(source, out)
        options = UNLABELLED if change == "options" else ()
        if change == "files":
            files.chart(3, 4, 220045, 99, valueuom="bpm")
            files.write(source)
        data = prepare(source, out, *options)
        fresh = prepare(source, tmp_path / f"fresh-{change}", *options)
        assert contents(data.folder) == contents(fresh.folder)
        assert not (tmp_path / f".{change}.work").exists()


@pytest.mark.parametrize("change", ["put back", "replaced", "taken away"])
def test_pictures_that_have_changed_since_a_run_was_interrupted_are_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
):
    files = hospital()
    source = files.write(tmp_path / "source")
    other, _, _, wanted, _ = (source / name for name in files.pictures)
    if change == "put back":
        whole = wanted.read_bytes()
        wanted.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "prepare", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(source, tmp_path / "data")
    if change == "put back":
        wanted.write_bytes(whole)
    elif change == "replaced":
        wanted.write_bytes(other.read_bytes())
    else:
        wanted.unlink()
    found = prepare(source, tmp_path / "data")
    fresh = prepare(source, tmp_path / "fresh")
    assert contents(found.folder) == contents(fresh.folder)
    listed = [tmp_path / f"{name}.problems.jsonl" for name in ("data", "fresh")]
    assert len({path.read_bytes() if path.exists() else b"" for path in listed}) == 1


@pytest.mark.parametrize("edited", ["task", "code"])
def test_what_was_extracted_before_the_task_or_the_items_were_edited_is_not_taken(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str
):
    def stop(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    def extracted() -> set[str]:
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "data")
        return {path.name for path in (tmp_path / ".data.work").iterdir()}

    monkeypatch.setattr(prepared, "prepare", stop)
    before = extracted()
    assert extracted() == before
    if edited == "task":
        task = command.find_task("mortality").model_copy(update={"title": "Another"})
        monkeypatch.setattr(command, "find_task", lambda _: task)
    else:
        (tmp_path / "variables.py").write_text("CHART_ITEMS = {}")
        monkeypatch.setattr(command, "_CODE", tmp_path)
    assert not extracted() & before


def test_problems_of_a_step_that_is_taken_over_are_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = hospital()
    files.chart(3, 4, 224639, 12, valueuom="stone")
    source = files.write(tmp_path / "source")
    listed = tmp_path / "data.problems.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(command, "extract_notes", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(source, tmp_path / "data")
    before = listed.read_bytes()
    data = prepare(source, tmp_path / "data")
    assert listed.read_bytes() == before
    assert b"stone" in before
    assert data.card.source["problems"] == {"unknown_unit": 1}


def test_too_many_problems_stop_the_run_and_leave_no_data_set(tmp_path: Path):
    files = hospital()
    for hour in range(5):
        files.chart(3, hour, 220045, 80, charttime="yesterday")
    source = files.write(tmp_path / "source")
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "data", "--most-problems", "3")
    assert caught.value.code == "too_many_problems"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.problems.jsonl", "source"]
    assert len((tmp_path / "data.problems.jsonl").read_text().splitlines()) == 4


def test_more_stays_than_are_held_at_once_come_in_their_order(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = prepare(source, tmp_path / "whole", *PRODUCT)
    monkeypatch.setattr("training.prepare.mimic_iv.pairing._OWNERS_AT_ONCE", 3)
    pieces = prepare(source, tmp_path / "pieces", *PRODUCT)
    assert contents(whole.folder) == contents(pieces.folder)


# ---- tables in pieces ---------------------------------------------------------------------------

COLUMNS = {"id": pl.Int64(), "text": pl.String(), "when": tables.TIME}


def read(path: Path, text: str | bytes) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    """Return the rows of a table and the problems with it."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    found: list[dict[str, Any]] = []

    def report(code: str, message: str, **where: Any) -> None:
        found.append({"code": code, **where})

    return read_table(path, COLUMNS, report).rows(), found


def test_records_are_the_same_however_small_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cells = ["plain", 'says ""yes""', "two\nlines", "a, comma", "\n\n", "ends\n", "ü…"]
    lines = [f'{i},"{cells[i % len(cells)]}",2150-03-01 10:00:{i % 60:02}' for i in range(200)]
    text = "id,text,when\n" + "\n".join(lines) + "\n"
    whole, _ = read(tmp_path / "t.csv", text)
    assert [row[0] for row in whole] == list(range(1, 201))
    assert [row[2] for row in whole[:3]] == ["plain", 'says "yes"', "two\nlines"]
    for size in (40, 100, 1000):
        monkeypatch.setattr(tables, "BLOCK", size)
        assert read(tmp_path / "t.csv", text) == (whole, [])
        blocks = list(read_blocks(tmp_path / "t.csv", COLUMNS, lambda *a, **k: None))
        assert len(blocks) > 1000 // size
        ends = [block[tables.ROW].max() for block in blocks]
        assert all(one < two for one, two in pairwise(ends))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffid,text,when\n1,a,2150-03-01\n",
        "id,text,when\r\n1,a,2150-03-01 00:00:00\r\n",
        "when,other,id,text\n2150-03-01 00:00:00,x,1,a",
    ],
)
def test_byte_order_marks_line_ends_other_orders_and_a_missing_last_line_end_do_no_harm(
    tmp_path: Path, text: str
):
    rows, found = read(tmp_path / "t.csv", text)
    assert [row[:3] for row in rows] == [(1, 1, "a")]
    assert str(rows[0][3]) == "2150-03-01 00:00:00"
    assert found == []


def test_what_a_short_record_lacks_is_missing(tmp_path: Path):
    for text in ("1,a\n2,b,2150-03-01\n", "2,b,2150-03-01\n1,a\n"):
        rows, found = read(tmp_path / "t.csv", "id,text,when\n" + text)
        assert {row[1]: row[2] for row in rows} == {1: "a", 2: "b"}
        assert {row[1]: row[3] is None for row in rows} == {1: True, 2: False}
        assert found == []


def test_cells_that_are_not_of_their_type_are_told_by_row_and_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = "id,text,when\n" + "".join(
        f"{'x7' if i == 7 else i},t,{'soon' if i == 9 else '2150-03-01 10:00:00'}\n"
        for i in range(1, 31)
    )
    for size in (60, 10_000):
        monkeypatch.setattr(tables, "BLOCK", size)
        rows, found = read(tmp_path / "t.csv", text)
        assert len(rows) == 30
        assert (rows[6][1], rows[8][3]) == (None, None)
        assert [(p["row"], p["column"], p["seen"]) for p in found] == [
            (7, "id", "x7"),
            (9, "when", "soon"),
        ]


def test_problems_are_told_in_order_before_a_later_piece_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lines = [f"{'x' if i in (10, 20, 60) else i},t,2150-03-01\n" for i in range(1, 101)]
    (tmp_path / "t.csv").write_text("id,text,when\n" + "".join(lines) + "1,2,3,4\n")
    monkeypatch.setattr(tables, "BLOCK", 100)
    found: list[int] = []
    with pytest.raises(DataError, match="record 101"):
        read_table(tmp_path / "t.csv", COLUMNS, lambda *_, row, **__: found.append(row))
    assert found == [10, 20, 60]


def test_letters_that_are_no_utf_8_are_told_and_do_not_stop_the_reading(tmp_path: Path):
    rows, found = read(tmp_path / "t.csv", b"id,text,when\n1,20\xb0C,2150-03-01\n2,b,2150-03-01\n")
    assert [row[2] for row in rows] == ["20\ufffdC", "b"]
    assert [(p["code"], p["row"], p["column"]) for p in found] == [("not_utf8", 1, "text")]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "empty_file", ""),
        ("id,when\n1,2150-03-01\n", "missing_column", "text"),
        ("id;text;when\n1;a;2150-03-01\n", "missing_column", "id"),
        ("id,text,when\n1,a,2150-03-01\n2,a,b,c,d\n", "ragged_row", "record 2"),
        ("id,text,when\n1,a,b,c,d\n2,a,2150-03-01\n", "ragged_row", "record 1"),
        ("id,text,when,why\n1,a,2150-03-01,b\n2,a,2150-03-01,b,\n", "ragged_row", "record 2"),
        ('id,text,when\n1,"a,2150-03-01\n' + 400 * "2,a,2150-03-01\n", "open_quote", "record 1 "),
        (
            "id,text,when\n" + 99 * "2,a,2150-03-01\n" + '1,"a,2150-03-01\n' + "2,,2150-03-01\n",
            "open_quote",
            "record 100 ",
        ),
    ],
)
def test_what_is_no_such_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: str, says: str
):
    monkeypatch.setattr(tables, "BLOCK", 1000)
    monkeypatch.setattr(tables, "_LONGEST_RECORD", 4000)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "t.csv", text)
    assert caught.value.code == code
    assert says in caught.value.message
    assert caught.value.field == str(tmp_path / "t.csv")
    if code == "open_quote":
        assert caught.value.seen == '1,"a,2150-03-01'
