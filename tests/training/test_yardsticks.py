"""What a practitioner would try first: the same cases as ours, plain features, the same report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanistr.decision import Decision
from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from lanistr.tasks import LabelSpec
from training.baselines import Cases
from training.cases import draw_labelled
from training.columns import Columns
from training.data.store import Dataset
from training.linear import row_scale
from training.metrics import measure
from training.outputs import outputs_file, read_outputs
from training.yardsticks import count_terms, linear_features, main, tree_features

Command = Callable[..., str]
BOTH = pytest.mark.parametrize("method", ["trees", "logistic"])
KINDS = LabelSpec(kind="multiclass", name="kind", classes=("bad", "so-so", "good"))


def report_of(folder: Path) -> Any:
    return json.loads((folder / "report-test.json").read_text(encoding="utf-8"))


# ---- the cases ----------------------------------------------------------------------------------


def test_a_validation_figure_keeps_its_sign(ranks: Path, stars: Path) -> None:
    ordered, numbers = Dataset.open(ranks), Dataset.open(stars)

    def validated(dataset: Dataset, outputs: Callable[[Any], Any]) -> tuple[float, float]:
        train, held_out = (dataset.rows(each, labelled=True) for each in ("train", "validation"))
        cases = Cases(dataset, train, held_out, held_out, seed=0)
        return cases.validated(outputs(dataset.labels[held_out]))

    figure, score = validated(numbers, lambda labels: labels[:, None] + 1)
    assert figure == -score == 1  # an error, of which less is better
    figure, score = validated(ordered, lambda labels: np.eye(5)[labels.astype(int)] * 9)
    assert figure == score == 1
    # Cut elsewhere, what orders the cases the wrong way round is no worse than saying nothing.
    figure, score = validated(ordered, lambda labels: np.eye(5)[4 - labels.astype(int)] * 9)
    assert figure == score == 0


def test_labelled_cases_are_drawn_from_those_of_training_and_in_their_order(
    stays_dataset: Dataset,
) -> None:
    labelled = stays_dataset.rows("train", labelled=True)
    drawn = draw_labelled(stays_dataset, 20, seed=3)
    assert len(drawn) == 20
    assert set(drawn) < set(labelled)
    assert drawn.tolist() == sorted(drawn)
    assert drawn.tolist() != draw_labelled(stays_dataset, 20, seed=4).tolist()
    assert draw_labelled(stays_dataset, None, seed=3).tolist() == labelled.tolist()
    assert draw_labelled(stays_dataset, 10**6, seed=3).tolist() == labelled.tolist()


def test_data_that_bring_less_have_the_same_cases_drawn(stays_dataset: Dataset) -> None:
    words = stays_dataset.only([Modality.TEXT])
    whole = draw_labelled(stays_dataset, 20, seed=3)
    assert draw_labelled(words, 20, seed=3).tolist() == whole.tolist()


# ---- the report ---------------------------------------------------------------------------------


@BOTH
def test_all_kinds_of_parts_are_learned_from_and_reported_on_as_models_are(
    method: str, stays: Path, stays_dataset: Dataset, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "yardstick"
    said = command(main, "--data", stays, "--out", out, "--method", method, "--labels", 60)
    found = report_of(out)
    labelled = stays_dataset.card.labelled["test"]
    assert found["all"]["cases"] == labelled
    assert sum(each["cases"] for each in found["by_presence"].values()) == labelled
    assert set(found["by_subgroup"]) == {"gender"}
    assert set(found["all"]["metrics"]) == set(found["all"]["intervals"])
    assert found["about"]["method"] == method
    assert found["about"]["labels"] == 60
    assert found["about"]["temperature"] > 0
    best = max(each["validation"] for each in found["about"]["tried"])
    assert found["about"]["validation"] == best
    assert f"validation auroc {best:.4f}" in said
    assert f"{found['all']['metrics']['auroc']:.4f}" in said
    positions, outputs = read_outputs(out / outputs_file("test"))
    assert positions.tolist() == stays_dataset.rows("test", labelled=True).tolist()
    again = measure(outputs, stays_dataset.labels[positions], stays_dataset.task.label)
    assert found["all"]["metrics"] == pytest.approx(again, abs=1e-6)


@BOTH
def test_what_rows_tell_is_learned(
    method: str, verdicts: Path, tmp_path: Path, command: Command
) -> None:
    command(main, "--data", verdicts, "--out", tmp_path / "out", "--method", method)
    assert report_of(tmp_path / "out")["about"]["validation"] > 0.6


@BOTH
def test_a_number_is_predicted_better_than_by_its_mean(
    method: str, stars: Path, stars_dataset: Dataset, tmp_path: Path, command: Command
) -> None:
    command(main, "--data", stars, "--out", tmp_path / "out", "--method", method)
    found = report_of(tmp_path / "out")
    assert set(found["all"]["metrics"]) == {"mae", "rmse"}
    train, validation = (
        stars_dataset.labels[stars_dataset.rows(s)] for s in ("train", "validation")
    )
    assert found["about"]["validation"] < np.abs(validation - train.mean()).mean()


@BOTH
def test_classes_in_order_are_learned_where_some_have_no_labelled_case(
    method: str, ranks: Path, tmp_path: Path, command: Command
) -> None:
    command(main, "--data", ranks, "--out", tmp_path / "out", "--method", method, "--labels", 5)
    found = report_of(tmp_path / "out")
    assert np.isfinite(found["all"]["metrics"]["brier"])
    positions, outputs = read_outputs(tmp_path / "out" / outputs_file("test"))
    dataset, decision = Dataset.open(ranks), Decision.model_validate(found["decision"])
    again = measure(outputs, dataset.labels[positions], dataset.task.label, decision)
    assert found["all"]["metrics"] == pytest.approx(again, abs=1e-5)
    assert decision.fits(dataset.task.label)


def test_classes_without_order_are_learned_and_the_better_method_is_kept(
    make_table: Callable[..., Path], tmp_path: Path, command: Command
) -> None:
    data = make_table(
        "kinds", KINDS, "macro_f1", lambda stars: KINDS.classes[(int(stars) - 1) // 2]
    )
    command(main, "--data", data, "--out", tmp_path / "out")
    about = report_of(tmp_path / "out")["about"]
    assert {each["method"] for each in about["tried"]} == {"trees", "logistic"}
    best = max(about["tried"], key=lambda each: each["validation"])
    assert (about["method"], about["settings"]) == (best["method"], best["settings"])


def test_one_modality_alone_can_be_read(reviews: Path, tmp_path: Path, command: Command) -> None:
    for modality in ("text", "image", "tabular"):
        flags = ("--modalities", modality, "--method", "logistic", "--labels", 40)
        command(main, "--data", reviews, "--out", tmp_path / modality, *flags)
        assert report_of(tmp_path / modality)["about"]["modalities"] == [modality]
    # Cases that lack it count all the same, and all together.
    assert "" in report_of(tmp_path / "image")["by_presence"]


def test_the_same_command_gives_the_same_figures(
    verdicts: Path, tmp_path: Path, command: Command
) -> None:
    for name in ("one", "two"):
        command(main, "--data", verdicts, "--out", tmp_path / name, "--labels", 30, "--seed", 2)
    assert report_of(tmp_path / "one")["all"] == report_of(tmp_path / "two")["all"]


# ---- mistakes -----------------------------------------------------------------------------------


def test_what_cannot_be_done_is_said_and_leaves_nothing(
    verdicts: Path, alike: Path, stays: Path, tmp_path: Path, command: Command
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="the folder exists"):
        command(main, "--data", verdicts, "--out", taken)
    assert [each.name for each in taken.iterdir()] == ["mine.txt"]
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="--labels: too few"):
        command(main, "--data", verdicts, "--out", out, "--labels", 0)
    with pytest.raises(DataError, match="of one class"):
        command(main, "--data", verdicts, "--out", out, "--labels", 1)
    for labels in ((), ("--labels", 10**6)):
        with pytest.raises(
            DataError,
            match=r"no training case is left to predict.*--labels",
        ):
            command(main, "--data", verdicts, "--out", out, "--answers", *labels)
    with pytest.raises(DataError, match="does not determine"):
        command(main, "--data", alike, "--out", out)
    with pytest.raises(ConfigError, match=r"--modalities: .*seen 'text'; accepted: of tabular"):
        command(main, "--data", verdicts, "--out", out, "--modalities", "tabular", "text")
    with pytest.raises(ConfigError, match="--seed: not a seed; seen -1"):
        command(main, "--data", verdicts, "--out", out, "--seed", -1)
    with pytest.raises(SystemExit):
        command(main, "--data", stays, "--out", out, "--modalities", "txt")
    assert not out.exists()


# ---- features -----------------------------------------------------------------------------------


def words(*values: str | None) -> np.ndarray[Any, Any]:
    return np.array([*values, None], dtype=object)[:-1]


NUMBERS = np.array([[1.0, np.nan, np.nan], [3.0, 7.0, np.nan], [np.nan] * 3, [5.0, 9.0, 1.0]])
ROWS = Columns(
    present=np.array([True, True, False, True]),
    names=["a", "b", "c"],
    numbers=NUMBERS,
    categories={"ward": words("east", "west", None, "north")},
)
NOTES = Columns(
    present=np.array([True, False, True, False]),
    numbers=np.empty((4, 0)),
    texts=["good good soup", "", "bad soup", ""],
)


def test_trees_see_what_is_missing_as_missing() -> None:
    features, categorical = tree_features({Modality.TABULAR: ROWS}, learned=3, seed=0)
    # The column that no training case has is gone.
    assert features[:, :2].tolist()[0][0] == 1
    assert np.isnan(features[2]).all()
    assert categorical.tolist() == [False, False, True]
    assert features[:2, 2].tolist() == [0, 1]
    assert np.isnan(features[3, 2])  # a ward that no training case was in


def test_trees_see_notes_as_few_numbers_and_missing_where_there_is_none() -> None:
    features, _ = tree_features({Modality.TEXT: NOTES}, learned=3, seed=0)
    assert np.isnan(features[[1, 3]]).all()
    assert np.isfinite(features[[0, 2]]).all()
    assert features.shape[1] == 2  # two notes span no more


def test_trees_see_the_only_word_that_notes_have() -> None:
    notes = replace(NOTES, texts=["normal", "", "normal", ""])
    features, _ = tree_features({Modality.TEXT: notes}, learned=3, seed=0)
    assert features[[0, 2], 0].tolist() == [1, 1]
    assert np.isnan(features[[1, 3]]).all()


def test_a_regression_sees_zeros_and_that_they_were_missing() -> None:
    found = linear_features({Modality.TABULAR: ROWS}, learned=3).toarray()
    scale = row_scale(found[:3])
    assert scale == pytest.approx(1)
    assert found[2, :3].tolist() == [0, 0, 0]
    assert (found[:, 1:3] == 0).all()  # one value, and none: both say nothing
    assert found[0, 0] == -found[1, 0] < 0
    told = found[:, 3:5] > 0  # what is missing of the whole row, and of `b`; `c` is always
    assert sorted(map(tuple, told.T.tolist())) == [
        (False, False, True, False),
        (True, False, True, False),
    ]


def test_words_that_no_training_note_has_are_no_features() -> None:
    found = linear_features({Modality.TEXT: NOTES}, learned=1)
    # good, soup, good good, good soup; whether there is a note says nothing where all have one.
    assert found.shape == (4, 4)


def test_signs_that_are_words_are_counted_one_by_one_and_in_pairs() -> None:
    found = count_terms(
        replace(NOTES, texts=["\u53d1 \u70ed \u3067\u3057\u305f a", "", "\u53d1", ""]), learned=3
    )
    assert found.shape == (4, 5)  # two signs, a word of three, two pairs: no single letter
    assert found[[0, 2]].getnnz(axis=1).tolist() == [5, 1]


def test_whoever_learns_from_complete_cases_alone_has_those_of_the_same_draw(stays: Path) -> None:
    dataset = Dataset.open(stays)
    drawn, whole = (draw_labelled(dataset, 40, 0, complete=each) for each in (False, True))
    assert len(drawn) == 40
    assert 0 < len(whole) < 40
    assert set(whole) < set(drawn)
    assert {dataset.patterns([int(each)])[0].count("+") for each in whole} == {3}


def test_trees_and_regression_say_the_same_of_all_where_nothing_is_brought_to_learn_from() -> None:
    parts = {Modality.TEXT: Columns(np.zeros(4, bool), ("a",), np.full((4, 1), np.nan))}
    features, categorical = tree_features(parts, 2, seed=0)
    assert features.tolist() == [[0]] * 4
    assert categorical.tolist() == [False]
    mute = Columns(np.zeros(2, dtype=bool), numbers=np.empty((2, 0)), texts=["", ""])
    assert linear_features({Modality.TEXT: mute}, learned=2).tolist() == [[0], [0]]
