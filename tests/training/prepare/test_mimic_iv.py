"""MIMIC-IV's raw layout, on the real records of the demo."""

import csv
import gzip
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanistr.modalities import Modality
from lanistr.preprocess.timeseries import TimeseriesPreprocessor
from lanistr.sample import Quantity, Sample
from tests.training.prepare.mimic_files import arguments, prepare
from training.data.store import Dataset
from training.prepare import prepared
from training.prepare.mimic_iv import command
from training.prepare.mimic_iv.variables import CHART_ITEMS, LAB_ITEMS


@pytest.fixture(scope="module")
def source(open_data: Path) -> Path:
    return open_data / "mimic_iv_layout_demo"


@pytest.fixture(scope="module")
def data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(source, tmp_path_factory.mktemp("mimic") / "data")


@pytest.fixture(scope="module")
def samples(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """What the preparer hands to the preprocessor, by stay."""
    found: dict[str, Sample] = {}

    def keep(samples: Any, *rest: Any, **options: Any) -> Dataset:
        found.update({str(sample.id): frozen(sample) for sample in samples()})
        return real(samples, *rest, **options)

    real = prepared.prepare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared, "prepare", keep)
        command.prepare(arguments(source, tmp_path_factory.mktemp("samples") / "data"))
    return found


def frozen(sample: Sample) -> Sample:
    """Read what is read late, before its files are gone."""
    tuple(sample.parts[Modality.TIMESERIES])
    return sample


