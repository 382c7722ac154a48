"""What each of the paper's tables compares, and by which runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lanistr.modalities import Modality
from tests.training.experiments.rows import jobs, lines, pretraining, recipe, settings
from training.data.store import Dataset
from training.experiments.jobs import Job
from training.experiments.setup import LeftOut, Row, Scale, Setup
from training.experiments.tables import SHARES, TABLES, WHOLE
from training.recipe import FinetuneRecipe, PretrainRecipe, load_recipe


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
        hide_pictures(patch)
        assert len(jobs(lines("table1", Setup(stays, scale="demo"))["single"])) == 3
    assert pretraining(rows["albef"]).command[0] == "training.pretrain"


def hide_pictures(patch: pytest.MonkeyPatch) -> None:
    counts = Dataset.row_counts
    patch.setattr(
        Dataset, "row_counts", lambda self, each: counts(self, each) * (each != Modality.IMAGE)
    )


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


def test_in_the_papers_tables_nothing_goes_past_fusion(stays: Path) -> None:
    """What `small` adds to the paper's model is none of what is compared."""
    assert load_recipe("small", "finetune", FinetuneRecipe, []).model["fusion"]["shortcut"] == {}
    row = lines("table1", Setup(stays, scale="small"))
    whole, scratch = jobs(row[WHOLE])[0], jobs(row["scratch"])[0]
    before = PretrainRecipe.model_validate_json(pretraining(row[WHOLE]).recipe)
    for each in (before, recipe(scratch)):
        assert each.model["fusion"]["shortcut"] is None
    assert not any("shortcut" in each for each in settings(whole))  # as it was pretrained


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


def test_medfuses_first_stage_takes_the_rate_that_is_asked_for(stays: Path) -> None:
    setup = Setup(stays, scale="paper")
    (first,) = jobs(lines("table1", setup)["medfuse"])[0].needs
    assert recipe(first).optim.lr == 5.4e-4
    job = jobs(lines("table1", replace(setup, finetune=("optim.lr=1e-3",)))["medfuse"])[0]
    assert {recipe(each).optim.lr for each in (job, *job.needs)} == {1e-3}


def test_albefs_queue_is_no_longer_than_there_are_pairs(stays: Path) -> None:
    words = settings(pretraining(lines("table1", Setup(stays, scale="demo"))["albef"]))
    dataset = Dataset.open(stays)
    brought = dataset.patterns(dataset.rows("train")).tolist()
    pairs = sum({"text", "image"} <= set(each.split("+")) for each in brought)
    assert 0 < pairs < len(brought)
    assert f"model.fusion.queue={pairs}" in words


def test_systems_that_read_words_for_rows_are_trained_on_such_data_in_both_stages(
    stays: Path, other_stays: Path
) -> None:
    keys = {"albef-tab2txt", "lanistr-tab2txt"}
    for setup, learned, before in (
        (Setup(stays, worded=other_stays), other_stays, other_stays),
        (
            Setup(stays, worded=other_stays, unlabelled=other_stays, worded_unlabelled=stays),
            other_stays,
            stays,
        ),
    ):
        rows = lines("table1", replace(setup, scale="demo"))
        for key in keys:
            (job,) = jobs(rows[key])
            assert job.judged_on == learned
            assert learned in job.command
            assert before in pretraining(rows[key]).command
        others = {path for key in ("scratch", WHOLE) for path in jobs(rows[key])[0].command}
        assert other_stays not in others


@pytest.mark.parametrize(
    ("lacking", "said"),
    [("worded", "--tab2txt"), ("worded_unlabelled", "--tab2txt-pretraining-data")],
)
def test_words_in_the_place_of_rows_are_wanted_of_all_that_is_learned_from(
    lacking: str, said: str, stays: Path, other_stays: Path
) -> None:
    whole = Setup(
        stays, worded=stays, unlabelled=other_stays, worded_unlabelled=other_stays, scale="demo"
    )
    rows = lines("table1", replace(whole, **{lacking: None}))
    for key in ("albef-tab2txt", "lanistr-tab2txt"):
        row = rows[key]
        assert isinstance(row, LeftOut)
        assert row.why.endswith(said)


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
    assert "no labelled case in the draw has all of" in rows["late-fusion"].why
    monkeypatch.setattr(
        Dataset, "patterns", lambda self, positions: np.full(len(positions), "text")
    )
    rows = lines("table1", Setup(stays, scale="demo"))
    assert isinstance(rows["albef"], LeftOut)
    assert rows["albef"].why == "no case has all of text, image"
    assert isinstance(lines("table3", Setup(stays, scale="demo"))["parallel"], LeftOut)


def test_a_system_whose_parts_the_data_lack_is_named_and_says_why(
    reviews: Path, stars: Path
) -> None:
    rows = lines("table2", Setup(reviews, scale="demo"))
    assert isinstance(rows["medfuse"], LeftOut)
    assert rows["medfuse"].why == "the data do not have timeseries"
    assert isinstance(rows["albef"], Row)
    alone = lines("table1", Setup(stars, scale="demo"))["albef"]
    assert isinstance(alone, LeftOut)
    assert alone.why == "the data do not have text, image"


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


def test_what_no_case_brings_is_not_left_out_again(
    stays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lines("table3", Setup(stays, scale="demo"))
    hide_pictures(monkeypatch)
    rows = lines("table3", Setup(stays, scale="demo"))
    left = {key: row.why for key, row in rows.items() if isinstance(row, LeftOut)}
    assert left == {
        "no-image": "no case for pretraining and no labelled training case has image",
        "no-mim": "no case for pretraining has image",
    }
    assert list(rows) == list(whole)


def test_without_series_nothing_is_summed_up(stays: Path) -> None:
    rows = lines("table3", Setup(stays, scale="demo", pretrain=("model.summary.width=8",)))
    unsummed = {
        key
        for key, row in rows.items()
        if PretrainRecipe.model_validate_json(pretraining(row).recipe).model["summary"] is None
    }
    assert unsummed == {"no-timeseries", "no-summary"}


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
