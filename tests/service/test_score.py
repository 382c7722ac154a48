"""Tables are scored alike with HTTP and without, and go on where they were interrupted."""

import json
import signal
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clients import Client, InvalidInput, columns, questions, reading
from clients.reading import Reading
from clients.scoring import score
from clients.tables import Column, find_writer, open_table
from lanistr.errors import InputError
from lanistr.preprocess import image
from lanistr.preprocess.values import THOUSANDS
from service.inputs import csv
from service.score import Local, target_of
from service.settings import DEMO_BUNDLES, Settings
from tests import forked
from tests.servers import small_files

MORTALITY = DEMO_BUNDLES / "mortality"


@pytest.fixture(scope="module")
def local():
    with Local.opened(MORTALITY, Settings()) as opened:
        yield opened


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, stay, picture):
    """Rows of every kind, good and bad, with pictures by path and by bytes."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "scans").mkdir()
    (folder / "scans" / "0.jpg").write_bytes(picture("JPEG"))
    series = stay["timeseries"]
    rows = [
        {"id": f"stay-{k}", "note": f"{stay['text']} {'word ' * k}", "scan": f"scans/{k % 2}.jpg",
         **stay["tabular"], "timeseries": series[: k % len(series)] or None, "site": "north"}
        for k in range(40)
    ]  # fmt: skip
    for row in rows[::3]:
        row["scan"] = None
    rows[6] |= {"age": "a lot"}
    rows[7] = {"id": "nothing"}
    rows[8] |= {"timeseries": [{"hours": "x"}]}
    rows[9] |= {
        "timeseries": [
            {"hours": 1, "heart_rate": 5000, "temperature": {"value": 101, "unit": "degF"}}
        ]
    }
    path = folder / "cohort.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    return path


COLUMNS = {"text": "note", "image": "scan"}
WORDS = ["--column", "text=note", "--column", "image=scan"]


def rows_of(path):
    table = open_table(path)
    return list(table.read(0, table.columns))


# ---- the same, over HTTP and without ------------------------------------------------------------


@pytest.mark.parametrize("name", ["scored.csv", "scored.jsonl", "scored.parquet"])
def test_http_and_engine_write_the_same_bytes(local, server, cohort, tmp_path, name):
    (tmp_path / "http").mkdir()
    with Client(server.url) as client:
        far = client.score(
            "mortality", cohort, tmp_path / "http" / name, columns=COLUMNS, at_once=5
        )
    near = score(local, cohort, tmp_path / name, columns=COLUMNS)
    assert (far.rows, far.failed, far.before) == (near.rows, near.failed, near.before)
    for written in (name, f"{name}.json"):
        assert (tmp_path / written).read_bytes() == (tmp_path / "http" / written).read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        ["http", name, f"{name}.json"]
    )


def test_a_target_is_what_the_service_says_of_a_task(server, bundles):
    for name, bundle in bundles.items():
        with Client(server.url) as client:
            precision = client.task(name)["precision"]
            found = [client.ask(questions.target(name)), target_of(bundle, precision)]
        assert found[0] == found[1]


def test_a_row_of_predictions_a_row(local, cohort, server, tmp_path):
    found = score(local, cohort, tmp_path / "scored.jsonl", columns=COLUMNS)
    rows = rows_of(tmp_path / "scored.jsonl")
    status = [row["status"] for row in rows]
    failed = [k for k, each in enumerate(status) if each == "failed"]
    no_such_scan = {k for k in range(40) if k % 2 and k % 3}
    assert set(failed) == no_such_scan | {6, 7, 8, 40}
    assert (found.rows, found.failed) == (41, len(failed))
    assert [row["id"] for row in rows[:8]] == [*(f"stay-{k}" for k in range(7)), "nothing"]
    assert "scans/1.jpg: No such file" in rows[1]["error"]
    assert rows[6]["error"].startswith("tabular.age: not a number; seen 'a lot'; accepted: ")
    assert rows[6]["error"].endswith("(wrong_type)")
    assert "the record is empty" in rows[7]["error"]
    assert rows[40]["error"].startswith("row: is not JSON")
    codes = {(each["code"], each["field"]) for each in rows[9]["issues"]}
    assert ("out_of_range", "timeseries[0].heart_rate") in codes
    assert rows[0]["parts"] == "text+tabular"
    assert rows[2]["parts"] == "text+image+tabular+timeseries"
    assert rows[2]["probability"] == rows[2]["probabilities.died"]
    with Client(server.url) as client:
        alone = client.predict(
            "mortality", id="stay-2", text=json.loads(cohort.read_text().splitlines()[2])["note"],
            image=cohort.parent / "scans/0.jpg",
            **{n: each for n, each in _record(cohort, 2).items() if n in ("tabular", "timeseries")},
        )  # fmt: skip
    assert rows[2]["probability"] == alone.probability


def _record(cohort, number):
    row = json.loads(cohort.read_text().splitlines()[number])
    series = row.pop("timeseries")
    for name in ("id", "note", "scan", "site"):
        row.pop(name)
    return {"tabular": row, "timeseries": series}


def test_csv_parquet_and_json_lines_of_the_same_are_scored_alike(local, tmp_path, stay, picture):
    rows = [
        {"id": str(k), "text": stay["text"], "age": 40 + k, "gender": "F", "timeseries": None}
        for k in range(5)
    ]  # fmt: skip
    rows[1]["timeseries"] = stay["timeseries"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    written = [Column(name, "text") for name in open_table(tmp_path / "t.jsonl").columns]
    flat = [[json.dumps(c) if isinstance(c, list) else c for c in row.values()] for row in rows]
    find_writer("t.csv")(tmp_path / "t.csv", written, flat)
    scored = []
    for name in ("t.jsonl", "t.parquet", "t.csv"):
        score(local, tmp_path / name, tmp_path / f"of-{name}.csv")
        scored.append((tmp_path / f"of-{name}.csv").read_text())
    assert scored[0] == scored[1] == scored[2]
    assert scored[0].count("predicted") == 5


def test_a_table_is_scored_alike_however_it_is_written(local, server, tmp_path, picture):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "0.jpg").write_bytes(picture("JPEG"))
    plain = "id,text,image,age,gender\na,müde,scans/0.jpg,71.5,\nb,wach,,,F\n"
    other = "id;text;image;age;gender\na;müde;0.jpg;71,5;?\nb;wach;k.A.;-1,0;F\n"
    (tmp_path / "plain.csv").write_text(plain)
    (tmp_path / "other.csv").write_text(other, encoding="cp1252")
    score(local, tmp_path / "plain.csv", tmp_path / "a.csv")
    options = [
        "--decimal", ",", "--encoding", "cp1252", "--missing", "k.A.", "--missing-in", "age=-1",
        "--missing-in", "gender=?", "--images", "scans",
    ]  # fmt: skip
    words = ["--input", tmp_path / "other.csv", *options, "--output"]
    near = forked.run("service.score", "--bundle", MORTALITY, *words, tmp_path / "b.csv")
    far = forked.run(
        "clients", "score", "mortality", "--url", server.url, *words, tmp_path / "c.csv"
    )
    assert (near.returncode, far.returncode) == (0, 0), near.stderr + far.stderr
    scored = [(tmp_path / f"{name}.csv").read_text() for name in "abc"]
    assert scored[0] == scored[1] == scored[2]
    assert scored[0].count("predicted") == 2
    about = [(tmp_path / f"{name}.csv.json").read_text() for name in "abc"]
    assert json.loads(about[0])["reading"] is None
    assert about[1] == about[2]
    with pytest.raises(InvalidInput, match=r'was made with other reading: {"decimal":","'):
        score(local, tmp_path / "other.csv", tmp_path / "b.csv", reading=Reading(encoding="cp1252"))


def test_a_cell_of_text_means_what_it_means_to_the_service():
    assert reading.MISSING == csv.MISSING
    assert reading.NUMBER.pattern == csv.NUMBER.pattern
    assert columns.THOUSANDS.pattern == THOUSANDS.pattern
    assert columns.DATA_URL.pattern == image.DATA_URL.pattern


@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_every_figure_of_a_task_has_its_column(tmp_path, task, bundles):
    (tmp_path / "t.jsonl").write_text('{"text": "fits well"}\n')
    with Local.opened(DEMO_BUNDLES / task, Settings(), explain=True, coverage=0.8) as opened:
        score(opened, tmp_path / "t.jsonl", tmp_path / "s.jsonl")
    (row,) = rows_of(tmp_path / "s.jsonl")
    contributions = [f"contributions.{each}" for each in bundles[task].task.modalities]
    classes = [f"probabilities.{each}" for each in bundles[task].task.label.classes]
    own = {"mortality": ["probability"], "rating": ["expected", "interval.low", "interval.high"]}
    assert sorted(row) == sorted(
        ["id", "status", "label", "set", "parts", "issues", "error", "baseline"]
        + own[task] + classes + contributions
    )  # fmt: skip
    assert [name for name, each in row.items() if each is None] == ["id", "error"]
    assert row["contributions.text"] != 0 == row["contributions.tabular"]


def test_a_coverage_that_is_none_is_refused():
    with (
        pytest.raises(InputError, match="coverage"),
        Local.opened(MORTALITY, Settings(), coverage=1.5),
    ):
        pass


def test_a_bar_grows_where_it_is_wanted_and_nowhere_else(local, tmp_path, capsys):
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n' * 3)
    score(local, tmp_path / "t.jsonl", tmp_path / "s.csv", progress=True)
    assert "3/3" in capsys.readouterr().err
    score(local, tmp_path / "t.jsonl", tmp_path / "quiet.csv")
    assert capsys.readouterr().err == ""


# ---- again and again ----------------------------------------------------------------------------


ROWS = 400


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A table that takes long enough to be interrupted."""
    path = tmp_path_factory.mktemp("many") / "many.jsonl"
    rows = [{"id": str(k), "text": f"case {k} " * 30, "age": 50 + k % 40} for k in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def whole(many, local):
    """What becomes of it in one go."""
    score(local, many, many.with_name("whole.csv"))
    return many.with_name("whole.csv").read_bytes()


def begun(output, words):
    """Start scoring; return the process once some rows are answered, but by far not all."""
    partial, said = (output.with_name(output.name + each) for each in (".partial", ".said"))
    process = forked.Command([*map(str, words)], said, warned=True)
    deadline = time.monotonic() + 60
    while not partial.exists() or partial.read_bytes().count(b"\n") < 20:
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process, partial


@pytest.mark.parametrize(
    ("number", "code", "over_http"), [(signal.SIGKILL, -9, True), (signal.SIGTERM, 143, False)]
)
def test_one_at_a_time_goes_on_where_another_was_stopped(
    many, whole, tmp_path, local, server, number, code, over_http
):
    output = tmp_path / "scored.csv"
    words = ["service.score", "--bundle", MORTALITY, "--input", many, "--output", output]
    process, partial = begun(output, words)
    with pytest.raises(InvalidInput, match="another process is using"):
        score(local, many, output)
    process.send_signal(number)
    assert process.wait(60) == code
    assert not output.exists()
    kept = partial.read_bytes()
    partial.write_bytes(kept[:-3])  # as if the last line had not come to the disk
    before = kept[:-3].count(b"\n") - 1
    assert 18 <= before < ROWS
    if over_http:
        with Client(server.url) as client:
            found = client.score("mortality", many, output)
    else:
        found = score(local, many, output)
    assert (found.before, found.rows) == (before, ROWS)
    assert output.read_bytes() == whole
    assert not partial.exists()


class Broken:
    """A scorer that fails after some answers."""

    def __init__(self, scorer, after):
        self._scorer, self._after = scorer, after
        self.target, self.explain, self.coverage = scorer.target, scorer.explain, scorer.coverage
        self.taken = 0

    def answers(self, records):
        for _, outcome in zip(
            range(self._after), self._scorer.answers(self._counted(records)), strict=False
        ):
            yield outcome
        raise RuntimeError("power failure")

    def _counted(self, records):
        for each in records:
            self.taken += 1
            yield each


def test_few_rows_are_taken_ahead_of_their_answers(local, many, tmp_path):
    broken = Broken(local, after=5)
    with pytest.raises(RuntimeError, match="power failure"):
        score(broken, many, tmp_path / "scored.csv")
    assert broken.taken < 100


def test_a_table_that_is_complete_is_not_scored_again(local, many, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text("".join(many.read_text().splitlines(keepends=True)[:3]))
    score(local, few, tmp_path / "scored.jsonl")
    written = (tmp_path / "scored.jsonl").stat()
    found = score(Broken(local, after=0), few, tmp_path / "scored.jsonl")
    assert (found.rows, found.before) == (3, 3)
    assert (tmp_path / "scored.jsonl").stat() == written


@pytest.mark.parametrize("complete", [True, False])
def test_answers_to_another_question_are_not_taken_for_it(local, many, tmp_path, complete):
    output, few = tmp_path / "scored.jsonl", tmp_path / "few.jsonl"
    few.write_text('{"text": "a", "age": 70}\n{"text": "b"}\n')
    if complete:
        score(local, few, output)
    else:
        with pytest.raises(RuntimeError):
            score(Broken(local, after=1), few, output)
    kept = {each: each.read_bytes() for each in tmp_path.iterdir() if each != few}

    with pytest.raises(InvalidInput, match="was made with other columns:"):
        score(local, few, output, columns={"text": "age"})
    others = {
        'was made with other precision: "int8", now "fp32"': (
            MORTALITY,
            Settings(precision="fp32"),
        ),
        'was made with other task: "mortality", now "rating"': (
            DEMO_BUNDLES / "rating",
            Settings(),
        ),
    }
    for words, opened in others.items():
        with Local.opened(*opened) as other, pytest.raises(InvalidInput, match=words):
            score(other, few, output)
    few.write_text(few.read_text() + '{"text": "c"}\n')
    with pytest.raises(InvalidInput, match="was made with other input:"):
        score(local, few, output)
    assert {each: each.read_bytes() for each in kept} == kept


def test_what_others_have_put_there_is_left_alone(local, many, tmp_path):
    (tmp_path / "scored.csv").write_text("mine")
    with pytest.raises(InvalidInput, match="does not say how it was made"):
        score(local, many, tmp_path / "scored.csv")
    assert (tmp_path / "scored.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "theirs", [b"mine", b"mine\n", b"[1]\n", b"\0" * 40 + b"\n", b'{"task": "other"', b"\xff\n"]
)
@pytest.mark.parametrize("name", ["scored.csv.partial", "scored.csv.json"])
def test_what_others_have_put_beside_it_is_left_alone_too(local, many, tmp_path, name, theirs):
    (tmp_path / name).write_bytes(theirs)
    if name.endswith(".json"):
        (tmp_path / "scored.csv").write_text("mine")
    with pytest.raises(
        InvalidInput, match=r"not written by this command|does not say how it was made"
    ):
        score(local, many, tmp_path / "scored.csv")
    assert (tmp_path / name).read_bytes() == theirs


def test_a_first_line_that_was_cut_off_is_written_anew(local, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(RuntimeError):
        score(Broken(local, after=0), few, tmp_path / "scored.jsonl")
    partial = tmp_path / "scored.jsonl.partial"
    for kept in (0, 1, 40, -1):
        partial.write_bytes(partial.read_bytes().partition(b"\n")[0][:kept])
        with pytest.raises(RuntimeError):
            score(Broken(local, after=0), few, tmp_path / "scored.jsonl")
        assert json.loads(partial.read_bytes().partition(b"\n")[0])["task"] == "mortality"
    assert score(local, few, tmp_path / "scored.jsonl").rows == 2


def test_rows_that_no_file_could_hold_fail_by_themselves(local, tmp_path):
    deep = "[" * 600 + "]" * 600
    table = tmp_path / "odd.jsonl"
    table.write_text(
        '{"id": "a", "text": "x"}\n{"id": "b", "image": "a\\u0000b.jpg"}\n'
        '{"id": "c", "image": "\\ud800.jpg"}\n{"id": "\\ud800", "text": "x"}\n'
        f'{{"id": "e", "age": {deep}}}\n{{"id": "f", "timeseries": [{{"hours": {deep}}}]}}\n'
        '{"id": "g", "text": "x", "age": 20, "age": 99}\n{"id": "h", "text": "y"}\n'
    )
    found = score(local, table, tmp_path / "scored.csv")
    rows = rows_of(tmp_path / "scored.csv")
    assert [row["id"] for row in rows] == ["a", "b", "c", "", "e", "f", "", "h"]
    assert [row["status"] == "failed" for row in rows] == [False, *[True] * 6, False]
    for row, words in zip(
        rows[1:7], ("image", "image", "id", "deep", "deep", "twice"), strict=True
    ):
        assert words in row["error"], row
    assert found.rows == 8


@pytest.mark.parametrize("output", ["gone/scored.csv", "scored.txt"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_scored(
    local, many, tmp_path, output
):
    with pytest.raises(InvalidInput, match="output"):
        score(Broken(local, after=0), many, tmp_path / output)


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_disk_that_is_full_is_told_of_and_what_was_answered_kept(
    many, whole, tmp_path, local, size
):
    output = tmp_path / "scored.csv"
    with small_files(size), pytest.raises(InvalidInput, match=r"partial: File too large"):
        score(local, many, output)
    found = score(local, many, output)
    assert (found.before > 0) == (size == 20_000)
    assert output.read_bytes() == whole


# ---- commands -----------------------------------------------------------------------------------


def test_the_command_says_what_it_does_not_read_and_what_came_of_it(cohort, tmp_path):
    words = ["--bundle", MORTALITY, "--input", cohort, "--output", tmp_path / "s.parquet", *WORDS]
    done = forked.run("service.score", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/s.parquet: 41 rows, ")
    assert done.stdout.endswith("with an error; mortality by demo-mortality fc614279d3fc, int8\n")
    assert done.stderr.splitlines() == [
        "DEMO MODEL: trained on synthetic records; its predictions mean nothing",
        "columns not used: site",
    ]
    assert "41 of them scored earlier" in forked.run("service.score", *words).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--input", "gone.csv"], "input: cannot read gone.csv: No such file"),
        (["--device", "tpu"], "device"),
        (["--coverage", "2"], "coverage"),
        (["--column", "tekst=note"], "did you mean 'text'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(cohort, tmp_path, words, said):
    usual = ["--bundle", MORTALITY, "--input", cohort, "--output", tmp_path / "s.csv"]
    done = forked.run("service.score", *usual, *words)
    (line,) = [each for each in done.stderr.splitlines() if not each.startswith("DEMO")]
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("error: ")
    assert said in line
