"""The command of the paper's tables: what it runs, writes, keeps and refuses."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lanistr.errors import ConfigError, DataError, LanistrError
from tests.training.experiments.rows import lines
from training.baselines import REPORT
from training.bootstrap import draws
from training.data.store import DATASET, Dataset
from training.experiments.__main__ import main
from training.experiments.checks import check_setup
from training.experiments.results import (
    FORMAT,
    Json,
    identity,
)
from training.experiments.setup import Setup
from training.experiments.tables import WHOLE
from training.metrics import measure
from training.outputs import outputs_file, read_outputs
from training.prepare.__main__ import main as prepare

Command = Callable[..., str]

QUICK = (
    *("--scale", "demo", "--seeds", 2, "--device", "cpu", "cpu"),
    *("--pretrain-set", "optim.epochs=1", "model.simmmm=null"),
    *("--finetune-set", "optim.epochs=1"),
)

pytestmark = pytest.mark.usefixtures("forked_jobs")


def ids(data: Path) -> list[str]:
    dataset = Dataset.open(data)
    return dataset.ids(range(len(dataset)))


def paired_by_case(work: Path, ours: Json, theirs: Json, data: Path) -> list[float]:
    """Return the 95% interval over test cases of the mean difference, drawn by patients."""
    dataset = Dataset.open(data)
    test = dataset.rows("test", labelled=True)
    label, targets = dataset.task.label, dataset.labels[test]
    weights = np.concatenate([*draws(dataset.groups_of(test))])
    means = []
    for row in (ours, theirs):
        said = [read_outputs(work / run["run"] / outputs_file("test"))[1] for run in row["runs"]]
        figures = [
            [measure(outputs[drawn], targets[drawn], label)["auroc"] for outputs in said]
            for count in weights
            for drawn in [np.repeat(np.arange(len(test)), count.astype(int))]
        ]
        means.append(np.mean(figures, axis=1))
    low, high = np.nanquantile(means[0] - means[1], [0.025, 0.975])
    return [float(low), float(high)]


def test_a_table_is_run_once_and_told_in_three_forms(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "experiments"
    words = ("table4", "--data", stays, "--out", out, *QUICK, "--rows", "share-0")
    said = command(main, *words)
    assert len(re.findall(r"^\d+/6 ", said, re.M)) == 6
    found = json.loads((out / "tables" / f"table4-{stays.name}.json").read_text())
    rows = {row["key"]: row for row in found["rows"]}
    assert set(rows) == {"share-0", WHOLE}
    for row in rows.values():
        values = []
        for run in row["runs"]:
            report = json.loads((out / "runs" / run["run"] / REPORT).read_text())
            assert report["all"]["metrics"] == run["metrics"]
            values.append(run["metrics"]["auroc"])
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["std"] == pytest.approx(np.std(values, ddof=1))
    gap = [
        ours["metrics"]["auroc"] - theirs["metrics"]["auroc"]
        for ours, theirs in zip(rows["share-0"]["runs"], rows[WHOLE]["runs"], strict=True)
    ]
    assert rows["share-0"]["difference"]["mean"] == pytest.approx(np.mean(gap))
    assert rows["share-0"]["published"] == [80.87]
    over_cases = rows["share-0"]["difference"]["test_interval"]
    assert over_cases == pytest.approx(
        paired_by_case(out / "runs", rows["share-0"], rows[WHOLE], stays), abs=1e-6
    )
    learned = len(Dataset.open(stays).rows("train", labelled=True))
    assert {run["cases"] for run in rows[WHOLE]["runs"]} == {learned}
    assert {run["steps"] for run in rows[WHOLE]["runs"]} == {-(-learned // 64)}
    table = (out / "tables" / f"table4-{stays.name}.md").read_text()
    line = f"{rows[WHOLE]['mean']:.3f} ± {rows[WHOLE]['std']:.3f} |  | {learned} | 2 | 0.874"
    assert f"| {line} |" in table
    assert "These records are synthetic" in table
    page = (out / "index.html").read_text()
    assert "<svg" in page
    assert f"{rows['share-0']['mean']:.3f} ± {rows['share-0']['std']:.3f}" in page
    assert "({:+.3f}, {:+.3f})".format(*over_cases) in page
    picture = (out / "tables" / f"table4-{stays.name}.svg").read_text()
    assert 'xmlns="http://www.w3.org/2000/svg"' in picture

    # ---- asked again, nothing is run, even where the weights are gone ----------------------------
    for weights in (out / "runs").glob("*/model/model.safetensors"):
        weights.unlink()
    assert re.findall(r"^\d+/\d+ ", command(main, *words), re.M) == []


def test_a_row_that_fails_is_told_and_keeps_the_others_from_nothing(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    words = ("table4", "--data", stays, "--out", tmp_path / "x", *QUICK, "--rows", "share-0")
    with pytest.raises(LanistrError, match="4 runs failed, or need one that failed"):
        command(main, *words, "--pretrain-set", "optim.lr=1e30", "model.simmmm=null")
    found = json.loads((tmp_path / "x" / "tables" / f"table4-{stays.name}.json").read_text())
    rows = {row["key"]: row for row in found["rows"]}
    assert "mean" in rows["share-0"]
    assert all("which failed" in why for why in rows[WHOLE]["failed"].values())
    (log,) = {*(tmp_path / "x" / "runs" / "logs").glob("lanistr-pretrained-0*.log")}
    assert "lower optim.lr" in log.read_text()


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (("table9", "--data", "x"), SystemExit, "2"),
        (("table1", "--data", "nowhere"), DataError, "not a prepared data set"),
        (("table1", "--rows", "albeff"), ConfigError, r"--rows.*seen 'albeff'.*albef"),
        (("table1", "--beside", "beauty"), ConfigError, "--beside.*accepted: mimic-iv"),
        (("table1", "--device", "tpu"), ConfigError, "no such device"),
        (("table1", "--name", "../oops"), ConfigError, "--name.*one word"),
        (("table1", "--seed", "3"), SystemExit, "2"),
        (("table1", "--seeds", "0"), ConfigError, "--seeds.*1 or more"),
        (("table1", "--scale", "paper", "--finetune-set", "optim.lrr=1"), ConfigError, "optim.lr"),
        (
            ("table1", "--finetune-set", "seed=7"),
            ConfigError,
            "--finetune-set.*the table sets this itself.*seed=7",
        ),
        (("table1", "--finetune-set", "model.text.width=8"), ConfigError, "model.text.width=8"),
        (("table1", "--finetune-set", "freeze_encoders=true"), ConfigError, "freeze_encoders=true"),
        (
            ("table1", "--rates", "1e-3", "--pretrained-set", "optim.lr=1"),
            ConfigError,
            "--pretrained-set.*optim.lr=1.*--rates",
        ),
        (("table1", "--pretrain-set", "share=.5"), ConfigError, "--pretrain-set.*share=.5"),
        (
            ("table1", "--pretrain-set", "model.simmmm=null", "model.fusion.layers=6"),
            ConfigError,
            "--pretrain-set.*model.fusion.layers=6.*simmmm, summary, mask_ratio",
        ),
        (("table1", "--pretrain-set", "model.text.tokens=all"), ConfigError, "text.tokens=all"),
        (("table1", "--finetune-set", "model.simmmm=null"), ConfigError, "model.simmmm=null"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_run(
    words: tuple[str, ...],
    error: type[BaseException],
    match: str,
    stays: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    data = () if "--data" in words else ("--data", stays)
    with pytest.raises(error, match=match):
        command(main, *words, *data, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_pretraining_alone_asks_of_a_model_may_be_set(stays: Path) -> None:
    losses = ("model.simmmm=null", "model.summary.width=8", "model.timeseries.mask_run=8")
    check_setup(
        Setup(
            stays,
            pretrain=(*losses, "model.text.mask_ratio=0.3"),
            finetune=("model.head.dropout=0",),
        )
    )


def test_other_data_than_those_of_the_table_are_refused(
    stays: Path, reviews: Path, tmp_path: Path, command: Command
) -> None:
    for option in ("--tab2txt", "--pretraining-data"):
        with pytest.raises(ConfigError, match=option):
            command(main, "table1", "--data", stays, option, reviews, "--out", tmp_path / "x")


def test_a_case_that_is_held_out_is_not_pretrained_on(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    made = (prepare, "synthetic", "--task", "mortality", "--samples", 125, "--splits", 1, 0, 0)
    for name, seed in (("same", 0), ("others", 5)):
        out = ("--preprocessing", stays, "--seed", seed, "--out", tmp_path / name)
        command(*made, *out)
        assert set(ids(tmp_path / name)) == set(ids(stays))
    table = ("table1", "--data", stays, "--out", tmp_path / "x", "--name", "../too-late")
    with pytest.raises(
        ConfigError, match=r"--pretraining-data.*held-out case.*(validation|test) in"
    ):
        command(main, *table, "--pretraining-data", tmp_path / "same")
    with pytest.raises(ConfigError, match="--name"):  # after a name alone that is the same
        command(main, *table, "--pretraining-data", tmp_path / "others")


TASK = """
name: readmission
title: Readmission
label: {kind: binary, name: back, classes: ["no", "yes"]}
metric: auroc
text: {description: A note.}
source: {id: %s, group: patient, label: back, text: {columns: [note]}}
"""


def test_of_the_same_files_no_group_that_is_held_out_is_pretrained_on(
    tmp_path: Path, command: Command
) -> None:
    """A patient's cases may have other names, as where all notes and pictures are paired."""
    lines = [f"v{i},w{i},p{i // 2},{'yes' if i % 3 else 'no'},note {i}" for i in range(60)]
    source = tmp_path / "visits.csv"
    source.write_text("\n".join(["visit,pair,patient,back,note", *lines]))
    for name, column, splits in (("data", "visit", (0.5, 0.25, 0.25)), ("all", "pair", (1, 0, 0))):
        task = tmp_path / f"{name}.yaml"
        task.write_text(TASK % column)
        words = ("table", "--source", source, "--task", task, "--splits", *splits)
        fitted = () if name == "data" else ("--preprocessing", tmp_path / "data")
        command(prepare, *words, *fitted, "--out", tmp_path / name)
    assert not {*ids(tmp_path / "data")} & {*ids(tmp_path / "all")}
    table = ("table1", "--data", tmp_path / "data", "--out", tmp_path / "x", "--scale", "demo")
    with pytest.raises(ConfigError, match=r"--pretraining-data.*of p\d+, (validation|test) in"):
        command(main, *table, "--pretraining-data", tmp_path / "all")


