"""Learning from what fine-tuned runs say of cases without a label."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lanistr.calibration import softmax
from lanistr.errors import CheckpointError, DataError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.baselines import ANSWERS
from training.cases import brings_all, draw_labelled
from training.data.store import DATASET, Dataset, file_hash
from training.finetune import main
from training.predict import predict
from training.run import Run
from training.teachers import FinetunedRun, cases_to_teach, open_teacher, teach
from training.yardsticks import main as yardsticks

CPU = torch.device("cpu")
ONE_EACH = ("optim.epochs=1", "optim.batch_size=1")
"""A step a case."""


@pytest.fixture(scope="module")
def stays_teacher(stays: Path, make_finetuned: Callable[..., Path]) -> Path:
    """A run that learned from 20 labels of many."""
    return make_finetuned(stays, "stays-teacher", None, "optim.epochs=1", "labels=20")


def test_a_label_counts_where_there_is_one_and_elsewhere_the_mean_of_the_teachers(
    stays: Path, stays_pretrained: Path, stays_teacher: Path, make_finetuned: Callable[..., Path]
) -> None:
    other = make_finetuned(stays, "other-teacher", stays_pretrained, "optim.epochs=1", "labels=15")
    runs = [Run.open(stays_teacher), Run.open(other)]
    dataset = Dataset.open(stays)
    positions, labelled = dataset.rows("train"), draw_labelled(dataset, 20, 0)
    teachers = list(map(FinetunedRun, runs))
    others = cases_to_teach(teachers, dataset, positions, labelled)
    assert others.tolist() == np.setdiff1d(positions, labelled).tolist()
    targets = teach(teachers, dataset, others, labelled, device=CPU, workers=0)
    assert targets.shape == (len(dataset), 2)
    assert np.array_equal(targets[labelled].argmax(1), dataset.labels[labelled])
    assert set(targets[labelled].ravel()) == {0, 1}
    assert np.isnan(targets[dataset.rows("test")]).all()
    said = [
        softmax(
            predict(from_pretrained(run.model_folder, Lanistr), dataset, others, CPU)
            / run.calibration().temperature
        )
        for run in runs
    ]
    np.testing.assert_allclose(targets[others], np.mean(said, axis=0), atol=1e-6)


@pytest.fixture(scope="module")
def words_teacher(stays: Path, make_finetuned: Callable[..., Path]) -> Path:
    """A run that reads words alone, which not all stays bring."""
    settings = ("optim.epochs=1", "labels=20", "modalities=[text]")
    return make_finetuned(stays, "words-teacher", None, *settings)


def test_who_reads_less_than_the_student_says_what_it_sees_in_that(
    stays: Path, words_teacher: Path
) -> None:
    dataset, teacher = Dataset.open(stays), open_teacher(words_teacher)
    labelled = draw_labelled(dataset, 20, 0)
    others = cases_to_teach([teacher], dataset, dataset.rows("train"), labelled)
    targets = teach([teacher], dataset, others, labelled, device=CPU, workers=0)
    run = Run.open(words_teacher)
    model = from_pretrained(run.model_folder, Lanistr)
    said = predict(model, dataset.only([Modality.TEXT]), others, CPU)
    expected = softmax(said / run.calibration().temperature)
    np.testing.assert_allclose(targets[others], expected, atol=1e-6)


def test_who_sees_nothing_of_a_case_does_not_count_for_it(
    stays: Path, words_teacher: Path, stays_teacher: Path
) -> None:
    dataset, labelled = Dataset.open(stays), draw_labelled(Dataset.open(stays), 20, 0)
    both = [open_teacher(words_teacher), open_teacher(stays_teacher)]
    others = cases_to_teach(both, dataset, dataset.rows("train"), labelled)
    mixed, words, all_seen = (
        teach(each, dataset, others, labelled, device=CPU, workers=0)[others]
        for each in (both, both[:1], both[1:])
    )
    mute = np.array([not dataset.brings(each, Modality.TEXT) for each in others])
    assert 0 < mute.sum() < len(others)
    np.testing.assert_allclose(mixed[mute], all_seen[mute], atol=1e-6)
    np.testing.assert_allclose(mixed[~mute], (words + all_seen)[~mute] / 2, atol=1e-6)


def test_what_no_teacher_sees_anything_of_is_left_out(
    stays: Path,
    words_teacher: Path,
    tmp_path: Path,
    command: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command(
        *(main, "--recipe", "demo", "--data", stays, "--out", tmp_path / "student"),
        *("--teachers", words_teacher),
        overrides=("labels=20", "freeze_encoders=false", *ONE_EACH),
    )
    dataset = Dataset.open(stays)
    others = np.setdiff1d(dataset.rows("train"), draw_labelled(dataset, 20, 0))
    told = [each for each in others if dataset.brings(each, Modality.TEXT)]
    steps = (tmp_path / "student" / "log.jsonl").read_text().count('"gradient_norm"')
    assert steps == 20 + len(told) < 20 + len(others)
    assert f"{len(others) - len(told)} cases are left out because no teacher" in caplog.text


@pytest.fixture(scope="module")
def stars_teacher(stars: Path, make_finetuned: Callable[..., Path]) -> Path:
    """A run that learned from 7 labels of many."""
    return make_finetuned(stars, "stars-teacher", None, "optim.epochs=2", "labels=7")


def test_numbers_are_learned_in_their_own_units(stars: Path, stars_teacher: Path) -> None:
    dataset = Dataset.open(stars)
    positions, labelled = dataset.rows("train"), draw_labelled(dataset, 7, 0)
    run = Run.open(stars_teacher)
    others = np.setdiff1d(positions, labelled)
    targets = teach([FinetunedRun(run)], dataset, others, labelled, device=CPU, workers=0)
    assert targets.shape == (len(dataset),)
    assert np.array_equal(targets[labelled], dataset.labels[labelled])
    said = predict(from_pretrained(run.model_folder, Lanistr), dataset, others, CPU)[:, 0]
    np.testing.assert_allclose(targets[others], said, rtol=1e-5)


def test_a_student_learns_of_every_training_case_and_says_who_taught_it(
    stars: Path, stars_teacher: Path, shop: Path, command: Callable[..., str]
) -> None:
    said = command(
        *(main, "--recipe", "demo", "--data", stars, "--out", shop / "student"),
        *("--teachers", stars_teacher),
        overrides=("optim.epochs=1", "optim.batch_size=4", "labels=10"),
    )
    assert "10 labelled cases" in said
    student = Run.open(shop / "student")
    lines = (student.folder / "log.jsonl").read_text().splitlines()
    steps = [each for each in map(json.loads, lines) if "loss" in each]
    assert len(steps) == -(-len(Dataset.open(stars).rows("train")) // 4)
    assert list(student.config.teachers) == [str(stars_teacher)]


def test_who_learned_something_else_does_not_teach(
    stars: Path, ranks_finetuned: Path, shop: Path, command: Callable[..., str]
) -> None:
    with pytest.raises(DataError, match="set's label differs from the one"):
        command(
            *(main, "--recipe", "demo", "--data", stars, "--out", shop / "untaught"),
            *("--teachers", ranks_finetuned),
        )


def test_a_run_that_learned_labels_which_the_student_does_not_would_leak_them(
    stays: Path, stays_finetuned: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    with pytest.raises(DataError, match=r"labels that the student must not.*seen '\d+ of \d+'"):
        command(
            *(main, "--recipe", "demo", "--data", stays, "--out", tmp_path / "untaught"),
            *("--teachers", stays_finetuned),
            overrides=("labels=20", "freeze_encoders=false"),
        )
    assert not (tmp_path / "untaught").exists()  # a recipe put right may take the same folder


@pytest.mark.parametrize("option", ["--init", "--encoders", "--teachers"])
def test_labels_that_a_run_behind_the_teacher_learned_would_leak_too(
    option: str, stays: Path, stays_finetuned: Path, stays_teacher: Path, tmp_path: Path,
    command: Callable[..., str],
) -> None:  # fmt: skip
    """The run behind it learned all labels, the teacher those that the student learns."""
    first, teacher = tmp_path / "first", tmp_path / "teacher"
    shutil.copytree(stays_finetuned, first)
    shutil.copytree(stays_teacher, teacher)
    config = json.loads((teacher / "config.json").read_text())
    behind = {"init": str(first)} if option == "--init" else {option[2:]: {str(first): "0" * 64}}
    (teacher / "config.json").write_text(json.dumps(config | behind))
    student = (
        *(main, "--recipe", "demo", "--data", stays, "--out", tmp_path / "student"),
        *("--teachers", teacher),
    )
    settings = ("labels=20", "freeze_encoders=false", "optim.epochs=1")
    with pytest.raises(DataError, match=r"labels that the student must not use"):
        command(*student, overrides=settings)
    shutil.rmtree(first)
    with pytest.raises(DataError, match=r"a run that the teacher builds on cannot be read,"):
        command(*student, overrides=settings)


@pytest.mark.parametrize(("labels", "seed"), [(7, 1), (6, 0)])
def test_a_run_of_another_seed_or_of_more_labels_does_not_teach(
    labels: int, seed: int, stars: Path, stars_teacher: Path
) -> None:
    dataset = Dataset.open(stars)
    taught = [open_teacher(stars_teacher)], dataset, dataset.rows("train")
    with pytest.raises(DataError, match="of 7"):
        cases_to_teach(*taught, draw_labelled(dataset, labels, seed))


def test_a_run_that_was_taught_counts_its_own_labels_alone(
    stars: Path, stars_teacher: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    command(
        *(main, "--recipe", "demo", "--data", stars, "--out", tmp_path / "student"),
        *("--teachers", stars_teacher),
        overrides=("optim.epochs=1", "labels=7"),
    )
    dataset = Dataset.open(stars)
    taught = [open_teacher(tmp_path / "student")], dataset, dataset.rows("train")
    labelled = draw_labelled(dataset, 7, 0)
    cases_to_teach(*taught, labelled)
    with pytest.raises(DataError, match="1 of 7"):
        cases_to_teach(*taught, labelled[1:])


def test_a_run_of_other_data_teaches_whatever_it_learned_from(
    stars: Path, stars_finetuned: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stars, copy)
    with (copy / DATASET).open("a", encoding="utf-8") as file:
        file.write("\n")  # the same cases, under another hash
    dataset = Dataset.open(copy)
    few = dataset.rows("train", labelled=True)[:3]
    cases_to_teach([open_teacher(stars_finetuned)], dataset, dataset.rows("train"), few)


def test_there_is_nothing_to_teach_where_the_label_of_each_case_is_learned_from(
    stars: Path, stars_finetuned: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    with pytest.raises(DataError, match=r"no case is left to be taught:.*fewer `labels`"):
        command(
            *(main, "--recipe", "demo", "--data", stars, "--out", tmp_path / "untaught"),
            *("--teachers", stars_finetuned),
        )


# ---- other methods ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers(
    stays: Path, tmp_path_factory: pytest.TempPathFactory, command: Callable[..., str]
) -> Path:
    """What regression on 20 labels says of the other training cases."""
    out = tmp_path_factory.mktemp("yardstick") / "answers"
    command(
        *(yardsticks, "--data", stays, "--out", out, "--method", "logistic"),
        *("--labels", 20, "--answers"),
    )
    return out


def test_another_method_teaches_what_it_said(
    answers: Path, stays: Path, stays_teacher: Path
) -> None:
    dataset = Dataset.open(stays)
    labelled = draw_labelled(dataset, 20, 0)
    teacher = open_teacher(answers)
    others = cases_to_teach([teacher], dataset, dataset.rows("train"), labelled)
    targets = teach([teacher], dataset, others, labelled, device=CPU, workers=0)
    stored = np.load(answers / ANSWERS)
    assert stored["positions"].tolist() == others.tolist()
    np.testing.assert_allclose(targets[others], softmax(stored["outputs"]), atol=1e-6)
    assert np.array_equal(targets[labelled].argmax(1), dataset.labels[labelled])
    both = [teacher, open_teacher(stays_teacher)]
    mixed = teach(both, dataset, others, labelled, device=CPU, workers=0)
    alone = teach(both[1:], dataset, others, labelled, device=CPU, workers=0)
    np.testing.assert_allclose(mixed, (targets + alone) / 2, atol=1e-6)


def test_a_student_tells_the_answers_that_it_learned(
    answers: Path, stays: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    command(
        *(main, "--recipe", "demo", "--data", stays, "--out", tmp_path / "student"),
        *("--teachers", answers),
        overrides=("optim.epochs=1", "labels=20", "freeze_encoders=false"),
    )
    found = Run.open(tmp_path / "student").config.teachers
    assert found == {str(answers): file_hash(answers / ANSWERS)}


@pytest.mark.parametrize(
    ("data", "seed", "match"),
    [
        ("stays", 1, r"the teacher has no predictions for training cases.*20 labels and seed 0"),
        ("other_stays", 0, "the predictions are for other data"),
    ],
)
def test_answers_to_something_else_do_not_teach(
    data: str,
    seed: int,
    match: str,
    answers: Path,
    request: pytest.FixtureRequest,
) -> None:
    dataset = Dataset.open(request.getfixturevalue(data))
    labelled = draw_labelled(dataset, 20, seed)
    with pytest.raises(DataError, match=match):
        cases_to_teach([open_teacher(answers)], dataset, dataset.rows("train"), labelled)


def test_a_yardstick_without_answers_is_told_how_it_has_some(
    stays: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    flags = ("--method", "logistic", "--labels", 20)
    command(yardsticks, "--data", stays, "--out", tmp_path / "mute", *flags)
    with pytest.raises(CheckpointError, match=r"did not store predictions for.*--answers"):
        open_teacher(tmp_path / "mute")


def test_who_learns_from_complete_cases_is_taught_of_these_alone(
    answers: Path, stays: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    said = command(
        main, "--recipe", "demo", "--data", stays, "--out", tmp_path / "run",
        "--teachers", answers, overrides=("complete=true", "labels=20", *ONE_EACH),
    )  # fmt: skip
    dataset = Dataset.open(stays)
    labelled = brings_all(dataset, draw_labelled(dataset, 20, 0))
    assert f"{labelled.sum()} labelled cases" in said
    steps = (tmp_path / "run" / "log.jsonl").read_text().count('"gradient_norm"')
    assert steps == brings_all(dataset, dataset.rows("train")).sum()
