"""Synthetic stays in MIMIC-IV's layout: what the real preparer reads is what was made."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lanistr.errors import ConfigError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess.timeseries import TimeseriesPreprocessor
from lanistr.sample import Sample
from tests.training.prepare.mimic_files import prepare
from training.data.store import Dataset
from training.prepare.synthetic import SyntheticOptions, draw
from training.prepare.synthetic.command import LAYOUTS
from training.prepare.synthetic.mimic_iv import write_mimic_iv

SAMPLES = list(draw("mortality", SyntheticOptions(samples=24, missing=0.3, unlabelled=0.1)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_mimic_iv(SAMPLES, folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(source, tmp_path_factory.mktemp("prepared") / "data")


@pytest.fixture(scope="module")
def expected() -> dict[str, Sample]:
    """The samples that the rules keep, by their stay's number."""
    return {
        str(30_000_000 + 2 * number): sample
        for number, sample in enumerate(SAMPLES)
        if sample.label is not None and Modality.TIMESERIES in sample.parts
    }


def test_exactly_the_stays_that_break_no_rule_come_out_with_their_label(
    data: Dataset, expected: dict[str, Sample]
):
    labels = dict(zip(data.ids(range(len(data))), data.labels.tolist(), strict=True))
    assert labels == {stay: float(each.label == "died") for stay, each in expected.items()}
    left = [rule["left"] for rule in data.card.source["attrition"]]
    assert left[0] > len(SAMPLES)
    assert len(set(left)) == len(left)  # every rule drops some


def test_series_are_those_that_were_made(data: Dataset, expected: dict[str, Sample]):
    part = data.preprocessor.parts[Modality.TIMESERIES]
    assert isinstance(part, TimeseriesPreprocessor)
    names = list(part.cleaners)
    added = [list(part.scales).index("height"), names.index("height") - len(names)]
    for position, stay in enumerate(data.ids(range(len(data)))):
        (made,) = part.apply(expected[stay].parts[Modality.TIMESERIES], IssueLog())
        (read,) = data.features(position).rows[Modality.TIMESERIES]
        assert made["values"].shape == read["values"].shape
        same = np.delete(made["values"], added, axis=1) == np.delete(read["values"], added, axis=1)
        assert same.all(), (stay, np.argwhere(~same)[:5])


def test_notes_and_pictures_are_those_that_were_made(data: Dataset, expected: dict[str, Sample]):
    text, image = (data.preprocessor.parts[m] for m in (Modality.TEXT, Modality.IMAGE))
    for position, stay in enumerate(data.ids(range(len(data)))):
        sample, rows = expected[stay], data.features(position).rows
        for modality in (Modality.TEXT, Modality.IMAGE):
            assert (modality in rows) == (modality in sample.parts)
        if Modality.TEXT in rows:
            notes = tuple(f"EXAMINATION: {note}" for note in sample.parts[Modality.TEXT])
            for made, read in zip(text.apply(notes, IssueLog()), rows[Modality.TEXT], strict=True):
                np.testing.assert_array_equal(made["token_ids"], read["token_ids"])
        if Modality.IMAGE in rows:
            (made,) = image.apply(sample.parts[Modality.IMAGE], IssueLog())
            (read,) = rows[Modality.IMAGE]
            assert np.abs(made["pixels"].astype(int) - read["pixels"].astype(int)).mean() < 6


def test_the_outcome_that_stands_in_the_files_reaches_no_note(source: Path, tmp_path: Path):
    data = prepare(source, tmp_path / "data", "--unlabelled")
    words = data.preprocessor.parts[Modality.TEXT].tokenizer  # type: ignore[attr-defined]
    notes = [
        words.decode(row["token_ids"].tolist())
        for position in range(len(data))
        for row in data.features(position).rows.get(Modality.TEXT, ())
    ]
    assert notes
    assert not [note for note in notes if "expired" in note or "discharged home" in note]
    leaky = prepare(source, tmp_path / "leaky", "--allow-leaky-discharge-notes")
    words = leaky.preprocessor.parts[Modality.TEXT].tokenizer  # type: ignore[attr-defined]
    assert any(
        "discharged home" in words.decode(row["token_ids"].tolist())
        for position in range(len(leaky))
        for row in leaky.features(position).rows.get(Modality.TEXT, ())
    )


@pytest.mark.parametrize("pairing", ["stay", "patient-product"])
def test_with_the_stays_that_break_a_rule_nothing_leaks(source: Path, tmp_path: Path, pairing: str):
    data = prepare(source, tmp_path / "data", "--unlabelled", "--pairing", pairing)
    assert len(data) > len(SAMPLES)
    report = json.loads((data.folder / "report.json").read_text(encoding="utf-8"))
    assert not [each["said"] for each in report["checks"] if each["verdict"] == "leak"]
    if pairing == "stay":
        assert not [each["said"] for each in report["checks"] if "repeat" in each["said"]]


def test_the_same_seed_writes_the_same_files(source: Path, tmp_path: Path):
    write_mimic_iv(SAMPLES, tmp_path, seed=0)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    for name in files:
        assert (source / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_stay_without_a_part_has_no_such_records(tmp_path: Path):
    bare = [replace(each, parts={}) for each in SAMPLES[:3]]
    write_mimic_iv(bare, tmp_path, seed=0)
    tables = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.gz")}
    assert tables == {
        *("hosp/patients.csv.gz", "hosp/admissions.csv.gz", "hosp/d_labitems.csv.gz"),
        "icu/icustays.csv.gz",
    }


def test_reviews_are_not_in_mimic(tmp_path: Path):
    with pytest.raises(ConfigError, match="the layout belongs to another task"):
        LAYOUTS["mimic-iv"]("rating", SyntheticOptions(samples=1), tmp_path)
