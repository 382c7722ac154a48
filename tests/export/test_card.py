"""The model card says what a reader must know, and no more than was measured."""

from pathlib import Path

import numpy as np
import pytest

from export.card import model_card
from lanistr.bundle import Bundle
from tests.fixtures_runs import LICENCE
from training.data.store import Dataset
from training.evaluate import evaluate
from training.run import Run


@pytest.fixture(scope="module")
def card(stays_bundle: Path) -> str:
    return Bundle.open(stays_bundle).card()


def test_a_card_says_what_the_model_is_for_and_what_not(card: str) -> None:
    assert card.startswith("# In-hospital mortality from the first 48 hours")
    assert "**Demonstration weights.**" in card
    assert "Not a medical device" in card


def test_a_card_counts_cases_and_gives_figures_with_intervals_by_group(
    card: str, stays_dataset: Dataset, stays_bundle: Path
) -> None:
    cases = stays_dataset.card.cases
    assert f"- Cases: {cases['train']} train, {cases['validation']} validation" in card
    assert f"| all cases | {cases['test']} | " in card
    assert "### By the parts that a case brings" in card
    assert "### By gender" in card
    auroc = Bundle.open(stays_bundle).manifest.metrics["auroc"]
    (row,) = [line for line in card.splitlines() if line.startswith("| all cases")]
    assert f"{auroc:.3f} (" in row


def test_every_table_is_rectangular(card: str) -> None:
    lines = card.splitlines()
    for rule in [i for i, line in enumerate(lines) if line.startswith("|---")]:
        columns, i = lines[rule].count("|"), rule - 1
        while i < len(lines) and lines[i].startswith("|"):
            assert lines[i].count("|") == columns
            i += 1


def test_a_figure_that_a_group_does_not_determine_is_a_dash(
    stays_finetuned: Path, stays_dataset: Dataset
) -> None:
    rows = stays_dataset.rows("test")
    survivors = rows[stays_dataset.labels[rows] == 0][:2]
    report = evaluate(np.zeros((len(survivors), 2), np.float32), stays_dataset, survivors)
    text = model_card(Run.open(stays_finetuned), stays_dataset, report, [], "mine")
    (row,) = [line for line in text.splitlines() if line.startswith("| all cases")]
    assert row.endswith("| - | - |")  # AUROC and AUPRC
    assert "nan" not in text.casefold()
    assert "None" not in text


def test_weights_from_real_records_are_not_called_a_demonstration(
    stars_finetuned: Path, stars_dataset: Dataset
) -> None:
    run = Run.open(stars_finetuned)
    real = Run(run.folder, run.config.model_copy(update={"synthetic": False}), run.task)
    rows = stars_dataset.rows("test")
    report = evaluate(np.zeros((len(rows), 1), np.float32), stars_dataset, rows)
    assert "Demonstration" not in model_card(real, stars_dataset, report, [], "mine")
    assert "Demonstration" in model_card(run, stars_dataset, report, [], "mine")


def test_a_card_says_of_every_build_how_large_and_how_far_off_it_is(
    card: str, stays_bundle: Path
) -> None:
    manifest = Bundle.open(stays_bundle).manifest
    lines = card.splitlines()
    start = lines.index("## Builds")
    rows = [line for line in lines[start:] if line.startswith(("| onnx", "| torchscript"))]
    assert len(rows) == len(manifest.builds) == 5
    for row, build in zip(rows, manifest.builds, strict=True):
        name, size, difference, metric, fall = (each.strip() for each in row.split("|")[1:-1])
        assert name == build.name
        assert float(size) == pytest.approx(build.bytes / 2**20, abs=0.06)
        assert float(difference) == pytest.approx(max(build.parity.values()), rel=0.06)
        assert float(metric) == pytest.approx(build.metrics["auroc"], abs=1e-4)
        assert build.fall is not None
        assert float(fall) == pytest.approx(build.fall, abs=0.01)


def test_a_card_ends_with_the_licence_in_its_owners_words(card: str, ranks_bundle: Path) -> None:
    assert card.endswith(f"## Licence of the weights\n\n{LICENCE}\n")
    assert Bundle.open(ranks_bundle).card().endswith("## Licence of the weights\n\nnot stated\n")
