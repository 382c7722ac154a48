"""What goes wrong in published MIMIC pipelines, and what may be wrong in the files: each once."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lanistr.errors import ConfigError, DataError
from lanistr.modalities import Modality
from lanistr.preprocess.text import TextPreprocessor
from lanistr.preprocess.timeseries import TimeseriesPreprocessor
from tests.training.prepare.mimic_files import Files, at, prepare
from training.data.store import Dataset
from training.prepare.mimic_iv.cohort import subgroups_of

ALL_TRAIN = ("--splits", "1", "0", "0")


def charted(tmp_path: Path, files: Files, *options: str) -> Dataset:
    return prepare(files.write(tmp_path / "source"), tmp_path / "data", *ALL_TRAIN, *options)


def cohort(count: int = 1) -> Files:
    """Make stays that meet every rule, each with one heart rate."""
    files = Files()
    for number in range(count):
        files.stay(number)
        files.chart(number, 1, 220045, 80 + number, valueuom="bpm")
    return files


def hours(data: Dataset, name: str, case: int = 0) -> dict[int, float]:
    """Return the values of a number in its own unit by measured hour."""
    (arrays,) = data.features(case).rows[Modality.TIMESERIES]
    part = data.preprocessor.parts[Modality.TIMESERIES]
    assert isinstance(part, TimeseriesPreprocessor)
    scale = part.scales[name]
    values = arrays["values"][:, list(part.scales).index(name)] * scale.std + scale.mean
    measured = arrays["values"][:, list(part.cleaners).index(name) - len(part.cleaners)]
    return {int(h): round(float(values[h]), 3) for h in np.flatnonzero(measured)}


def measured(data: Dataset, case: int = 0) -> set[str]:
    """Return the variables that were measured at all."""
    (arrays,) = data.features(case).rows[Modality.TIMESERIES]
    part = data.preprocessor.parts[Modality.TIMESERIES]
    assert isinstance(part, TimeseriesPreprocessor)
    indicators = arrays["values"][:, -len(part.cleaners) :].any(axis=0)
    return {name for name, found in zip(part.cleaners, indicators, strict=True) if found}


def score(data: Dataset, name: str, hour: int) -> str:
    """Return which word of a variable an hour shows; empty: an unknown one."""
    (arrays,) = data.features(0).rows[Modality.TIMESERIES]
    part = data.preprocessor.parts[Modality.TIMESERIES]
    assert isinstance(part, TimeseriesPreprocessor)
    start = len(part.scales)
    for other, clean in part.cleaners.items():
        if other in part.scales:
            continue
        words = clean.spec.categories or ()  # type: ignore[union-attr]
        if other == name:
            found = np.flatnonzero(arrays["values"][hour, start : start + len(words)])
            return words[int(found[0])] if len(found) else ""
        start += len(words)
    raise AssertionError(name)


def texts(data: Dataset, case: int = 0) -> list[str]:
    part = data.preprocessor.parts[Modality.TEXT]
    assert isinstance(part, TextPreprocessor)
    rows = data.features(case).rows.get(Modality.TEXT, ())
    return [part.tokenizer.decode(row["token_ids"].tolist()) for row in rows]


def greys(data: Dataset, case: int = 0) -> list[int]:
    rows = data.features(case).rows.get(Modality.IMAGE, ())
    return [int(np.median(row["pixels"])) for row in rows]


def problems(data: Dataset) -> list[dict[str, Any]]:
    path = data.folder.with_name(data.folder.name + ".problems.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def left(data: Dataset) -> dict[str, int]:
    return {rule["rule"]: rule["left"] for rule in data.card.source["attrition"]}


# ---- units and ranges ---------------------------------------------------------------------------


def test_urine_is_no_blood(tmp_path: Path):
    files = cohort()
    files.lab(0, 2, 51478, 250, valueuom="mg/dL")
    files.lab(0, 2, 51491, 6.5, valueuom="units")
    files.lab(0, 2, 51094, 6.5, valueuom="units")
    files.lab(0, 3, 50931, 140, valueuom="mg/dL")
    files.lab(0, 3, 50820, 7.31, valueuom="units")
    data = charted(tmp_path, files)
    assert hours(data, "glucose") == {3: 140}
    assert hours(data, "ph") == {3: 7.31}


def test_an_item_that_the_source_calls_another_fluid_is_left_out_and_said(tmp_path: Path):
    for fluid, expected in (("Other Body Fluid", {}), ("Blood", {2: 7.6})):
        files = cohort()
        files.lab(0, 2, 50831, 7.6, valueuom="units")
        files.add("hosp/d_labitems", itemid=50831, label="pH", fluid=fluid, category="Blood Gas")
        data = charted(tmp_path / fluid, files)
        assert hours(data, "ph") == expected
        said = data.card.source["events"].get("laboratory items not of blood, left out")
        assert said == (None if expected else {"50831": "Other Body Fluid"})


def test_oxygen_in_percent_is_divided_and_a_fraction_is_not(tmp_path: Path):
    files = cohort()
    for hour, value in ((1, 40), (2, 0.4), (3, 1), (4, 21), (5, 100)):
        files.chart(0, hour, 223835, value)
    for hour, unit in ((6, "%"), (7, "")):  # the unit is the item's label, the size decides
        files.chart(0, hour, 223835, 0.5, valueuom=unit)
    data = charted(tmp_path, files)
    assert hours(data, "fio2") == {1: 0.4, 2: 0.4, 3: 1.0, 4: 0.21, 5: 1.0, 6: 0.5, 7: 0.5}


def test_saturation_given_as_a_fraction_becomes_percent(tmp_path: Path):
    files = cohort()
    files.chart(0, 1, 220277, 97, valueuom="%")
    files.chart(0, 2, 220277, 0.93, valueuom="%")
    files.chart(0, 3, 220277, 1, valueuom="%")
    files.lab(0, 4, 50817, 0.88, valueuom="%")
    assert hours(charted(tmp_path, files), "oxygen_saturation") == {1: 97, 2: 93, 3: 100, 4: 88}


def test_fahrenheit_is_told_by_item_and_unit_not_by_size(tmp_path: Path):
    files = cohort()
    for hour, unit in enumerate(("?F", "°F", "\ufffdF", "Â°F", "Deg. F", "F", "")):
        files.chart(0, hour, 223761, 101.3, valueuom=unit)
    for hour, unit in enumerate(("?C", "°C", ""), 10):
        files.chart(0, hour, 223762, 38.5, valueuom=unit)
    files.chart(0, 20, 223761, 37.0, valueuom="?F")  # 2.8 degC: beyond the limits, so no value
    files.chart(0, 21, 223762, 98.6, valueuom="?C")
    files.chart(0, 22, 223761, 37.0, valueuom="°C")  # the row says what it is
    data = charted(tmp_path, files)
    assert hours(data, "temperature") == {
        **dict.fromkeys((*range(7), *range(10, 13)), 38.5),
        22: 37,
    }
    assert data.card.issues["out_of_range/dropped"] == 2
    assert data.card.source["events"]["chartevents.csv.gz"]["not the unit of the item"] == 1


def test_inches_and_pounds_are_converted(tmp_path: Path):
    files = cohort()
    files.chart(0, 1, 226707, 66, valueuom="Inch")
    files.chart(0, 2, 226707, 66)
    files.chart(0, 3, 226730, 170, valueuom="cm")
    files.chart(0, 1, 226531, 150)
    files.chart(0, 2, 226512, 70, valueuom="kg")
    files.chart(0, 3, 224639, 150, valueuom="lbs")
    data = charted(tmp_path, files)
    assert hours(data, "height") == {1: 167.64, 2: 167.64, 3: 170}
    assert hours(data, "weight") == {1: 68.039, 2: 70, 3: 68.039}


def test_breaths_told_in_beats_are_breaths(tmp_path: Path):
    files = cohort()
    files.chart(0, 1, 224422, 22, valueuom="bpm")
    files.chart(0, 2, 220210, 23, valueuom="insp/min")
    assert hours(charted(tmp_path, files), "respiratory_rate") == {1: 22, 2: 23}


def test_values_between_the_limits_are_clipped_and_those_beyond_are_missing(tmp_path: Path):
    files = cohort()
    files.chart(0, 3, 220045, 370, valueuom="bpm")
    files.chart(0, 4, 220045, 400, valueuom="bpm")
    files.chart(0, 5, 220045, -1, valueuom="bpm")
    data = charted(tmp_path, files)
    assert hours(data, "heart_rate") == {1: 80, 3: 350}
    assert data.card.issues == {"out_of_range/clipped": 1, "out_of_range/dropped": 2}
    scale = data.preprocessor.parts[Modality.TIMESERIES].scales["heart_rate"]  # type: ignore[attr-defined]
    assert scale.mean == pytest.approx((80 + 350) / 2)  # fitted on cleaned values


def test_the_last_usable_value_of_an_hour_counts(tmp_path: Path):
    files = cohort()
    for minute, value in ((2.1, 90), (2.7, 95), (2.4, 120), (2.9, 4000)):
        files.chart(0, minute, 220045, value, valueuom="bpm")
    assert hours(charted(tmp_path, files), "heart_rate") == {1: 80, 2: 95}


def test_a_number_that_stands_in_the_text_column_alone_is_read_and_words_are_counted(
    tmp_path: Path,
):
    files = cohort()
    files.chart(0, 2, 220045, "91", valueuom="bpm")
    files.chart(0, 3, 220045, "see note", valueuom="bpm")
    files.chart(0, 4, 220045, "", valueuom="bpm")
    files.chart(0, 5, 220045, "error", valuenum="NaN", valueuom="bpm")
    files.chart(0, 6, 220045, "error", valuenum="inf", valueuom="bpm")
    files.lab(0, 2, 50809, "GREATER THAN 500", valuenum="", valueuom="mg/dL")
    data = charted(tmp_path, files)
    assert hours(data, "heart_rate") == {1: 80, 2: 91}
    assert "glucose" not in measured(data)
    events = data.card.source["events"]
    assert events["chartevents.csv.gz"] == {
        "read": 6,
        "of the variables": 6,
        "of the stays or their patients": 6,
        "in the window of a stay": 6,
        "without a value": 1,
        "value is not a number": 3,
        "kept": 2,
    }
    assert events["labevents.csv.gz"]["value is not a number"] == 1


def test_an_unknown_unit_is_a_problem_and_its_values_are_missing(tmp_path: Path):
    files = cohort()
    files.chart(0, 2, 224639, 12, valueuom="stone")
    files.chart(0, 3, 224639, 12, valueuom="stone")
    files.chart(0, 4, 224639, 70, valueuom="kg")
    data = charted(tmp_path, files)
    assert hours(data, "weight") == {4: 70}
    (problem,) = problems(data)
    assert (problem["code"], problem["column"], problem["seen"]) == (
        "unknown_unit",
        "valueuom",
        "stone",
    )
    assert problem["message"].startswith("2 values of item 224639 (weight)")
    assert data.card.source["problems"] == {"unknown_unit": 1}


def test_scores_are_read_from_words_and_else_from_the_number_beside_them(tmp_path: Path):
    files = cohort()
    # "None" is an answer: no eye opening. A reader that takes it for a missing value loses it.
    files.chart(0, 0, 220739, "None", valuenum=1)
    files.chart(0, 0, 223900, "No Response-ETT", valuenum=0)
    files.chart(0, 0, 223901, "flex-withdraws", valuenum=4)
    files.chart(0, 1, 220739, "4 Spontaneously", valuenum=4)  # as older charts have it
    files.chart(0, 1, 223951, "Abnormal >3 Seconds")
    files.chart(0, 2, 223901, "wiggles toes")
    files.chart(0, 3, 198, "11", valuenum=11)
    data = charted(tmp_path, files)
    assert [score(data, name, 0) for name in ("gcs_eye", "gcs_verbal", "gcs_motor")] == [
        "1",
        "1",
        "4",
    ]
    assert score(data, "gcs_total", 0) == "6"
    assert score(data, "gcs_eye", 1) == "4"
    assert score(data, "capillary_refill_rate", 1) == "1"
    assert score(data, "gcs_motor", 2) == ""
    assert score(data, "gcs_total", 3) == "11"
    assert data.card.issues["unknown_category/kept"] == 1


# ---- time ---------------------------------------------------------------------------------------


def test_nothing_from_before_the_stay_or_after_its_first_48_hours_reaches_any_input(tmp_path: Path):
    files = cohort()
    for hour, value in ((-0.01, 71), (0, 72), (48, 73), (48.001, 74), (60, 75)):
        files.chart(0, hour, 220045, value, valueuom="bpm")
        files.lab(0, hour, 50931, value + 100, valueuom="mg/dL")
        files.note(0, hour, f"opacity number {value}")
    for hour, grey in ((-1, 40), (30, 80), (48.01, 120), (60, 160)):
        files.xray(0, hour, f"d{grey}", grey=grey)
    data = charted(tmp_path, files)
    assert hours(data, "heart_rate") == {0: 72, 1: 80, 47: 73}
    assert hours(data, "glucose") == {0: 172, 47: 173}
    assert texts(data) == ["opacity number 72", "opacity number 73"]
    assert greys(data) == [80]


def test_laboratory_values_without_an_admission_are_found_by_patient_and_time(tmp_path: Path):
    files = cohort()
    files.lab(0, 2, 50931, 140, valueuom="mg/dL", hadm_id="")
    files.lab(7, 2, 50931, 999, valueuom="mg/dL")  # another patient
    assert hours(charted(tmp_path, files), "glucose") == {2: 140}


def test_a_discharge_summary_is_refused_unless_it_is_asked_for(tmp_path: Path):
    files = cohort()
    files.note(0, 3, "no acute process")
    files.note(0, 4, "patient expired in the morning", kind="DS")  # even one dated early
    files.add(
        "note/radiology",
        note_id="stray",
        subject_id=10_000_000,
        hadm_id=20_000_000,
        note_type="DS",
        charttime=at(5),
        text="patient expired, once more",
    )
    clean = charted(tmp_path / "clean", files)
    assert texts(clean) == ["no acute process"]
    notes = clean.card.source["notes"]
    assert notes["discharge.csv.gz"] == "not used: written after the outcome"
    assert notes["radiology.csv.gz"]["discharge summaries, excluded"] == 1
    assert "note/discharge.csv.gz" not in clean.card.source["hashes"]

    files.note(0, 190, "late summary", kind="DS")
    leaky = charted(tmp_path / "leaky", files, "--allow-leaky-discharge-notes")
    assert texts(leaky) == [
        "no acute process",
        "patient expired in the morning",
        "patient expired, once more",
        "late summary",
    ]
    assert leaky.card.source["leaky_discharge_notes"] is True


def test_marks_where_names_were_taken_out_are_dropped_and_white_space_is_folded(tmp_path: Path):
    files = cohort()
    files.note(0, 1, 'EXAM:\n  Chest, "portable"\n\n___ year old   with ___ tube')
    assert texts(charted(tmp_path, files)) == ['exam : chest, " portable " year old with tube']


def test_an_empty_note_is_counted_and_left_out(tmp_path: Path):
    files = cohort()
    files.note(0, 1, "  ")
    files.note(0, 2, "")
    data = charted(tmp_path, files)
    assert data.card.missing["text"] == 1.0
    assert data.card.source["notes"]["radiology.csv.gz"]["empty"] == 2


# ---- pictures -----------------------------------------------------------------------------------


def test_the_last_frontal_picture_is_taken_and_stored_once(tmp_path: Path):
    files = cohort()
    files.xray(0, 1, "a", "AP", 40)
    files.xray(0, 20, "b", "PA", 80)
    files.xray(0, 22, "c", "LATERAL", 120)
    files.xray(0, 23, "d", "LL", 160)
    files.xray(0, 23.5, "e", "", 200)
    data = charted(tmp_path, files)
    assert greys(data) == [80]
    assert data.row_counts(Modality.IMAGE).tolist() == [1]


def test_a_study_after_midnight_has_a_time_without_leading_zeros(tmp_path: Path):
    files = cohort()
    files.xray(0, 14.25, "early", grey=60)  # 00:15:00, which the file keeps as 1500.531
    assert files.rows["mimic-cxr-2.0.0-metadata"][0]["StudyTime"] == "1500.531"
    assert greys(charted(tmp_path, files)) == [60]


@pytest.mark.parametrize("broken", [b"\xff\xd8 not a picture", None, "cut"])
def test_a_picture_that_cannot_be_read_is_a_problem_and_its_stay_is_kept(
    tmp_path: Path, broken: bytes | str | None
):
    files = cohort(2)
    files.xray(0, 1, "older", grey=40)
    files.xray(0, 2, "newer", grey=80)
    files.xray(1, 2, "fine", grey=120)
    name = next(each for each in files.pictures if each.endswith("newer.jpg"))
    if broken is None:
        del files.pictures[name]
    else:
        whole = files.pictures[name]
        files.pictures[name] = whole[: len(whole) // 2] if isinstance(broken, str) else broken
    data = charted(tmp_path, files)
    assert len(data) == 2
    assert greys(data, 0) == []  # and no older one in its place
    assert greys(data, 1) == [120]
    (problem,) = problems(data)
    assert problem["code"] == ("missing_picture" if broken is None else "unreadable_picture")
    assert (problem["file"], problem["row"]) == ("mimic-cxr-2.0.0-metadata.csv.gz", 2)
    assert problem["seen"] == name


def test_pictures_are_stored_with_a_shorter_side_of_256_for_a_model_of_224(tmp_path: Path):
    files = cohort()
    files.xray(0, 1, "large")
    (name,) = files.pictures
    out = io.BytesIO()
    Image.new("L", (1200, 900), 90).save(out, "JPEG")
    files.pictures[name] = out.getvalue()
    data = charted(tmp_path, files, "--image-size", "224")
    table = data._tables[Modality.IMAGE]
    assert table.num_rows == 1
    with Image.open(io.BytesIO(table["jpeg"][0].as_py())) as picture:
        assert (picture.format, min(picture.size)) == ("JPEG", 256)


# ---- cohort -------------------------------------------------------------------------------------


def test_each_rule_drops_what_it_says(tmp_path: Path):
    files = cohort(2)
    files.stay(2, anchor_age=20, anchor_year=2153)  # 17 at admission
    files.stay(3, anchor_age=16, anchor_year=2148)  # 18 at admission
    files.stay(4, last_careunit="Surgical Intensive Care Unit (SICU)")
    files.stay(5, outtime=at(47.99))
    files.stay(6, outtime=at(48))
    files.stay(7)
    files.add("icu/icustays", **(files.rows["icu/icustays"][7] | {"stay_id": 1, "intime": at(90)}))
    files.stay(8)  # nothing charted
    files.stay(9, outtime="")
    for number in (2, 3, 4, 5, 6, 7, 9):
        files.chart(number, 2, 220045, 90, valueuom="bpm")
    files.chart(8, 50, 220045, 90, valueuom="bpm")
    data = charted(tmp_path, files)
    assert left(data) == {
        "all": 11,
        "known": 10,
        "adult": 9,
        "one_unit": 8,
        "one_stay": 6,
        "long": 5,
        "measured": 4,
    }
    assert sorted(data.ids(range(len(data)))) == ["30000000", "30000001", "30000003", "30000006"]


def test_the_label_is_death_in_the_hospital_and_no_later_death(tmp_path: Path):
    files = cohort(0)
    files.stay(0, hospital_expire_flag=1, deathtime=at(80), dischtime=at(80))
    files.stay(1, dod=at(300)[:10])  # died at home
    files.stay(2, deathtime=at(100))  # within the admission, the flag forgotten
    files.stay(3, deathtime=at(250))  # after leaving
    for number in range(4):
        files.chart(number, 1, 220045, 80, valueuom="bpm")
    data = charted(tmp_path, files)
    assert data.labels.tolist() == [1, 0, 1, 0]


def test_the_row_holds_age_at_admission_and_hours_before_intensive_care(tmp_path: Path):
    files = Files()
    for number in range(30):  # enough for the age to vary
        files.stay(number, anchor_age=40 + number, anchor_year=2148)
        files.chart(number, 1, 220045, 80, valueuom="bpm")
    data = charted(tmp_path, files)
    scales = data.preprocessor.parts[Modality.TABULAR].scales  # type: ignore[attr-defined]
    assert scales["age"].mean == pytest.approx(42 + 14.5)
    assert scales["hours_before_icu"].mean == pytest.approx(5)


def test_the_papers_shares_are_a_setting(tmp_path: Path):
    source = cohort(100).write(tmp_path / "source")
    data = prepare(source, tmp_path / "data", "--splits", "0.9", "0.01", "0.09")
    assert data.card.cases == {"train": 90, "validation": 1, "test": 9}


# ---- layouts and missing parts ------------------------------------------------------------------


def test_version_1_with_its_core_folder_and_ethnicity_gives_the_same_stays(tmp_path: Path):
    files = cohort(3)
    files.lab(0, 2, 50931, 140, valueuom="mg/dL")
    new = charted(tmp_path / "new", files)
    old = files.write(tmp_path / "old" / "source", packed=False)
    (old / "core").mkdir()
    for name in ("patients", "admissions"):
        (old / "hosp" / f"{name}.csv").rename(old / "core" / f"{name}.csv")
    path = old / "core" / "admissions.csv"
    path.write_text(path.read_text().replace(",race,", ",ethnicity,"))
    data = prepare(old, tmp_path / "old" / "data", *ALL_TRAIN)
    assert data.card.source["layout"] == "v1"
    for name in ("index.arrow", "timeseries.arrow", "tabular.arrow", "preprocessing.json"):
        assert (data.folder / name).read_bytes() == (new.folder / name).read_bytes()


def test_notes_and_pictures_may_lie_elsewhere(tmp_path: Path):
    files = cohort()
    files.note(0, 1, "clear lungs")
    files.xray(0, 1, "a", grey=70)
    source = files.write(tmp_path / "source")
    (tmp_path / "cxr").mkdir()
    (source / "note").rename(tmp_path / "notes")
    (source / "files").rename(tmp_path / "cxr" / "files")
    name = "mimic-cxr-2.0.0-metadata.csv.gz"
    (source / name).rename(tmp_path / "cxr" / name)
    data = prepare(
        source,
        tmp_path / "data",
        *ALL_TRAIN,
        *("--notes", str(tmp_path / "notes"), "--pictures", str(tmp_path / "cxr")),
    )
    assert texts(data) == ["clear lungs"]
    assert greys(data) == [70]
    assert {"radiology.csv.gz", name} < data.card.source["hashes"].keys()


@pytest.mark.parametrize("absent", ["icu/chartevents", "hosp/labevents"])
def test_without_charts_or_laboratory_the_series_holds_what_there_is(tmp_path: Path, absent: str):
    files = cohort()
    files.lab(0, 2, 50931, 140, valueuom="mg/dL")
    source = files.write(tmp_path / "source")
    (source / f"{absent}.csv.gz").unlink()
    data = prepare(source, tmp_path / "data", *ALL_TRAIN)
    assert measured(data) == ({"glucose"} if absent == "icu/chartevents" else {"heart_rate"})
    assert any(absent in each for each in data.card.source["lacking"])


def test_without_any_measurements_the_series_is_missing(tmp_path: Path):
    files = cohort()
    source = files.write(tmp_path / "source")
    (source / "icu" / "chartevents.csv.gz").unlink()
    data = prepare(source, tmp_path / "data", *ALL_TRAIN)
    assert data.card.missing == {"text": 1, "image": 1, "tabular": 0, "timeseries": 1}


@pytest.mark.parametrize(
    ("damage", "code", "says"),
    [
        (lambda s: (s / "icu/icustays.csv.gz").unlink(), "no_table", "icu/icustays"),
        (lambda s: cut(s / "icu/chartevents.csv.gz", 60), "damaged_file", "chartevents"),
        (lambda s: (s / "icu/chartevents.csv.gz").write_bytes(b"a,b"), "damaged_file", "chart"),
        (lambda s: cut(s / "hosp/admissions.csv.gz", 9), "damaged_file", "admissions"),
        (lambda s: (s / "hosp/admissions.csv.gz").write_bytes(b"a,b"), "damaged_file", "admiss"),
        (lambda s: (s / "hosp/patients.csv.gz").write_bytes(b""), "empty_file", "patients"),
        (lambda s: (s / "files").rmdir(), "no_folder", "files"),
    ],
)
def test_files_that_cannot_be_used_are_named_and_nothing_is_left(
    tmp_path: Path, damage: Any, code: str, says: str
):
    files = cohort()
    files.rows["mimic-cxr-2.0.0-metadata"] = []
    source = files.write(tmp_path / "source")
    (source / "files").mkdir()
    damage(source)
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "out" / "data")
    assert caught.value.code == code
    assert says in caught.value.field
    assert not (tmp_path / "out" / "data").exists()


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def test_a_stay_that_is_listed_twice_is_refused(tmp_path: Path):
    files = cohort()
    files.rows["icu/icustays"] *= 2
    with pytest.raises(DataError, match="stay_id is in several rows"):
        charted(tmp_path, files)


def test_when_no_stay_is_left_the_attrition_says_why(tmp_path: Path):
    files = Files()
    files.stay(0, outtime=at(20))
    files.chart(0, 1, 220045, 80)
    with pytest.raises(DataError) as caught:
        charted(tmp_path, files)
    assert caught.value.code == "no_records"
    assert "'long': 0" in str(caught.value.seen)


def test_combinations_have_no_label(tmp_path: Path):
    with pytest.raises(ConfigError, match="no label"):
        charted(tmp_path, cohort(), "--pairing", "patient-product")


@pytest.mark.parametrize(
    ("race", "group"),
    [
        ("WHITE - RUSSIAN", "WHITE"),
        ("BLACK/CAPE VERDEAN", "BLACK"),
        ("HISPANIC/LATINO - DOMINICAN", "HISPANIC"),
        ("HISPANIC OR LATINO", "HISPANIC"),
        (None, "UNKNOWN"),
    ],
)
def test_a_group_of_people_has_one_name_however_it_is_detailed(race: str | None, group: str):
    assert subgroups_of({"race": race, "gender": "F"})["race"] == group
