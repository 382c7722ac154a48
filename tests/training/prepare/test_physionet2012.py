"""The PhysioNet 2012 challenge: both layouts, its oddities, and none of its outcomes as input."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions
from lanistr.sample import Measurements, Sample
from lanistr.tasks import find_task
from training.data.store import Dataset
from training.prepare.__main__ import KINDS, _parser
from training.prepare.physionet2012.command import deal
from training.prepare.physionet2012.layout import read_set
from training.prepare.physionet2012.samples import samples
from training.prepare.physionet2012.stays import DESCRIPTORS, Stays, join
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.problems import Problems, problems_path

ROOT = Path(__file__).resolve().parents[3]
TASK = find_task("physionet2012")
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"

HEAD = ("00:00,RecordID,{record}", "00:00,Age,54", "00:00,Gender,0", "00:00,Height,-1")
STAY = (
    *HEAD,
    "00:00,ICUType,4",
    "00:00,Weight,-1",
    "00:07,HR,73",
    "00:07,Temp,35.1",
    "01:07,HR,77",
)


def write(
    folder: Path, stays: dict[int, tuple[str, ...]], outcomes: str = "", name: str = "a"
) -> None:
    """Write stays as the challenge has them, and who died."""
    (folder / f"set-{name}").mkdir(parents=True, exist_ok=True)
    for record, lines in stays.items():
        text = "\n".join(("Time,Parameter,Value", *lines)).format(record=record) + "\n"
        (folder / f"set-{name}" / f"{record}.txt").write_text(text)
    rows = outcomes or "\n".join(f"{r},6,1,5,-1,{i % 2}" for i, r in enumerate(stays))
    (folder / f"Outcomes-{name}.txt").write_text(f"{OUTCOMES}\n{rows}\n")


def read(folder: Path, *names: str, limit: int = 100) -> tuple[Stays, Counter[str]]:
    problems = Problems(folder / "problems.jsonl", limit)
    found = join([read_set(folder, name, TASK, problems) for name in names or "a"], problems)
    return found, problems.counts


def one(folder: Path, *lines: str) -> tuple[Sample, Counter[str]]:
    """Return a stay with these lines below its descriptors."""
    write(folder, {132539: (*STAY[:6], *lines)})
    found, problems = read(folder)
    (sample,) = samples(found)
    return sample, problems


def series(sample: Sample) -> dict[float, dict[str, Any]]:
    rows: tuple[Measurements, ...] = sample.parts[Modality.TIMESERIES]
    return {row.hours: dict(row.values) for row in rows}


# ---- the challenge's own layout -----------------------------------------------------------------


def test_a_stay_is_its_descriptors_its_measurements_and_its_death(tmp_path: Path):
    write(tmp_path, {132539: STAY, 132540: STAY})
    found, problems = read(tmp_path)
    survivor, dead = samples(found)
    assert survivor.parts[Modality.TABULAR] == {"age": 54, "gender": 0, "icu_type": 4}
    assert series(survivor) == {0.1167: {"HR": 73, "Temp": 35.1}, 1.1167: {"HR": 77}}
    assert (survivor.id, survivor.group, survivor.label) == ("132539", "132539", "survived")
    assert (dead.id, dead.label) == ("132540", "died")
    assert survivor.subgroups == {
        "gender": "female", "icu_type": "surgical", "age": "50 to 59", "set": "a",
    }  # fmt: skip
    assert not problems


def test_the_first_weight_is_a_descriptor_and_all_later_ones_are_measurements(tmp_path: Path):
    write(tmp_path, {1: (*STAY[:5], "00:00,Weight,76", "00:00,Weight,80.6", "02:00,Weight,81.6")})
    found, _ = read(tmp_path)
    (sample,) = samples(found)
    assert sample.parts[Modality.TABULAR]["weight"] == 76
    assert series(sample) == {0: {"Weight": 80.6}, 2: {"Weight": 81.6}}


def test_of_two_values_of_one_minute_the_later_line_counts_and_that_is_counted(tmp_path: Path):
    lines = ("03:00,HR,80", "03:00,NISysABP,120", "03:00,HR,90", "03:01,HR,70")
    write(tmp_path, {1: (*STAY[:6], *lines)})
    found, _ = read(tmp_path)
    (sample,) = samples(found)
    assert series(sample)[3] == {"NISysABP": 120, "HR": 90}
    assert found.counts["measurements replaced by a later one of the same minute"] == 1
    assert found.counts["measurements"] == 4


def test_a_stay_without_a_measurement_keeps_its_row(tmp_path: Path):
    write(tmp_path, {1: STAY[:6], 2: STAY})
    found, _ = read(tmp_path)
    empty, _ = samples(found)
    assert set(empty.parts) == {Modality.TABULAR}
    assert found.counts["stays without a measurement"] == 1


def test_a_set_without_outcomes_is_unlabelled_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write(tmp_path, {1: STAY})
    (tmp_path / "Outcomes-a.txt").unlink()
    write(tmp_path, {2: STAY}, name="b")
    found, problems = read(tmp_path, "a", "b")
    assert [sample.label for sample in samples(found)] == [None, "survived"]
    assert not problems
    (said,) = caplog.messages
    assert said.endswith(f"there is no {tmp_path / 'Outcomes-a.txt'}")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("03:00,Heart,80", "unknown_parameter"),
        ("03:00,Survival,4", "unknown_parameter"),
        ("3 pm,HR,80", "bad_line"),
        ("03:75,HR,80", "bad_line"),
        ("03:00,HR,high", "bad_line"),
        ("03:00,HR,nan", "bad_line"),
        ("03:00,HR,1e39", "bad_line"),
        ("03:00,HR", "bad_line"),
        ("03:00,HR,80,90", "bad_line"),
        ("04:00,Age,55", "unknown_parameter"),
    ],
)
def test_a_line_that_cannot_be_used_is_told_and_the_others_are(
    tmp_path: Path, line: str, code: str
):
    sample, problems = one(tmp_path, line, "05:00,HR,81")
    assert problems == {code: 1}
    told = json.loads((tmp_path / "problems.jsonl").read_text())
    assert told["file"].endswith("set-a/132539.txt")
    assert told["row"] == 7
    assert series(sample) == {5: {"HR": 81}}


def test_lines_without_a_parameter_are_counted_and_no_problem(tmp_path: Path):
    write(tmp_path, {1: (*STAY, "06:00,,0", "07:00,,1")})
    found, problems = read(tmp_path)
    assert found.counts["lines without a parameter"] == 2
    assert not problems


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_a_stay"),
        (b"\xff\xfe", "not_a_stay"),
        (b"RecordID,Age\n1,54\n", "not_a_stay"),
        (b"Time,Parameter,Value\n00:00,Age,54\n", "wrong_record"),
        (b"Time,Parameter,Value\n00:00,RecordID,9\n", "wrong_record"),
    ],
)
def test_a_file_that_is_no_stay_is_told_and_left_out(tmp_path: Path, content: bytes, code: str):
    write(tmp_path, {1: STAY})
    (tmp_path / "set-a" / "2.txt").write_bytes(content)
    found, problems = read(tmp_path)
    assert problems == {code: 1}
    assert [sample.id for sample in samples(found)] == ["1"]


@pytest.mark.parametrize("name", ["1e30", "1.7", "one"])
def test_an_outcome_of_no_stay_is_told_and_no_other_stays(tmp_path: Path, name: str):
    write(tmp_path, {1: STAY}, f"{name},6,1,5,-1,1\n1,6,1,5,-1,0")
    found, problems = read(tmp_path)
    assert problems == {"not_a_number": 1}
    assert [(sample.id, sample.label) for sample in samples(found)] == [("1", "survived")]


def test_a_death_that_is_neither_yes_nor_no_is_told_and_the_stay_unlabelled(tmp_path: Path):
    write(tmp_path, {1: STAY, 2: STAY}, "2,6,1,5,-1,maybe\n1,6,1,5,-1,2")
    found, problems = read(tmp_path)
    told = [json.loads(line) for line in (tmp_path / "problems.jsonl").read_text().splitlines()]
    assert [(Path(each["file"]).name, each["row"], each["seen"]) for each in told] == [
        ("Outcomes-a.txt", 1, "maybe"), ("Outcomes-a.txt", 2, 2.0),
    ]  # fmt: skip
    assert problems == {"bad_label": 1, "not_a_number": 1}
    assert [sample.label for sample in samples(found)] == [None, None]


def test_stays_and_outcomes_that_do_not_meet_are_told(tmp_path: Path):
    outcomes = "\n".join(f"{i},6,1,5,-1,0" for i in (1, 7, 8))
    write(tmp_path, {1: STAY, 2: STAY, 3: STAY}, outcomes)
    found, problems = read(tmp_path)
    assert [sample.label for sample in samples(found)] == ["survived", None, None]
    assert problems == {"no_outcome": 1, "no_stay": 1}
    told = [json.loads(line) for line in (tmp_path / "problems.jsonl").read_text().splitlines()]
    assert [each["seen"] for each in told] == ["2, 3", "7, 8"]
    assert [each["message"] for each in told] == [
        "2 of 3 stays have no outcome and count as unlabelled",
        "2 of 3 outcomes are of stays that are not there",
    ]


def test_a_folder_without_stays_is_refused_by_its_path(tmp_path: Path):
    (tmp_path / "set-a").mkdir()
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert caught.value.field == str(tmp_path / "set-a")


def test_too_many_problems_stop_the_run(tmp_path: Path):
    write(tmp_path, {1: (*STAY, *["03:00,Heart,80"] * 4)})
    with pytest.raises(DataError) as caught:
        read(tmp_path, limit=3)
    assert caught.value.code == "too_many_problems"


def test_a_set_that_is_not_there_is_refused_with_the_files_that_would_do(tmp_path: Path):
    with pytest.raises(DataError, match=r"set-b/\*.txt and Outcomes-b.txt, or events_b.parquet"):
        read(tmp_path, "b")


def test_two_stays_of_one_name_are_refused(tmp_path: Path):
    write(tmp_path, {1: STAY})
    write(tmp_path, {1: STAY}, name="b")
    with pytest.raises(DataError) as caught:
        read(tmp_path, "a", "b")
    assert caught.value.code == "repeated_record"


# ---- the two tables -----------------------------------------------------------------------------


def tables(folder: Path, found: Stays) -> None:
    """Write set a as two tables."""
    kinds = {"record_id": pl.Int32, "hours": pl.Float32, "value": pl.Float32}
    events = found.events.with_columns(pl.col(name).cast(kind) for name, kind in kinds.items())
    events.with_columns(pl.col("parameter").cast(pl.Categorical)).write_parquet(
        folder / "events_a.parquet"
    )
    rows = found.stays.drop("set").with_columns(
        pl.lit(0).alias(name) for name in ("SAPS-I", "SOFA", "Length_of_stay", "Survival")
    )
    rows.write_csv(folder / "stays_a.csv")


def test_both_layouts_of_real_stays_come_out_the_same(open_data: Path, tmp_path: Path):
    source = open_data / "physionet2012"
    events = pl.read_parquet(source / "events_a.parquet")
    stays = pl.read_csv(source / "stays_a.csv").head(25)
    events = events.filter(pl.col("record_id").is_in(stays["record_id"].to_list()))
    for folder in ("tables", "texts/set-a"):
        (tmp_path / folder).mkdir(parents=True)
    events.write_parquet(tmp_path / "tables" / "events_a.parquet")
    stays.write_csv(tmp_path / "tables" / "stays_a.csv")
    died = stays.rename({"record_id": "RecordID"}).select(OUTCOMES.split(","))
    died.write_csv(tmp_path / "texts" / "Outcomes-a.txt")
    for stay in stays.iter_rows(named=True):
        lines = [f"00:00,RecordID,{stay['record_id']}"]
        lines += [f"00:00,{name},{stay[name]}" for name in DESCRIPTORS]
        for row in events.filter(record_id=stay["record_id"]).iter_rows(named=True):
            minutes = round(row["hours"] * 60)
            value = np.float32(row["value"])
            lines.append(f"{minutes // 60:02}:{minutes % 60:02},{row['parameter']},{value}")
        text = "\n".join(["Time,Parameter,Value", *lines]) + "\n"
        (tmp_path / "texts" / "set-a" / f"{stay['record_id']}.txt").write_text(text)
    (one, told), (other, also) = read(tmp_path / "tables"), read(tmp_path / "texts")
    assert not told
    assert not also
    assert one.events.equals(other.events)
    assert list(samples(one)) == list(samples(other))
    assert len(one.events) > 8000


def test_a_table_of_stays_without_outcomes_is_unlabelled(tmp_path: Path):
    write(tmp_path, {1: STAY, 2: STAY})
    good, _ = read(tmp_path)
    tables(tmp_path, good)
    good.stays.drop("In-hospital_death", "set").write_csv(tmp_path / "stays_a.csv")
    found, problems = read(tmp_path)
    assert [sample.label for sample in samples(found)] == [None, None]
    assert found.stays.drop("In-hospital_death").equals(good.stays.drop("In-hospital_death"))
    assert not problems


def test_a_bad_row_of_the_tables_is_told(tmp_path: Path):
    write(tmp_path, {1: STAY, 2: STAY})
    good, _ = read(tmp_path)
    bad = pl.DataFrame(
        [
            (1, 2.0, "Heart", 80.0),
            (1, None, "HR", 80.0),
            (1, 2.0, "HR", float("nan")),
            (1, 2.0, "HR", 1e39),
        ],
        schema=good.events.schema,
        orient="row",
    )
    lost = good.events.head(1).with_columns(pl.lit(7, pl.Int64).alias("record_id"))
    events = pl.concat([good.events, bad, lost])
    tables(tmp_path, Stays(good.stays, events, {}, {}))
    found, problems = read(tmp_path)
    assert problems == {"bad_event": 4, "no_stay": 1}
    assert found.events.equals(good.events)


def test_a_table_without_a_column_is_refused_with_those_it_needs(tmp_path: Path):
    write(tmp_path, {1: STAY})
    good, _ = read(tmp_path)
    tables(tmp_path, good)
    good.stays.drop("Age", "set").write_csv(tmp_path / "stays_a.csv")
    with pytest.raises(DataError, match="Gender") as caught:
        read(tmp_path)
    assert caught.value.code == "bad_table"


def test_the_real_sets_hold_what_is_known_of_them(open_data: Path, tmp_path: Path):
    problems = Problems(tmp_path / "problems.jsonl", 0)
    source = open_data / "physionet2012"
    found = join([read_set(source, name, TASK, problems) for name in "ab"], problems)
    assert dict(found.counts) == {
        "measurements": 1_733_980 + 1_738_535,
        "measurements replaced by a later one of the same minute": 3_744 + 3_960,
        "stays": 8000,
        "stays of set a": 4000,
        "stays of set b": 4000,
        "stays without a measurement": 3 + 7,
    }
    deaths = found.stays.group_by("set").agg(pl.col("In-hospital_death").sum()).sort("set")
    assert deaths.rows() == [("a", 554), ("b", 568)]
    assert set(found.events["parameter"].unique()) == set(TASK.timeseries.variables)  # type: ignore[union-attr]
    (first,) = (s for s in samples(found) if s.id == "132539")
    assert first.parts[Modality.TABULAR] == {"age": 54, "gender": 0, "icu_type": 4}
    assert series(first)[0.1167] == {
        "GCS": 15, "HR": 73, "NIDiasABP": 65, "NIMAP": 92.33, "NISysABP": 147, "RespRate": 19,
        "Temp": 35.1, "Urine": 900,
    }  # fmt: skip


# ---- what the model gets ------------------------------------------------------------------------


def prepared(found: Stays, out: Path) -> Dataset:
    return prepare(
        lambda: samples(found),
        TASK,
        out,
        options=PreprocessOptions(),
        splits=SplitOptions(shares=(1, 0, 0)),
        source={},
    )


def test_the_outcomes_change_nothing_that_the_model_gets(tmp_path: Path):
    stays = {i: (*STAY, f"09:00,BUN,{i}") for i in range(1, 9)}
    datasets = []
    for name, row in (("one", "{i},-1,-1,-1,-1,{d}"), ("two", "{i},34,22,171,{i},{d}")):
        outcomes = "\n".join(row.format(i=i, d=int(i > 6)) for i in stays)
        write(tmp_path / name, stays, outcomes)
        found, problems = read(tmp_path / name)
        assert not problems
        datasets.append(prepared(found, tmp_path / f"{name}-data"))
    one, two = (each.folder for each in datasets)
    for file in ("index.arrow", "tabular.arrow", "timeseries.arrow", "preprocessing.json"):
        assert (one / file).read_bytes() == (two / file).read_bytes()
    inputs = {*TASK.tabular.fields, *TASK.timeseries.variables}  # type: ignore[union-attr]
    assert not {each.casefold() for each in inputs} & {
        each.casefold() for each in (*OUTCOMES.split(","), "sapsi", "saps_i", "length_of_stay")
    }
    assert datasets[0].labels.tolist() == [0] * 6 + [1] * 2


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("pH,735", 7.35),
        ("pH,7.35", 7.35),
        ("pH,94", None),
        ("Temp,-17.8", None),
        ("Temp,98.6", 37.0),
        ("Temp,2.5", None),
        ("NIDiasABP,0", None),
        ("NISysABP,0", None),
        ("MAP,0", None),
        ("Weight,0", None),
        ("Weight,-1", None),
        ("SaO2,1.06", None),
        ("WBC,12500", None),
        ("WBC,528", 500.0),
        ("FiO2,50", 0.5),
        ("K,4.1", 4.1),
    ],
)
def test_junk_is_dropped_clipped_or_read_as_it_was_meant(
    tmp_path: Path, line: str, value: float | None
):
    name = line.partition(",")[0]
    write(tmp_path, {1: (*STAY, f"05:00,{line}"), 2: STAY})
    found, _ = read(tmp_path)
    data = prepared(found, tmp_path / "data")
    report = json.loads((data.folder / "report.json").read_text())
    field = report["parts"]["timeseries"]["fields"][name]
    before = {"Temp": 2}.get(name, 0)  # the stays themselves say so much
    assert field["count"] == before + (value is not None)
    if value is not None:
        assert value in (field["min"], field["max"])
    else:
        told = [each for each in report["issues"] if each["field"] == f"timeseries.{name}"]
        assert [each["action"] for each in told] == ["dropped"]


def test_what_the_descriptors_call_minus_one_is_missing(tmp_path: Path):
    unknown = ("00:00,RecordID,{record}", "00:00,Age,70", "00:00,Gender,-1", "00:00,Height,-1")
    write(tmp_path, {1: (*unknown, "00:00,ICUType,3", "00:00,Weight,-1", "01:00,HR,80"), 2: STAY})
    found, _ = read(tmp_path)
    first, _ = samples(found)
    assert first.parts[Modality.TABULAR] == {"age": 70, "icu_type": 3}
    assert "gender" not in first.subgroups
    data = prepared(found, tmp_path / "data")
    assert data.card.issues == {}


# ---- splits -------------------------------------------------------------------------------------


def listed(a: int, b: int) -> pl.DataFrame:
    return pl.DataFrame({"record_id": range(a + b), "set": ["a"] * a + ["b"] * b})


def test_the_test_split_can_be_drawn_from_one_set_alone():
    options = SplitOptions(shares=(0.7, 0.05, 0.25), seed=3)
    dealt = deal(listed(400, 400), options, "b")
    assert Counter(dealt.values()) == {"train": 560, "validation": 40, "test": 200}
    assert all(int(name) >= 400 for name, split in dealt.items() if split == "test")
    assert {int(name) >= 400 for name, split in dealt.items() if split == "train"} == {True, False}
    assert dealt == deal(listed(400, 400), options, "b")
    assert dealt != deal(listed(400, 400), SplitOptions(shares=options.shares, seed=4), "b")


def test_without_a_test_set_all_splits_are_drawn_from_all_stays():
    dealt = deal(listed(400, 400), SplitOptions(), None)
    assert Counter(dealt.values()) == {"train": 640, "validation": 80, "test": 80}
    assert {int(name) >= 400 for name, split in dealt.items() if split == "test"} == {True, False}


@pytest.mark.parametrize("test_set", ["b", "c"])
def test_a_test_set_too_small_for_the_test_split_is_refused(test_set: str):
    with pytest.raises(ConfigError) as caught:
        deal(listed(400, 100), SplitOptions(shares=(0.5, 0.1, 0.4)), test_set)
    assert caught.value.field == "--test-set"


# ---- the command --------------------------------------------------------------------------------


def command(source: Path, out: Path, *more: str) -> Dataset | None:
    """Run the command in this process."""
    words = ["physionet2012", "--sets", "a", "--source", str(source), "--out", str(out), *more]
    return KINDS["physionet2012"].prepare(_parser().parse_args(words))


def test_the_folder_that_the_data_set_stands_in_is_made_before_a_problem_is_listed(tmp_path: Path):
    write(tmp_path / "raw", dict.fromkeys(range(20), (*STAY, "03:00,Heart,80")))
    data = command(tmp_path / "raw", tmp_path / "new" / "deep" / "data")
    assert data is not None
    assert data.card.source["problems"] == {"unknown_parameter": 20}
    assert problems_path(data.folder).is_file()


def test_a_data_set_that_stands_keeps_its_problems_file_when_it_is_asked_for_again(tmp_path: Path):
    write(tmp_path / "raw", dict.fromkeys(range(20), (*STAY, "03:00,Heart,80")))
    out = tmp_path / "data"
    command(tmp_path / "raw", out)
    told = problems_path(out).read_bytes()
    with pytest.raises(DataError) as caught:
        command(tmp_path / "not there", out)  # refused before anything is read
    assert caught.value.code == "exists"
    assert problems_path(out).read_bytes() == told


@pytest.mark.parametrize(
    "words", [("--vocabulary", "/nowhere.txt"), ("--splits", "0.5", "0.5", "0.5")]
)
def test_options_that_cannot_be_met_are_refused_before_anything_is_read(
    tmp_path: Path, words: tuple[str, ...]
):
    with pytest.raises(ConfigError) as caught:
        command(tmp_path / "not there", tmp_path / "data", *words)
    assert caught.value.field == words[0]


def test_the_command_prepares_and_keeps_what_it_decided(tmp_path: Path):
    for name, first in (("a", 1), ("b", 101)):
        write(tmp_path / "raw", {first + i: STAY for i in range(20)}, name=name)
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "training.prepare", "physionet2012"),
            *("--source", tmp_path / "raw", "--out", tmp_path / "data", "--test-set", "b"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "40 cases (32 train, 4 validation, 4 test), 40 labelled" in done.stdout
    source = Dataset.open(tmp_path / "data").card.source
    assert (source["sets"], source["test_set"]) == (["a", "b"], "b")
    assert set(source["files"]) == {
        "set-a/*.txt", "Outcomes-a.txt", "set-b/*.txt", "Outcomes-b.txt",
    }  # fmt: skip
    assert all(len(digest) == 64 for digest in source["files"].values())
    assert source["counts"]["stays of set b"] == 20
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["data", "raw"]