def records(path: Path) -> Iterator[dict[str, str]]:
    """Read a table with nothing but the csv module."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


@cache
def measurements(path: Path) -> list[dict[str, str]]:
    return [row for row in records(path) if int(row["itemid"]) in ITEMS]


# ---- cohort -------------------------------------------------------------------------------------


def test_thirty_five_stays_are_long_and_each_rule_leaves_what_it_should(data: Dataset):
    met = {rule["rule"]: rule.get("met") for rule in data.card.source["attrition"]}
    left = {rule["rule"]: rule["left"] for rule in data.card.source["attrition"]}
    assert met["all"] == 77
    assert met["long"] == 35
    assert left == {
        "all": 77,
        "known": 77,
        "adult": 77,
        "one_unit": 73,
        "one_stay": 63,
        "long": 28,
        "measured": 28,
    }
    assert len(data) == 28


def test_the_rules_applied_by_hand_keep_the_same_stays_with_the_same_label(
    data: Dataset, source: Path
):
    stays = list(records(source / "icu" / "icustays.csv.gz"))
    died = {
        row["hadm_id"]: row["hospital_expire_flag"] == "1"
        for row in records(source / "hosp" / "admissions.csv.gz")
    }
    admissions = [row["hadm_id"] for row in stays]
    kept = {
        row["stay_id"]: float(died[row["hadm_id"]])
        for row in stays
        if row["first_careunit"] == row["last_careunit"]
        and admissions.count(row["hadm_id"]) == 1
        and float(row["los"]) >= 2
    }
    assert dict(zip(data.ids(range(len(data))), data.labels.tolist(), strict=True)) == kept
    assert 0 < sum(kept.values()) < len(kept)


def test_of_the_long_stays_ten_ended_in_death_as_the_readme_says(source: Path):
    died = {
        row["hadm_id"]: row["hospital_expire_flag"]
        for row in records(source / "hosp" / "admissions.csv.gz")
    }
    flags = [
        died[row["hadm_id"]]
        for row in records(source / "icu" / "icustays.csv.gz")
        if float(row["los"]) >= 2
    ]
    assert (len(flags), flags.count("1")) == (35, 10)


def test_patients_stand_in_one_split_each(data: Dataset, source: Path):
    patient = {r["stay_id"]: r["subject_id"] for r in records(source / "icu" / "icustays.csv.gz")}
    splits: dict[str, set[str]] = {}
    for stay, split in zip(data.ids(range(len(data))), data.splits, strict=True):
        splits.setdefault(patient[stay], set()).add(split)
    assert {len(each) for each in splits.values()} == {1}
    assert len(splits) < len(data)


def test_what_the_source_lacks_is_missing_and_said(data: Dataset):
    assert data.card.missing == {"text": 1.0, "image": 1.0, "tabular": 0.0, "timeseries": 0.0}
    said = " ".join(data.card.source["lacking"])
    assert "radiology" in said
    assert "X-rays" in said
    assert "chart" not in said


def test_the_row_is_what_is_known_at_admission(samples: dict[str, Sample]):
    row = samples["269173"].parts[Modality.TABULAR]
    assert row == {
        "age": 67,
        "gender": "F",
        "admission_type": "EMERGENCY",
        "care_unit": "CCU",
        "hours_before_icu": pytest.approx(98 / 3600),  # 05:49:00 to 05:50:38
    }
    assert samples["269173"].subgroups == {"gender": "F", "race": "WHITE"}


# ---- values against the raw chart events --------------------------------------------------------

ITEMS = {
    item: name
    for table in (CHART_ITEMS, LAB_ITEMS)
    for name, ids in table.items()
    for item in ids
    if item != 50831  # the demo's dictionary calls it another body fluid
}


def raw_events(source: Path, stay: str) -> list[tuple[float, str, str]]:
    """Return (hours, variable, value) of a stay."""
    of_stay = next(r for r in records(source / "icu" / "icustays.csv.gz") if r["stay_id"] == stay)
    begin = datetime.fromisoformat(of_stay["intime"])
    found: list[tuple[float, str, str]] = []
    for path, mine in (
        ("icu/chartevents.csv.gz", ("stay_id", stay)),
        ("hosp/labevents.csv.gz", ("subject_id", of_stay["subject_id"])),
    ):
        for row in measurements(source / path):
            item = int(row["itemid"])
            if row[mine[0]] != mine[1] or (item < 60_000) != ("lab" in path):
                continue
            seconds = (datetime.fromisoformat(row["charttime"]) - begin).total_seconds()
            if 0 <= seconds <= 48 * 3600:
                found.append((seconds / 3600, ITEMS[item], row["value"]))
    return found


@pytest.mark.parametrize("stay", ["279554", "269173", "281609"])
def test_every_event_of_the_window_and_no_other_is_handed_on(
    samples: dict[str, Sample], source: Path, stay: str
):
    handed = sorted(
        (round(row.hours, 6), name, written(value))
        for row in samples[stay].parts[Modality.TIMESERIES]
        for name, value in row.values.items()
    )
    raw = sorted((round(h, 6), name, plain(value)) for h, name, value in raw_events(source, stay))
    assert handed == raw
    assert len(raw) > 200


def written(value: Any) -> str:
    return plain(value.value if isinstance(value, Quantity) else value)


def plain(value: Any) -> str:
    try:
        return f"{float(value):g}"
    except ValueError:
        return str(value)


def column(
    data: Dataset, stay: str, name: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a variable's (48,) values in its own unit, and where it was measured."""
    position = data.ids(range(len(data))).index(stay)
    (arrays,) = data.features(position).rows[Modality.TIMESERIES]
    part = data.preprocessor.parts[Modality.TIMESERIES]
    assert isinstance(part, TimeseriesPreprocessor)
    numeric = list(part.scales)
    scale = part.scales[name]
    values = arrays["values"][:, numeric.index(name)] * scale.std + scale.mean
    indicators = arrays["values"][:, -len(part.cleaners) :]
    return values, indicators[:, list(part.cleaners).index(name)] == 1


# Read by eye in the raw files. Stay 269173 begins at 05:50:38, so that its hour 3 lasts from
# 08:50:38 to 09:50:38; stay 281609 begins at 21:01:40.
BY_HAND = [
    # No measurement yet: the normal value, and the indicator says so.
    ("269173", "heart_rate", 0, 86, False),
    # 09:00 108 and 09:21 98 beats: the last counts.
    ("269173", "heart_rate", 3, 98, True),
    ("269173", "heart_rate", 4, 96, True),
    ("269173", "heart_rate", 7, 103, True),
    ("269173", "heart_rate", 8, 105, True),
    # Fahrenheit, in a column of units where the degree sign became "?": 96.4 at 09:21.
    ("269173", "temperature", 3, 35.7778, True),
    ("269173", "temperature", 5, 35.7778, False),
    ("269173", "temperature", 7, 36.8333, True),
    ("269173", "temperature", 10, 36.4444, True),
    # Oxygen in percent, without a unit: 100 at 09:00, 50 at 11:00, 40 at 13:00.
    ("269173", "fio2", 2, 0.21, False),
    ("269173", "fio2", 3, 1.0, True),
    ("269173", "fio2", 5, 0.5, True),
    ("269173", "fio2", 7, 0.4, True),
    # Pounds, by the item alone: 104.3 at 09:19; then 47.4 kg at 16:23.
    ("269173", "weight", 3, 47.3097, True),
    ("269173", "weight", 10, 47.4, True),
    ("281609", "temperature", 1, 35.5556, True),
    ("281609", "temperature", 6, 37.3333, True),
    # At 23:22 157 cm and 62 inches: the later record in the file is that in cm.
    ("281609", "height", 1, 170, False),
    ("281609", "height", 2, 157, True),
    ("281609", "weight", 2, 58.6, True),
    # Laboratory: 7.39 at 22:28, 7.52 at 19:58 two days later; the urine's 6.5 never.
    ("281609", "ph", 1, 7.39, True),
    ("281609", "ph", 46, 7.52, True),
]


