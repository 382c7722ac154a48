"""Preparing: split by group, fitted on training cases, whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.text import TextOptions
from lanistr.sample import Measurements, Sample
from lanistr.tasks import LabelSpec, find_task
from tests import forked
from tests.servers import cut_off
from training.data.store import SPLITS, Dataset, new_folder
from training.prepare.__main__ import KINDS, _parser
from training.prepare.prepared import SplitOptions, assign_splits, prepare
from training.prepare.synthetic import SyntheticOptions, draw

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = PreprocessOptions(
    text=TextOptions(vocabulary_size=300, max_tokens=32), image=ImageOptions(size=16)
)
MORTALITY, RATING = find_task("mortality"), find_task("rating")


def prepared(samples: list[Sample], out: Path, **splits: Any) -> Dataset:
    return prepare(
        lambda: samples,
        MORTALITY,
        out,
        options=OPTIONS,
        splits=SplitOptions(**splits),
        source={"from": "a test"},
    )


def rows(count: int, **more: Any) -> list[Sample]:
    """Return as many cases that bring a table row alone."""
    return [
        Sample({Modality.TABULAR: {"age": 30 + i % 50}}, id=f"case-{i}", label="died", **more)
        for i in range(count)
    ]


# ---- splits -------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(0, 5))
def test_every_group_is_dealt_to_one_split_and_the_shares_hold(count: int, seed: int):
    groups = [f"g{i}" for i in range(count)]
    split_of = assign_splits(groups, SplitOptions(seed=seed))
    assert list(split_of) != groups or count < 10
    assert set(split_of) == set(groups)
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert abs(list(split_of.values()).count(split) - share * count) <= 1


def test_splits_are_drawn_with_the_seed():
    groups = [f"g{i}" for i in range(50)]
    one, same, other = (assign_splits(groups, SplitOptions(seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("shares", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.0, 0.5)])
def test_a_share_of_nothing_gets_nothing(shares: tuple[float, float, float]):
    dealt = list(assign_splits([f"g{i}" for i in range(20)], SplitOptions(shares=shares)).values())
    for split, share in zip(SPLITS, shares, strict=True):
        assert dealt.count(split) == 20 * share


@pytest.mark.parametrize(("shares", "count"), [((0.1, 0.2, 0.7), 10), ((0.15, 0.15, 0.7), 20)])
def test_shares_are_met_to_the_case_however_computers_add_them_up(shares: Any, count: int):
    dealt = list(assign_splits(list(map(str, range(count))), SplitOptions(shares=shares)).values())
    assert [dealt.count(split) for split in SPLITS] == [round(count * each) for each in shares]


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0, 0, 0)])
def test_shares_that_are_not_those_of_one_whole_are_refused(shares: Any):
    with pytest.raises(ConfigError) as caught:
        assign_splits(["a"], SplitOptions(shares=shares))
    assert caught.value.field == "splits.shares"


def test_groups_never_stand_in_two_splits(tmp_path: Path):
    samples = list(draw("rating", SyntheticOptions(samples=150, missing=0.2)))
    data = prepare(
        lambda: samples,
        RATING,
        tmp_path / "data",
        options=OPTIONS,
        splits=SplitOptions(),
        source={},
    )
    split_of: dict[str, set[str]] = {}
    for sample, split in zip(samples, data.splits, strict=True):
        split_of.setdefault(str(sample.group), set()).add(split)
    assert {len(splits) for splits in split_of.values()} == {1}
    assert len(split_of) < len(samples)
    assert set(data.splits) == set(SPLITS)


# ---- fitting ------------------------------------------------------------------------------------


def test_statistics_come_from_the_training_split_alone(tmp_path: Path):
    samples = rows(20)
    data = prepared(samples, tmp_path / "data")
    train = [30 + int(position) for position in data.rows("train")]
    scale = data.preprocessor.parts[Modality.TABULAR].scales["age"]  # type: ignore[attr-defined]
    assert scale.mean == pytest.approx(sum(train) / len(train))
    assert scale.mean != pytest.approx(sum(range(30, 50)) / 20)


def test_unusable_records_are_left_out_counted_and_do_not_stop_the_rest(tmp_path: Path):
    broken = [
        Sample({Modality.TABULAR: {"age": "old"}}, id="a"),
        Sample({Modality.IMAGE: (b"not a picture",)}, id="b"),
        Sample({Modality.TIMESERIES: (Measurements(1, {"heart_rate": True}),)}, id="c"),
        Sample({Modality.TEXT: ("___",)}, id="d"),
    ]
    data = prepared([*broken, *rows(10)], tmp_path / "data", shares=(1.0, 0.0, 0.0))
    assert len(data) == 10
    assert data.card.refused == {"not_an_image": 1, "nothing_usable": 1, "wrong_type": 2}
    assert data.ids(range(10)) == [f"case-{i}" for i in range(10)]


def test_what_was_done_to_values_is_counted(tmp_path: Path):
    series = (
        Measurements(1, {"heart_rate": 10_000, "fio2": 40}),
        Measurements(2, {"heart_rate": 360, "fio2": 50}),
    )
    data = prepared([Sample({Modality.TIMESERIES: series}, id="a")], tmp_path / "data",
                    shares=(1.0, 0.0, 0.0))  # fmt: skip
    assert data.card.issues == {
        "out_of_range/clipped": 1,
        "out_of_range/dropped": 1,
        "unit_implied/converted": 2,
    }


def warnings_of(data: Dataset) -> list[str]:
    checks = json.loads((data.folder / "report.json").read_text())["checks"]
    return [each["said"] for each in checks if each["verdict"] == "warning"]


def test_splits_without_a_case_and_labels_all_alike_are_warned_of_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def said() -> list[str]:
        return [record.message for record in caplog.records if record.levelname == "WARNING"]

    data = prepared(rows(20, group="one"), tmp_path / "one")
    assert said() == [
        "there is no case in the validation split (share 0.1), or the test split (share 0.1)",
        "every label is 'died': nothing can be learned from them",
    ]
    assert warnings_of(data) == said()
    page = (data.folder / "report.html").read_text()
    assert "Check this: Splits without a case; Labels that hardly differ" in page
    caplog.clear()
    mixed = [replace(each, label="survived") for each in rows(1)]
    data = prepared([*rows(30)[1:], *mixed], tmp_path / "many")
    few = "train: 1 of 'survived', validation: 0 of 'survived', validation: 3 of 'died'"
    assert said()[0].startswith(f"few labelled cases ({few}, ")
    assert "--seed" in said()[0]
    assert set(said()) <= set(warnings_of(data))
    caplog.clear()
    many = [replace(each, id=f"s{each.id}", label="survived") for each in rows(200)]
    prepared([*rows(200), *many], tmp_path / "enough")
    assert not said()
    caplog.clear()
    data = prepared([replace(each, label=None) for each in rows(200)], tmp_path / "unlabelled")
    assert not [each for each in said() + warnings_of(data) if "label" in each]


@pytest.mark.parametrize(
    ("labels", "warned"),
    [
        ([1.7e9 + i for i in range(20)], True),
        ([1.7e9 + 1e6 * i for i in range(20)], False),
        ([0.1 * i for i in range(20)], False),
        ([1e9, 1e9], False),
    ],
)
def test_labels_that_float32_cannot_tell_apart_are_warned_of(
    labels: list[float], warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    label = LabelSpec(kind="regression", name="seen")
    task = MORTALITY.model_copy(update={"label": label, "metric": "mae"})
    samples = [replace(c, label=y) for c, y in zip(rows(len(labels)), labels, strict=True)]
    data = prepare(
        lambda: samples, task, tmp_path / "data", options=OPTIONS, splits=SplitOptions(), source={}
    )
    said = [record.message for record in caplog.records]
    assert any("float32" in each for each in said) == warned
    assert any("float32" in each for each in warnings_of(data)) == warned


# ---- whole or not at all ------------------------------------------------------------------------


def test_a_failure_half_way_leaves_nothing_behind(tmp_path: Path):
    out = tmp_path / "deep" / "data"

    def samples() -> Iterable[Sample]:
        yield from rows(300)
        if any(out.parent.glob("*/tabular.arrow")):  # by now the cases are being written
            raise OSError("the disk of the records went away")

    with pytest.raises(OSError, match="went away"):
        prepare(
            samples,
            MORTALITY,
            out,
            options=OPTIONS,
            splits=SplitOptions(),
            source={},
        )
    assert list(out.parent.iterdir()) == []


def test_no_records_and_no_usable_ones_are_the_users_mistake(tmp_path: Path):
    unusable = [Sample({Modality.TEXT: ("",)}, id="a")]
    for samples in ([], unusable):
        with pytest.raises(DataError) as caught:
            prepared(samples, tmp_path / "data")
        assert caught.value.code == "no_records"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    out = tmp_path / "data"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(DataError) as caught:
        prepared(rows(5), out)
    assert caught.value.code == "exists"
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_refused_before_anything_is_read_and_stays(tmp_path: Path, there: bool):
    out, folder = tmp_path / "data", tmp_path / "elsewhere"
    out.symlink_to(folder)
    if there:
        folder.mkdir()
    with pytest.raises(DataError, match=f"accepted: the folder itself: {folder}"):
        command_here("--task", "rating", "--out", str(out))
    assert out.readlink() == folder
    assert folder.exists() == there


SMALL = ("--samples", "40", "--vocabulary-size", "300", "--image-size", "16")


def interrupted_by(number: signal.Signals, out: Path) -> int:
    """Start a preparation, send it a signal while it writes cases, and return its exit code."""
    words = ("training.prepare", "synthetic", "--task", "mortality", "--out", str(out), *SMALL)
    return cut_off(words, number, out.parent, "tabular.arrow")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_end_it_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, code: int):
    assert interrupted_by(number, tmp_path / "data") == code
    assert list(tmp_path.iterdir()) == []


def test_killed_and_started_again_it_gives_the_same_and_clears_up(tmp_path: Path):
    out, whole = tmp_path / "killed" / "data", tmp_path / "whole"
    (out.parent / ".data-draft-mine").mkdir(parents=True)  # a user's own, whatever its name
    assert interrupted_by(signal.SIGKILL, out) == -signal.SIGKILL
    (left,) = (path for path in out.parent.iterdir() if path.name != ".data-draft-mine")
    os.utime(left, (0, 0))  # as if that were long ago
    for folder in (out, whole):
        done = command("--task", "mortality", "--out", str(folder), *SMALL)
        assert done.returncode == 0, done.stderr
    assert {path.name for path in out.parent.iterdir()} == {"data", ".data-draft-mine"}
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    for path in whole.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_draft_that_another_run_holds_is_left_alone(tmp_path: Path):
    with new_folder(tmp_path / "data") as draft:
        os.utime(draft, (0, 0))
        with new_folder(tmp_path / "data") as other:
            (other / "x.txt").write_text("x")
        assert draft.is_dir()
        shutil.rmtree(tmp_path / "data")


# ---- the command --------------------------------------------------------------------------------


def command_here(*arguments: str) -> None:
    """Run the command in this process."""
    KINDS["synthetic"].prepare(_parser().parse_args(["synthetic", *arguments]))


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return forked.run("training.prepare", "synthetic", *arguments)


def test_two_runs_are_identical_byte_by_byte(tmp_path: Path):
    """One started anew, not forked: the order of a set is another one in each."""
    words = ["--task", "mortality", "--samples", "30", "--vocabulary-size", "400"]
    anew = [sys.executable, "-W", "error", "-m", "training.prepare", "synthetic"]
    outs = [tmp_path / "one", tmp_path / "two"]
    options = [[*words, "--image-size", "16", "--out", str(out)] for out in outs]
    for done in (
        command(*options[0]),
        subprocess.run([*anew, *options[1]], cwd=ROOT, capture_output=True, text=True),
    ):
        assert done.returncode == 0, done.stderr
        assert "30 cases (24 train, 3 validation, 3 test)" in done.stdout
    names = sorted(path.name for path in outs[0].iterdir())
    assert names == sorted(path.name for path in outs[1].iterdir())
    assert "dataset.json" in names
    for name in names:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name


def test_raw_records_are_written_as_users_have_them(tmp_path: Path):
    done = command(
        "--task", "rating", "--samples", "8", "--image-size", "16",
        "--out", str(tmp_path / "data"), "--raw", str(tmp_path / "raw"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "raw" / "records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 8
    assert all(record["label"] in RATING.label.classes for record in records)
    pictures = [name for record in records for name in record.get("image", ())]
    assert pictures
    assert all((tmp_path / "raw" / name).read_bytes()[:2] == b"\xff\xd8" for name in pictures)


def test_a_folder_without_a_name_of_its_own_is_known_by_the_one_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "data" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "data" / "below")
    with pytest.raises(DataError, match="the folder exists"):
        command_here("--task", "rating", "--samples", "5", "--out", "..")
    command_here("--task", "rating", "--samples", "5", "--out", ".")
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["below"]
    assert len(Dataset.open(tmp_path / "data" / "below")) == 5


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--samples", "0"),
        ("--missing", "1.5"),
        ("--missing", "image=2"),
        ("--missing", "imag=0.5"),
        ("--missing", "image"),
        ("--missing", "image=1=2"),
        ("--image-size", "3"),
        ("--max-tokens", "0"),
        ("--vocabulary-size", "0"),
        ("--vocabulary", "/nowhere.txt"),
        ("--splits", ".5 .5 .5"),
        ("--splits", "2 -1 0"),
        ("--splits", "0 .5 .5"),
        ("--seed", "-1"),
        ("--seed", str(2**32)),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_two(tmp_path: Path, option: str, value: str):
    out = str(tmp_path / "data")
    done = command("--task", "rating", "--out", out, "--samples", "5", option, *value.split())
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {option}: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
