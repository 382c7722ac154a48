"""The model card says what a reader must know, and no more than was measured."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main as export
from export.card import _data, _table, model_card
from lanistr.bundle import Bundle
from lanistr.decision import LIKELIEST, Decision
from lanistr.preprocess import PreprocessOptions
from lanistr.tasks import find_task
from tests.fixtures_runs import HOWEVER_BAD, LICENCE, STARS, Command
from training.data.store import Dataset, data_hash
from training.evaluate import about, evaluate
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.synthetic import SyntheticOptions, draw
from training.run import Run


@pytest.fixture(scope="module")
def alike_stars(make_table: Callable[..., Path]) -> Path:
    """The rows that `stars` has, under labels that are one star more."""
    return make_table("stars-and-one", STARS, "mae", lambda stars: float(stars) + 1)


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
    assert "### By modalities present" in card
    assert "### By gender" in card
    auroc = Bundle.open(stays_bundle).manifest.metrics["auroc"]
    (row,) = [line for line in card.splitlines() if line.startswith("| all cases")]
    assert f"{auroc:.3f} (" in row


def test_a_card_of_a_model_measured_on_its_own_data_names_them_once(
    card: str, stays_dataset: Dataset, stays_bundle: Path
) -> None:
    manifest, digest = Bundle.open(stays_bundle).manifest, data_hash(stays_dataset)
    assert manifest.trained_on == manifest.measured_on == digest
    assert card.count(f"sha256 of `dataset.json` {digest[:12]}") == 1
    assert "No group (patient, product) is in more than one split" in card
    assert "other data" not in card
    assert "Evaluated on synthetic records" in card


@pytest.mark.usefixtures("stars_graphs")
def test_a_card_of_a_model_measured_on_other_data_names_both_and_counts_only_what_is_at_hand(
    stars_finetuned: Path, stars: Path, alike_stars: Path, command: Command, tmp_path: Path
) -> None:
    command(
        export, "--run", stars_finetuned, "--data", alike_stars, "--out", tmp_path / "bundle",
        "--formats", "onnx", "--precision", "fp32", "int8", "--cases", "5", *HOWEVER_BAD,
    )  # fmt: skip
    bundle, other = Bundle.open(tmp_path / "bundle"), Dataset.open(alike_stars)
    card, manifest = bundle.card(), bundle.manifest
    trained_on, measured_on = (data_hash(Dataset.open(each)) for each in (stars, alike_stars))
    assert (manifest.trained_on, manifest.measured_on) == (trained_on, measured_on)
    assert "- Trained on other data than it was tested on" in card
    assert f"sha256 of their `dataset.json`: {trained_on[:12]}" in card
    assert f"sha256 of `dataset.json` {measured_on[:12]}" in card
    assert f"- Tested on: Cases: {other.card.cases['test']} test; labelled" in card
    assert f"{other.card.cases['train']} train" not in card
    assert "Evaluated on other data than the model was trained on." in card
    assert "No group (patient, product) is in more than one split" not in card

    # Builds were measured on five of the cases, the model beside them.
    assert manifest.extent is not None
    assert manifest.extent.measured == 5
    assert "mae was measured on 5 cases of the test split." in card
    whole, _ = manifest.builds
    assert whole.metrics["mae"] != pytest.approx(manifest.metrics["mae"], rel=1e-3)
    assert whole.fall == pytest.approx(0, abs=1e-3)
    assert manifest.most_fall == 1000


def test_a_card_vouches_for_groups_only_where_some_were_named(
    stays_dataset: Dataset, tmp_path: Path
) -> None:
    samples = [replace(each, group=None) for each in draw("rating", SyntheticOptions(samples=20))]
    unnamed = prepare(
        lambda: samples,
        find_task("rating"),
        tmp_path / "data",
        options=PreprocessOptions(),
        splits=SplitOptions(),
        source={},
    )
    hashes = {"trained_on_hash": "4d1f", "data_hash": "4d1f"}
    assert (
        _data(stays_dataset, hashes)[-1]
        == "- No group (patient, product) is in more than one split."
    )
    assert _data(unnamed, hashes)[-1].startswith("- No groups were named: a patient or product")


def test_a_groups_name_stays_in_its_cell() -> None:
    found = {"a|b\nc": {"cases": 3, "metrics": {"mae": 2e-6}, "intervals": {"mae": [1e-6, 3e-6]}}}
    assert _table(found, "group")[2] == r"| a\|b c | 3 | 2e-06 (1e-06 to 3e-06) |"


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
    run = Run.open(stays_finetuned)
    report |= {"about": about(run, stays_dataset, "test")}
    text = model_card(run, stays_dataset, report, [], 2, "mine")
    (row,) = [line for line in text.splitlines() if line.startswith("| all cases")]
    assert row.endswith("| - | - |")  # AUROC and AUPRC
    assert "nan" not in text.casefold()
    assert "None" not in text


def test_a_card_begins_with_what_there_is_to_say_and_no_demonstration_of_real_records(
    stars_finetuned: Path, stars_dataset: Dataset
) -> None:
    run = Run.open(stars_finetuned)
    real = Run(run.folder, run.config.model_copy(update={"synthetic": False}), run.task)
    rows = stars_dataset.rows("test")
    report = evaluate(np.zeros((len(rows), 1), np.float32), stars_dataset, rows)
    report |= {"about": about(run, stars_dataset, "test")}
    assert "Demonstration" not in model_card(real, stars_dataset, report, [], 9, "mine")
    silent = run.task.model_copy(update={"description": ""})
    text = model_card(Run(run.folder, real.config, silent), stars_dataset, report, [], 9, "mine")
    assert text.startswith(f"# {silent.title}\n\n## Data\n")
    assert "Demonstration" in model_card(run, stars_dataset, report, [], 9, "mine")


@pytest.mark.parametrize(
    ("decision", "line"),
    [
        (
            Decision(weights=(1, 2.5)),
            "- Predicted (`label`) is the class whose probability times its weight is largest: "
            "survived 1, died 2.5; chosen there, too, for the best auroc.",
        ),
        (LIKELIEST, None),
    ],
    ids=["weights", "likeliest"],
)
def test_a_card_says_how_classes_are_predicted_if_not_by_what_is_most_likely(
    stays_finetuned: Path, stays_dataset: Dataset, decision: Decision, line: str | None
) -> None:
    run, rows = Run.open(stays_finetuned), stays_dataset.rows("test", labelled=True)
    report = evaluate(np.zeros((len(rows), 2), np.float32), stays_dataset, rows, decision)
    report |= {"about": about(run, stays_dataset, "test")}
    lines = model_card(run, stays_dataset, report, [], 9, "mine").splitlines()
    found = [each for each in lines if each.startswith("- Predicted")]
    assert found == ([line] if line else [])


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