@pytest.mark.parametrize(("stay", "name", "hour", "value", "was_measured"), BY_HAND)
def test_hourly_values_are_those_read_by_eye(
    data: Dataset, stay: str, name: str, hour: int, value: float, was_measured: bool
):
    values, measured = column(data, stay, name)
    assert values[hour] == pytest.approx(value, abs=2e-3)
    assert measured[hour] == was_measured


def test_coma_scores_are_read_from_their_words_and_summed(data: Dataset):
    # 23:00 no eye opening, no response, flex-withdraws: 1 + 1 + 4; an hour later 2 + 1 + 4.
    for name, scores in (
        ("gcs_eye", {0: "4", 1: "1", 2: "2"}),
        ("gcs_verbal", {0: "5", 1: "1", 2: "1"}),
        ("gcs_motor", {0: "6", 1: "4", 2: "4"}),
        ("gcs_total", {0: "15", 1: "6", 2: "7"}),
    ):
        for hour, score in scores.items():
            assert category(data, "281609", name, hour) == score, (name, hour)


def category(data: Dataset, stay: str, name: str, hour: int) -> str:
    """Return which word of a variable an hour shows."""
    position = data.ids(range(len(data))).index(stay)
    (arrays,) = data.features(position).rows[Modality.TIMESERIES]
    part = data.preprocessor.parts[Modality.TIMESERIES]
    assert isinstance(part, TimeseriesPreprocessor)
    start = len(part.scales)
    for other, clean in part.cleaners.items():
        if other in part.scales:
            continue
        words = clean.spec.categories  # type: ignore[union-attr]
        assert words
        if other == name:
            (code,) = np.flatnonzero(arrays["values"][hour, start : start + len(words)])
            return words[int(code)]
        start += len(words)
    raise AssertionError(name)


def test_what_was_out_of_limits_is_dropped_and_counted(data: Dataset):
    # Of the 28 stays' windows: three values beyond the limits, two between limits and range.
    assert data.card.issues["out_of_range/dropped"] == 3
    assert data.card.issues["out_of_range/clipped"] == 2


def test_the_laboratory_item_that_the_dictionary_calls_another_fluid_is_left_out(data: Dataset):
    events = data.card.source["events"]
    assert events["laboratory items not of blood, left out"] == {"50831": "Other Body Fluid"}


def test_scales_are_those_of_measured_values_of_the_training_split(
    data: Dataset, samples: dict[str, Sample]
):
    """So neither filled hours nor uncleaned values are in them."""
    part = data.preprocessor.parts[Modality.TIMESERIES]
    assert isinstance(part, TimeseriesPreprocessor)
    train = {
        i for i, split in zip(data.ids(range(28)), data.splits, strict=True) if split == "train"
    }
    hourly: dict[tuple[str, int], float] = {}
    for stay in train:
        series = samples[stay].parts[Modality.TIMESERIES]
        for row in sorted(series, key=lambda row: row.hours):
            rate = row.values.get("heart_rate")
            if rate is not None and 0 <= rate <= 390:
                hourly[stay, min(int(row.hours), 47)] = min(rate, 350)
    assert part.scales["heart_rate"].mean == pytest.approx(np.mean(list(hourly.values())))
    assert part.scales["heart_rate"].std == pytest.approx(np.std(list(hourly.values())), rel=1e-3)
