"""The paper's tables: what is run, what is shared, what is left out, and what the table says."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lanistr.document import read_yaml
from lanistr.errors import ConfigError, DataError, LanistrError, TaskError
from lanistr.modalities import Modality
from training.bootstrap import draws
from training.data.store import DATASET, Dataset
from training.experiments import results
from training.experiments.__main__ import _check, main
from training.experiments.jobs import Job, Workshop, finished, folder_name
from training.experiments.page import cells
from training.experiments.results import (
    FORMAT,
    NOBODY,
    Json,
    chosen,
    identity,
    published_beside,
    published_figures,
    said_of,
)
from training.experiments.tables import SHARES, TABLES, WHOLE, LeftOut, Row, Scale, Setup
from training.foreign import REPORT
from training.metrics import measure
from training.outputs import outputs_file, read_outputs
from training.prepare.__main__ import main as prepare
from training.recipe import FinetuneRecipe
from training.run import Run

Command = Callable[..., str]

PUBLISHED = Path(results.__file__).with_name("published.yaml")


def lines(table: str, setup: Setup) -> dict[str, Row | LeftOut]:
    return {each.key: each for each in TABLES[table][1](setup)}


def settings(job: Job) -> set[str]:
    words = list(job.command)
    return {str(words[at + 1]) for at, word in enumerate(words) if word == "--set"}


def ids(data: Path) -> list[str]:
    dataset = Dataset.open(data)
    return dataset.ids(range(len(dataset)))


def jobs(row: Row | LeftOut, seed: int = 0) -> tuple[Job, ...]:
    assert isinstance(row, Row)
    return row.by_seed[seed]


def pretraining(row: Row | LeftOut, seed: int = 0) -> Job:
    (job,) = jobs(row, seed)
    (before,) = job.needs
    return before


# ---- what a table compares ----------------------------------------------------------------------


def test_every_system_is_trained_on_the_same_cases(
    stays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = lines("table1", Setup(stays, scale="demo", labels=20))
    left = {key for key, row in rows.items() if isinstance(row, LeftOut)}
    assert left == {"albef-tab2txt", "lanistr-tab2txt"}
    for key, row in rows.items():
        if isinstance(row, LeftOut) or key in ("trees", "logistic"):
            continue
        assert len(row.by_seed) == 3
        for seed, tuned in enumerate(row.by_seed):
            for job in tuned:
                words = list(job.command)
                assert words[words.index("--data") + 1] == job.judged_on == stays
                assert {f"seed={seed}", "labels=20"} <= settings(job)
    assert len(jobs(rows["single"])) == 4
    with monkeypatch.context() as patch:
        counts = Dataset.row_counts
        patch.setattr(
            Dataset, "row_counts", lambda self, each: counts(self, each) * (each != Modality.IMAGE)
        )
        assert len(jobs(lines("table1", Setup(stays, scale="demo"))["single"])) == 3
    assert pretraining(rows["albef"]).command[0] == "training.pretrain"


def recipe(job: Job) -> FinetuneRecipe:
    return FinetuneRecipe.model_validate_json(job.recipe)


def treatment(job: Job) -> tuple[object, ...]:
    """Return what no two systems are to differ by."""
    found = recipe(job)
    optim = found.optim.lr, found.optim.epochs, found.optim.batch_size
    return *optim, found.patience, found.ordinal, found.modality_dropout


@pytest.mark.parametrize(("scale", "data"), [("demo", "stays"), ("small", "reviews")])
def test_no_system_is_trained_longer_or_on_other_terms(
    scale: Scale, data: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(data)
    rows = lines("table1", Setup(folder, worded=folder, scale=scale))
    del rows["trees"], rows["logistic"]
    found = {key: treatment(jobs(row)[0]) for key, row in rows.items() if isinstance(row, Row)}
    alone = found.pop("single")
    assert {"late-fusion", "autogluon-mlp", "albef-tab2txt", "scratch", WHOLE} <= found.keys()
    assert len(set(found.values())) == 1
    *others, dropout = found[WHOLE]
    assert alone == (*others, 0)
    assert dropout != 0
    if data == "stays":
        (stage,) = jobs(rows["medfuse"])[0].needs
        assert treatment(stage) == alone
        assert recipe(stage).optim.plateau == 4  # of a patience of 6; published, 10 of 15


def test_at_the_papers_sizes_stars_are_classes_to_every_system(reviews: Path) -> None:
    rows = lines("table2", Setup(reviews, worded=reviews, scale="paper"))
    found = {key: row for key, row in rows.items() if isinstance(row, Row)}
    kinds = {recipe(jobs(found[key])[0]).ordinal for key in found.keys() - {"trees", "logistic"}}
    assert kinds == {"classes"}


def test_who_is_left_with_one_modality_never_loses_it(stays: Path) -> None:
    setup = Setup(stays, scale="demo")
    (alone,) = jobs(setup.lanistr("x", "x", modalities=[Modality.TEXT]))
    assert (recipe(alone).modalities, recipe(alone).modality_dropout) == ((Modality.TEXT,), 0)
    (two,) = jobs(setup.lanistr("x", "x", modalities=[Modality.TEXT, Modality.IMAGE]))
    assert recipe(two).modality_dropout == recipe(jobs(setup.lanistr("x", "x"))[0]).modality_dropout


def test_who_is_brought_one_modality_never_loses_it(stars: Path) -> None:
    assert len(Dataset.open(stars).task.modalities) == 1
    rows = lines("table4", Setup(stars, scale="demo"))
    assert {recipe(jobs(rows[key])[0]).modality_dropout for key in ("share-0", WHOLE)} == {0}


def test_medfuses_stages_have_one_rate_whichever_is_written_first(stays: Path) -> None:
    setup = Setup(stays, scale="demo", rates=(3e-4, 1e-3))
    found = jobs(lines("table1", setup)["medfuse"])
    rates = [recipe(job).optim.lr for job in found]
    assert rates == [3e-4, 1e-3]
    assert [recipe(job.needs[0]).optim.lr for job in found] == rates
    other = jobs(lines("table1", replace(setup, rates=(1e-3, 3e-4)))["medfuse"])
    assert set(found) == set(other)


def test_albefs_queue_is_no_longer_than_its_data(stays: Path) -> None:
    words = settings(pretraining(lines("table1", Setup(stays, scale="demo"))["albef"]))
    assert f"model.fusion.queue={len(Dataset.open(stays).rows('train'))}" in words


def test_words_in_the_place_of_rows_are_wanted_of_all_that_is_learned_from(
    stays: Path, other_stays: Path
) -> None:
    setup = Setup(stays, worded=stays, unlabelled=other_stays, scale="demo")
    for key in ("albef-tab2txt", "lanistr-tab2txt"):
        row = lines("table1", setup)[key]
        assert isinstance(row, LeftOut)
        assert "to pretrain on are not there with words" in row.why


def test_a_row_that_learns_from_complete_cases_looks_where_it_learns(
    stays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Dataset.patterns
    labelled = {*Dataset.open(stays).rows("train", labelled=True).tolist()}

    def patterns(self: Dataset, positions: Sequence[int]) -> NDArray[np.str_]:
        """Hide that labelled cases are complete."""
        found = whole(self, positions)
        if set(np.asarray(positions).tolist()) <= labelled and len(positions) == len(labelled):
            found = np.full(len(found), "text")
        return found

    monkeypatch.setattr(Dataset, "patterns", patterns)
    rows = lines("table1", Setup(stays, scale="demo"))
    assert isinstance(rows["late-fusion"], LeftOut)
    assert "no labelled case that is drawn brings all of" in rows["late-fusion"].why
    monkeypatch.setattr(
        Dataset, "patterns", lambda self, positions: np.full(len(positions), "text")
    )
    rows = lines("table1", Setup(stays, scale="demo"))
    assert isinstance(rows["albef"], LeftOut)
    assert rows["albef"].why == "no case brings all of text, image"
    assert isinstance(lines("table3", Setup(stays, scale="demo"))["parallel"], LeftOut)


def test_a_system_whose_parts_the_data_lack_is_named_and_says_why(reviews: Path) -> None:
    rows = lines("table2", Setup(reviews, scale="demo"))
    assert isinstance(rows["medfuse"], LeftOut)
    assert rows["medfuse"].why == "the data do not bring timeseries"
    assert isinstance(rows["albef"], Row)


def test_ablations_leave_one_thing_out_and_keep_all_else(stays: Path) -> None:
    rows = lines("table3", Setup(stays, scale="demo"))
    assert list(rows) == [
        WHOLE,
        *(f"no-{modality}" for modality in Modality),
        *("no-mlm", "no-mim", "no-mfm", "no-mtm", "no-simmmm", "parallel"),
    ]
    whole = settings(pretraining(rows[WHOLE]))
    for key, added in {
        "no-text": "modalities=[image, tabular, timeseries]",
        "no-mtm": "losses.mtm=0",
        "no-simmmm": "model.simmmm=null",
        "parallel": "complete=true",
    }.items():
        assert settings(pretraining(rows[key])) - whole == {added}
    (tuned,) = jobs(rows["no-text"])
    assert "modalities=[image, tabular, timeseries]" in settings(tuned)


def test_a_loss_that_counts_nothing_is_not_left_out_again(stays: Path) -> None:
    rows = lines("table3", Setup(stays, scale="demo", pretrain=("losses.mfm=0",)))
    assert "no-mfm" not in rows


def test_shares_of_the_unlabelled_data_end_with_the_row_that_all_tables_share(
    stays: Path,
) -> None:
    setup = Setup(stays, scale="demo")
    rows = lines("table4", setup)
    assert list(rows) == [*(f"share-{each}" for each in SHARES), WHOLE]
    assert "share=0.25" in settings(pretraining(rows["share-25"]))
    first = jobs(rows["share-0"])[0]
    assert first.needs == []
    folders = {
        table: [jobs(lines(table, setup)[WHOLE], seed)[0].folder for seed in range(3)]
        for table in TABLES
    }
    assert len({tuple(each) for each in folders.values()}) == 1


def test_one_pretraining_for_all_seeds_is_one(stays: Path) -> None:
    row = lines("table4", Setup(stays, scale="demo", pretrain_once=True))[WHOLE]
    assert pretraining(row, 0) == pretraining(row, 2)


def test_the_papers_sizes_take_the_papers_recipes_and_weights(stays: Path, reviews: Path) -> None:
    rows = lines("table1", Setup(stays, scale="paper"))
    (late,) = jobs(rows["late-fusion-all"])
    assert not recipe(late).complete
    (late,) = jobs(rows["late-fusion"])
    assert recipe(late).complete
    assert late.command[:3] == ("training.finetune", "--recipe", "late-fusion")
    (scratch,) = jobs(rows["scratch"])
    assert scratch.command[2] == "mortality"
    assert {"init.text=bert-base-uncased", "freeze_encoders=false"} <= settings(scratch)
    whole = pretraining(rows[WHOLE])
    assert whole.command[2] == "mimic-iv"
    setup = Setup(reviews, scale="paper", category="fashion")
    (fashion,) = jobs(lines("table2", setup)[WHOLE])
    assert fashion.command[2] == "amazon-fashion"


def test_the_papers_figures_belong_to_rows_that_there_are(stays: Path, reviews: Path) -> None:
    for table in TABLES:
        data = reviews if table == "table2" else stays
        known = lines(table, Setup(data, scale="demo")).keys()
        for name in read_yaml(PUBLISHED.read_text(encoding="utf-8"))[table]:
            found = published_figures(table, name)
            assert found
            assert found["rows"].keys() <= known
            assert found["rows"][WHOLE] == max(found["rows"].values())
            assert all(0 < each[0] < 100 for each in found["rows"].values())


def test_the_papers_figures_stand_beside_what_has_their_metric(stays: Path, reviews: Path) -> None:
    for table, data, beside in (
        ("table1", stays, "mimic-iv"),
        ("table4", stays, "mimic-iv"),
        ("table2", reviews, "fashion"),
        ("table4", reviews, None),  # AUROC of five classes there is none
    ):
        assert published_beside(table, None, Setup(data, category="fashion")) == beside
    assert published_beside("table1", NOBODY, Setup(stays)) is None
    with pytest.raises(TaskError, match=r"not a metric of ordinal labels.*'auroc'"):
        published_beside("table1", "mimic-iv", Setup(reviews))


# ---- the command --------------------------------------------------------------------------------

QUICK = (
    *("--scale", "demo", "--seeds", 2, "--device", "cpu", "cpu"),
    *("--pretrain-set", "optim.epochs=1", "model.simmmm=null"),
    *("--finetune-set", "optim.epochs=1"),
)


def paired_by_case(work: Path, ours: Json, theirs: Json, data: Path) -> list[float]:
    """Return the 95% interval over test cases of the mean difference, drawn anew case by case."""
    dataset = Dataset.open(data)
    test = dataset.rows("test", labelled=True)
    label, targets = dataset.task.label, dataset.labels[test]
    weights = np.concatenate([*draws(len(test))])
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
    assert "made by chance" in table
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
    with pytest.raises(LanistrError, match="4 runs failed, or wait for"):
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
        (("table1", "--finetune-set", "seed=7"), ConfigError, "--finetune-set.*by itself.*seed=7"),
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
    _check(
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
    with pytest.raises(ConfigError, match=r"--pretraining-data.*held out.*(validation|test) in"):
        command(main, *table, "--pretraining-data", tmp_path / "same")
    with pytest.raises(ConfigError, match="--name"):  # after a name alone that is the same
        command(main, *table, "--pretraining-data", tmp_path / "others")


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
    with pytest.raises(ConfigError, match="not the same cases, splits and labels"):
        command(main, "table1", "--data", stays, "--tab2txt", words, "--out", tmp_path / "x")


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
    with pytest.raises(ConfigError, match=r"would be lost.*other labels.*--name"):
        command(*words, "--labels", 20)
    with pytest.raises(
        ConfigError, match=r"would be lost.*row share-25, row share-50, row share-75"
    ):
        command(*words, "--rows", "share-0")
    with pytest.raises(ConfigError, match=r"would be lost.*seed 2"):
        command(*words, "--seeds", 2)
    with pytest.raises(ConfigError, match=r"would be lost.*other pretraining_data_hash"):
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
        with pytest.raises(DataError, match=rf"table1-other.json: no table: .*{said}"):
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
    held = "import sys, time; from pathlib import Path; from training.run import lock_folder; "
    held += "lock_folder(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    words = [sys.executable, "-c", held, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="at work on this folder"):
            command(main, "table4", "--data", stays, "--out", tmp_path, "--scale", "demo")
        other.kill()


# ---- what the validation split chooses -----------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "curves", "best"),
    [("auroc", ([0.6, 0.7], [0.8, 0.5]), 1), ("mae", ([3.0, 2.0], [2.5, 9.0]), 0)],
)
def test_of_several_runs_of_a_seed_the_validation_split_takes_the_best(
    metric: str, curves: tuple[list[float], list[float]], best: int, tmp_path: Path
) -> None:
    candidates = tuple(Job(f"run-{number}", (number,)) for number in range(2))
    for number, (job, values) in enumerate(zip(candidates, curves, strict=True)):
        folder = tmp_path / job.folder
        folder.mkdir()
        entries = [{"epoch": at, "validation": {metric: each}} for at, each in enumerate(values)]
        (folder / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))
        (folder / REPORT).write_text(json.dumps({"all": {"metrics": {metric: 10.0 + number}}}))
    assert chosen(candidates, tmp_path, metric) == candidates[best]


def test_rates_and_settings_behind_a_pretraining_reach_the_runs_that_they_are_for(
    stays: Path,
) -> None:
    setup = Setup(stays, scale="demo", rates=(1e-3, 3e-4), pretrained=("freeze_encoders=true",))
    rows = lines("table4", setup)
    for key in ("share-0", WHOLE):
        tuned = jobs(rows[key])
        assert ["optim.lr=0.001" in settings(each) for each in tuned] == [True, False]
        assert ["optim.lr=0.0003" in settings(each) for each in tuned] == [False, True]
        frozen = "freeze_encoders=true" in settings(tuned[0])
        assert frozen == (key == WHOLE)


def test_one_command_under_two_names_is_one_run(stays: Path) -> None:
    setup = Setup(stays, scale="demo")
    (zero,) = jobs(lines("table4", setup)["share-0"])
    (scratch,) = jobs(lines("table1", setup)["scratch"])
    assert zero.folder == scratch.folder


# ---- jobs ---------------------------------------------------------------------------------------


def test_a_folder_is_called_by_all_that_made_it(tmp_path: Path, stays: Path) -> None:
    first = Job("run", ("training.finetune", "--data", stays, "--set", "seed=1"))
    other = Job("run", ("training.finetune", "--data", stays, "--set", "seed=2"))
    assert first.folder == Job("run", first.command).folder != other.folder
    after = [Job("next", ("training.finetune", "--init", each)) for each in (first, other)]
    assert after[0].folder != after[1].folder
    assert after[0].needs == [first]
    moved = tmp_path / "elsewhere"
    moved.symlink_to(stays)
    assert Job("run", ("training.finetune", "--data", moved, "--set", "seed=1")) != first
    assert folder_name("a", [moved]) == folder_name("a", [stays])  # the content counts


def test_what_was_cut_off_is_not_taken_for_finished_but_done(
    stays: Path, stays_pretrained: Path, tmp_path: Path
) -> None:
    quick = ("--set", "optim.epochs=1", "--set", "freeze_encoders=false")
    job = Job("cut-off", ("training.finetune", "--recipe", "demo", "--data", stays, *quick))
    (tmp_path / job.folder / "model").mkdir(parents=True)
    (tmp_path / job.folder / "config.json").write_text("{}")
    assert not finished(tmp_path / job.folder)
    assert not job.done(tmp_path)
    said: list[str] = []
    assert Workshop(tmp_path, ["cpu"], said.append).do([job]) == {}
    assert job.done(tmp_path)
    assert said == [f"1/1 {job.folder}"]
    assert Run.open(tmp_path / job.folder).config.recipe["optim"]["epochs"] == 1
    assert finished(stays_pretrained)


def test_a_run_that_was_judged_before_outputs_were_stored_is_judged_again(
    stays: Path, stays_finetuned: Path, tmp_path: Path
) -> None:
    job = Job("before", ("training.finetune",), judged_on=stays)
    shutil.copytree(stays_finetuned, tmp_path / job.folder)
    for name in ("report-test.json", "outputs-test.npz"):
        (tmp_path / job.folder / name).unlink(missing_ok=True)
    (tmp_path / job.folder / REPORT).write_text("{}")
    assert not job.done(tmp_path)
    assert Workshop(tmp_path, ["cpu"], str).do([job]) == {}
    positions, _ = read_outputs(tmp_path / job.folder / outputs_file("test"))
    assert len(positions) == len(Dataset.open(stays).rows("test", labelled=True))


def test_means_of_what_is_not_determined_are_not_told() -> None:
    assert said_of([0.5, float("nan")]) == {"mean": None, "std": None, "interval": None}
    assert said_of([0.5]) == {"mean": 0.5, "std": None, "interval": None}
    found = said_of([0.1, 0.2, 0.3])
    assert found["mean"] == pytest.approx(0.2)
    assert found["interval"] == pytest.approx(
        [0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5]
    )


def test_a_difference_that_no_seed_or_no_case_changes_has_no_such_interval() -> None:
    runs = [{"cases": 8, "steps": None}] * 2
    for differences, over_cases, said in (
        ([0.2, 0.2], None, "+0.200, every seed the same"),  # of old, without those over cases
        ([0.2, 0.1], [0.1, 0.25], "+0.150 [-0.485, +0.785] (+0.100, +0.250)"),
        ([0.2, 0.1], [None, None], "+0.150 [-0.485, +0.785]"),
        ([0.0, 0.0], [0.0, 0.0], "+0.000, every seed the same, every case the same"),
    ):
        difference = said_of(differences) | {"test_interval": over_cases}
        row = {"name": "a", "runs": runs, **said_of([0.7, 0.7]), "difference": difference}
        _, ((*_, difference, _, _),) = cells({"metric": "auroc", "published": None, "rows": [row]})
        assert difference == said
