"""A user's own table is prepared whole or not at all, and in little memory."""

import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from tests.training.prepare.tables import (
    SOURCE,
    TASK,
    as_csv,
    place,
    prepare_table,
    prepared,
    problems_of,
    rows,
    write_task,
)
from training.prepare.__main__ import KINDS, _parser
from training.prepare.problems import Problems
from training.prepare.table.cases import CaseReader
from training.prepare.table.columns import read_columns
from training.prepare.table.parts import Setting
from training.prepare.table.rows import MissingWords
from training.prepare.table.store import CaseStore
from training.prepare.table.tables import open_table

ROOT = Path(__file__).resolve().parents[3]


def test_two_runs_are_identical_byte_by_byte(tmp_path: Path):
    cases = rows(20)
    cases[3]["age"] = "old"
    one, two = (prepared(tmp_path / name, as_csv(cases)).folder for name in ("one", "two"))
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_too_many_problems_stop_the_run_and_leave_the_list_alone(tmp_path: Path):
    cases = [{**case, "age": "old"} for case in rows(10)]
    with pytest.raises(DataError) as caught:
        prepared(tmp_path / "x", as_csv(cases), more=("--most-problems", "3"))
    assert caught.value.code == "too_many_problems"
    assert caught.value.seen == "{'wrong_type': 4}"
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["data.problems.jsonl", "raw"]
    assert [each["row"] for each in problems_of(tmp_path / "x" / "data")] == [1, 2, 3, 4]


def test_a_case_of_which_nothing_is_left_at_the_end_is_listed_by_its_row(tmp_path: Path):
    age = {"kind": "number", "range": [0, 120]}
    label = TASK["label"]
    task = {"name": "t", "title": "T", "label": label, "metric": "auroc"}
    task["tabular"] = {"fields": {"age": age}}
    text = "id,age,died\n" + "".join(f"a{i},{i},survived\n" for i in range(20)) + "b,-5,died\n"
    (tmp_path / "t.csv").write_text(text)
    source = {"id": "id", "label": "died"}
    data = prepare_table(tmp_path / "t.csv", write_task(tmp_path, task, source), tmp_path / "out")
    assert data is not None
    (told,) = problems_of(tmp_path / "out")
    assert (told["code"], told["row"], told["column"], told["seen"]) == (
        "nothing_usable", 21, "tabular.age", -5,
    )  # fmt: skip
    assert told["file"] == str(tmp_path / "t.csv")
    assert told["message"].endswith("case b is left out (tabular.age out_of_range)")
    assert data.card.source["problems"] == data.card.refused == {"nothing_usable": 1}


@pytest.mark.parametrize("more", [(), ("--guess",)])
def test_less_than_no_problems_cannot_be_asked_for(more: tuple[str, ...], tmp_path: Path):
    place(tmp_path, {"cases.csv": as_csv(rows())})
    words = ["--source", tmp_path / "cases.csv", "--out", tmp_path / "data", "--most-problems", -1]
    words += more or ["--task", write_task(tmp_path, TASK, SOURCE)]
    (tmp_path / "data.problems.jsonl").write_text("{}\n")
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigError) as caught:
        KINDS["table"].prepare(_parser().parse_args(["table", *map(str, words)]))
    assert (caught.value.field, caught.value.seen) == ("--most-problems", -1)
    assert set(tmp_path.iterdir()) == before


def test_a_run_that_succeeds_forgets_the_problems_of_the_one_before(tmp_path: Path):
    (tmp_path / "data.problems.jsonl").write_text("{}\n")
    data = prepared(tmp_path, as_csv(rows()))
    assert problems_of(data.folder) == []


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lanistr.preprocess.text.TextPreprocessor.fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "x", as_csv(rows()))
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["raw"]


def test_a_killed_run_leaves_nothing_of_its_cases(tmp_path: Path):
    table = tmp_path / "raw" / "cases.csv"
    place(table.parent, {table.name: as_csv(rows(20_000))})
    task = write_task(table.parent, TASK, SOURCE)
    words = ("--source", table, "--task", task, "--out", tmp_path / "data")
    with subprocess.Popen(
        [sys.executable, "-m", "training.prepare", "table", *map(str, words)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert "checking" in process.stderr.readline()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_filled_folder_is_refused_before_anything_is_read(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, b"not a table")
    assert caught.value.code == "exists"


@pytest.mark.parametrize("which", ["cases.csv", "chest.png", "vitals.csv"])
def test_a_file_that_may_not_be_read_is_told(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = tmp_path / "raw"
    raw.mkdir()
    place(raw, {"cases.csv": as_csv(rows())})
    # Whoever runs the tests may be allowed to read everything, so the refusal is made here.
    readers = {"open": Path.open, "read_bytes": Path.read_bytes}
    for reading in readers:

        def refuse(path: Path, *given: Any, usual: Any = readers[reading], **named: Any) -> Any:
            if path.name == which:
                raise PermissionError(13, "Permission denied", str(path))
            return usual(path, *given, **named)

        monkeypatch.setattr(Path, reading, refuse)
    task = write_task(raw, TASK, SOURCE)
    if which == "cases.csv":
        with pytest.raises(DataError, match="Permission denied"):
            prepare_table(raw / which, task, tmp_path / "data")
    else:
        prepare_table(raw / "cases.csv", task, tmp_path / "data")
    codes = {each["code"] for each in problems_of(tmp_path / "data")}
    assert codes - {"never_measured"} == {"cannot_read"}


def test_notes_and_series_are_not_held_in_memory(tmp_path: Path):
    """Megabytes of notes and measurements pass through; a small part of them is ever held."""
    note = "slept well. " * 2_000
    table = tmp_path / "cases.csv"
    table.write_bytes(as_csv({**case, "note": f"{case['id']} {note}"} for case in rows(200)))
    lines = (f"stay-{1 + i % 200},{i / 3000},{i % 90},7.4\n" for i in range(10_000))
    (tmp_path / "all.csv").write_text("stay,hours,pulse,ph\n" + "".join(lines))
    source = {**SOURCE, "timeseries": {"file": "all.csv", "id": "stay"}, "image": None}
    task, columns = read_columns(
        write_task(
            tmp_path,
            {key: value for key, value in TASK.items() if key != "image"},
            {key: value for key, value in source.items() if value is not None},
        )
    )
    size = table.stat().st_size
    tracemalloc.start()
    try:
        with CaseStore.beside(tmp_path / "data") as store:
            problems = Problems(tmp_path / "problems", 0)
            missing = MissingWords(columns.missing, columns.missing_in)
            setting = Setting(task, columns, tmp_path, missing, problems, store, 1)
            cases = CaseReader(open_table(table, columns, problems), "cases.csv", setting)
            cases.check()
            counts = [len(sample.parts[Modality.TIMESERIES]) for sample in cases.samples()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts == [50] * 200
    assert size > 4_000_000
    assert peak < size / 4
