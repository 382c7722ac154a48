"""The mean of the best validations: it takes what does it good, and leaves the rest."""

from pathlib import Path

import pytest
import torch

from lanistr.model.checkpoint import from_pretrained, save_pretrained
from lanistr.model.config import LanistrConfig
from lanistr.model.heads import HeadConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.tabular import TabularConfig
from training.run import Run
from training.soup import Candidates


@pytest.fixture
def model() -> Lanistr:
    table = TabularConfig(numbers=2, width=8, steps=1)
    fusion = {"kind": "late-fusion"}
    head = HeadConfig(kind="classes", outputs=2)
    return Lanistr(LanistrConfig.model_validate({"tabular": table, "fusion": fusion, "head": head}))


def bias(model: Lanistr) -> torch.Tensor:
    """One number of a model, in which its whole goodness lies here."""
    return model.head.mlp[-1].bias


def test_only_so_many_of_the_best_are_kept_and_the_earlier_of_equals(
    stars_finetuned: Path, model: Lanistr, tmp_path: Path
) -> None:
    opened = Run.open(stars_finetuned)
    candidates = Candidates(Run(tmp_path, opened.config, opened.task), 2, [])
    admitted = []
    for step, score in enumerate([0.5, 0.7, 0.5, 0.6, 0.7, 0.1]):
        admitted.append(candidates.admit(score, step))
        if admitted[-1]:
            save_pretrained(model, candidates.folder(step))
    assert admitted == [True, True, False, True, True, False]
    assert candidates.known == [[0.7, 1], [0.7, 4]]
    assert sorted(each.name for each in (tmp_path / "candidates").iterdir()) == [
        "step-00000001",
        "step-00000004",
    ]


def test_of_several_processes_one_alone_removes_weights(
    stars_finetuned: Path, model: Lanistr, tmp_path: Path
) -> None:
    opened = Run.open(stars_finetuned)
    run = Run(tmp_path, opened.config, opened.task)
    first, other = Candidates(run, 1, []), Candidates(run, 1, [], removes=False)
    save_pretrained(model, first.folder(0))
    for process, score, stands in (
        (first, 0, True),
        (other, 0, True),
        (other, 1, True),
        (first, 1, False),
    ):
        assert process.admit(score, score)
        assert first.folder(0).is_dir() == stands


def test_weights_that_a_stored_state_speaks_of_stay_for_as_long_as_it_does(
    stars_finetuned: Path, model: Lanistr, tmp_path: Path
) -> None:
    opened = Run.open(stars_finetuned)
    candidates = Candidates(Run(tmp_path, opened.config, opened.task), 1, [])

    def standing() -> list[int]:
        return sorted(int(each.name[5:]) for each in (tmp_path / "candidates").iterdir())

    there = []
    # The state is stored after every three steps, and two are kept: the newer may be damaged.
    for step, stored in enumerate([(), (), (), (3,), (3,), (3,), (3, 6), (3, 6), (3, 6), (6, 9)]):
        assert candidates.admit(step, step, stored)
        save_pretrained(model, candidates.folder(step))
        there.append(standing())
    before = [[0], [1], [2], [2, 3], [2, 4], [2, 5]]
    assert there == [*before, [2, 5, 6], [2, 5, 7], [2, 5, 8], [5, 8, 9]]


def test_the_mean_takes_in_what_makes_it_no_worse(
    stars_finetuned: Path, model: Lanistr, tmp_path: Path
) -> None:
    opened = Run.open(stars_finetuned)
    run = Run(tmp_path, opened.config, opened.task)
    candidates = Candidates(run, 4, [])
    for step, value in enumerate([1.0, 9.0, -0.8, 0.4]):
        torch.nn.init.constant_(bias(model), value)
        assert candidates.admit(-step, step)
        save_pretrained(model, candidates.folder(step))

    def goodness(tried: Lanistr) -> float:
        return -abs(float(bias(tried).detach()[0]))

    # 1; (1 + 9) / 2 is worse; (1 - 0.8) / 2 is better; (1 - 0.8 + 0.4) / 3 is worse.
    assert candidates.mix(model, goodness) == 2
    assert bias(model).tolist() == pytest.approx([0.1, 0.1])
    assert bias(from_pretrained(run.model_folder, Lanistr)).tolist() == pytest.approx([0.1, 0.1])