def test_the_same_names_in_other_splits_are_not_the_same_cases(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    words = tmp_path / "words"
    command(
        *(prepare, "synthetic", "--task", "mortality", "--samples", 125, "--tab2txt"),
        *("--image-size", 16, "--vocabulary-size", 400, "--max-tokens", 64, "--out", words),
        *("--seed", 5),
    )
    assert set(ids(words)) == set(ids(stays))
    with pytest.raises(ConfigError, match="the cases, splits and labels are not the same"):
        command(main, "table1", "--data", stays, "--tab2txt", words, "--out", tmp_path / "x")


def test_words_for_the_rows_of_other_data_are_checked_as_those_of_the_task(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    made = (prepare, "synthetic", "--task", "mortality", "--samples")
    sizes = ("--image-size", 16, "--vocabulary-size", 400, "--max-tokens", 64)
    words, other, fitted, alone, fewer = (
        tmp_path / each for each in ("words", "other", "fitted", "alone", "fewer")
    )
    command(*made, 125, "--tab2txt", *sizes, "--out", words)
    unlabelled = ("--seed", 5, "--splits", 1, 0, 0)
    command(*made, 40, *unlabelled, "--preprocessing", stays, "--out", other)
    command(*made, 40, *unlabelled, "--tab2txt", "--preprocessing", words, "--out", fitted)
    command(*made, 40, *unlabelled, "--tab2txt", *sizes, "--out", alone)
    command(*made, 30, *unlabelled, "--tab2txt", "--preprocessing", words, "--out", fewer)
    option = "--tab2txt-pretraining-data"
    check_setup(Setup(stays, worded=words, unlabelled=other, worded_unlabelled=fitted))
    for wrong, said in (
        (alone, "not preprocessed as for the task"),
        (fewer, "the cases, splits and labels are not the same"),
        (other, "it still has table rows instead of"),
    ):
        with pytest.raises(ConfigError, match=f"{option}: .*{said}"):
            check_setup(Setup(stays, worded=words, unlabelled=other, worded_unlabelled=wrong))
    for lacking in ("--tab2txt", "--pretraining-data"):
        given = {"--tab2txt": words, "--pretraining-data": other, option: fitted}
        del given[lacking]
        options = [word for pair in given.items() for word in pair]
        with pytest.raises(
            ConfigError, match=f"{option}.*needs --pretraining-data and --tab2txt as well"
        ):
            command(main, "table1", "--data", stays, *options, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_table_of_other_settings_or_more_rows_is_not_lost(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    out, other = tmp_path / "x", tmp_path / "other"
    shutil.copytree(stays, other)
    with (other / DATASET).open("a", encoding="utf-8") as file:
        file.write("\n")  # the same cases, under another hash
    (out / "tables").mkdir(parents=True)
    before = out / "tables" / f"table4-{stays.name}.json"
    setup = Setup(stays, scale="demo")
    rows = [{"key": key} for key in lines("table4", setup)]
    old = {"format": FORMAT, "rows": rows, "seeds": [0, 1, 2]}
    before.write_text(json.dumps(identity("table4", setup) | old))
    words = (main, "table4", "--data", stays, "--out", out, "--scale", "demo")
    with pytest.raises(ConfigError, match=r"would be overwritten.*other labels.*--name"):
        command(*words, "--labels", 20)
    with pytest.raises(
        ConfigError, match=r"would be overwritten.*row share-25, row share-50, row share-75"
    ):
        command(*words, "--rows", "share-0")
    with pytest.raises(ConfigError, match=r"would be overwritten.*seed 2"):
        command(*words, "--seeds", 2)
    with pytest.raises(ConfigError, match=r"would be overwritten.*other pretraining_data_hash"):
        command(*words, "--pretraining-data", other)
    assert not (out / "runs").exists()


def test_a_table_that_was_cut_off_is_named_before_anything_is_run(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "x"
    (out / "tables").mkdir(parents=True)
    words = (main, "table4", "--data", stays, "--out", out, "--scale", "demo")
    (out / "tables" / ".table2-other.json.draft").write_text('{"table": "tab')  # never finished
    for text, said in (('{"table": "tab', "Unterminated string"), ('{"rows": []}', "format 1")):
        (out / "tables" / "table1-other.json").write_text(text)
        with pytest.raises(
            DataError, match=rf"table1-other.json: not a table of results: .*{said}"
        ):
            command(*words)
    assert not (out / "runs").exists()


def test_data_that_cannot_judge_are_refused_before_anything_is_run(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    data = tmp_path / "data"
    made = (prepare, "synthetic", "--task", "mortality", "--samples", 20, "--splits", 1, 0, 0)
    command(*made, "--preprocessing", stays, "--out", data)
    with pytest.raises(DataError, match="the split has no labelled cases"):
        command(main, "table1", "--data", data, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_one_command_at_a_time_works_in_a_folder(
    stays: Path, tmp_path: Path, command: Command
) -> None:
    held = "import sys, time; from pathlib import Path; from training.lock import lock_folder; "
    held += "lock_folder(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    words = [sys.executable, "-c", held, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="using this folder"):
            command(main, "table4", "--data", stays, "--out", tmp_path, "--scale", "demo")
        other.kill()
