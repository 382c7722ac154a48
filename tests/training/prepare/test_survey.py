"""The data report: true counts, checks that find what is planted, a page of data alone."""

import ast
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lanistr.fields import NumberField
from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions, Preprocessor
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.tabular import Scale
from lanistr.preprocess.text import TextOptions
from lanistr.preprocess.timeseries import TimeseriesPreprocessor
from lanistr.sample import Measurements, Quantity, Sample
from lanistr.tasks import LabelSpec, TaskSpec, find_task
from tests.browsers import chromium
from tests.fixtures_runs import STARS
from tests.training.test_report import HOSTILE, read
from training.data.store import SPLITS, Dataset, Split
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.report.fields import Fields
from training.prepare.report.issues import field_of
from training.prepare.report.page import page
from training.prepare.report.summaries import MOST_WORDS, SAMPLE, Numbers, Words
from training.prepare.report.survey import ReportOptions, Survey
from training.prepare.synthetic import SyntheticOptions, draw

ROOT = Path(__file__).resolve().parents[3]
MORTALITY, RATING = find_task("mortality"), find_task("rating")
OPTIONS = PreprocessOptions(
    text=TextOptions(vocabulary_size=300, max_tokens=32), image=ImageOptions(size=16)
)
STAYS = list(draw("mortality", SyntheticOptions(samples=150, missing=0.3, unlabelled=0.1)))


def prepared(samples: list[Sample], out: Path, task: TaskSpec = MORTALITY, **more: Any) -> Dataset:
    return prepare(
        lambda: samples,
        task,
        out,
        options=OPTIONS,
        splits=SplitOptions(),
        source={"from": "a test", "counts": {"rows": 1234, "<b>": None}},
        **more,
    )


def report_of(data: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data.folder / "report.json").read_text())
    return found


def check(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in report["checks"] if each["name"].startswith(name)]
    return dict(found)


@pytest.fixture(scope="module")
def stays(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(STAYS, tmp_path_factory.mktemp("survey") / "data")


# ---- counts, against those made another way -----------------------------------------------------


def test_cases_parts_and_labels_are_those_of_the_index(stays: Dataset):
    report, splits = report_of(stays), np.array(stays.splits)
    assert report["cases"] == stays.card.cases
    for split in SPLITS:
        rows = np.flatnonzero(splits == split)
        labels = stays.labels[rows]
        found = report["labels"][split]
        assert found["labelled"] == int((~np.isnan(labels)).sum())
        assert found["classes"]["died"]["cases"] == int((labels == 1).sum())
        for modality in Modality:
            have = sum(stays.brings(int(row), modality) for row in rows)
            assert report["parts"][modality]["cases"][split] == have
            share = report["parts"][modality]["missing"][split]
            assert share == pytest.approx(1 - have / len(rows), abs=1e-4)
    patterns = set(stays.patterns(range(len(stays))))
    assert set(report["presence"]) == patterns
    genders = [sample.subgroups["gender"] for sample in STAYS]
    for name, group in report["subgroups"]["gender"].items():
        assert group["cases"] == genders.count(name)
    died = report["subgroups"]["gender"]["F"]["classes"]["died"]
    assert died["share"] == pytest.approx(
        died["cases"] / report["subgroups"]["gender"]["F"]["labelled"], abs=1e-6
    )


def test_ranges_are_those_of_the_values_as_cleaned(stays: Dataset):
    rows = [s.parts[Modality.TABULAR] for s in STAYS if Modality.TABULAR in s.parts]
    ages = [row["age"] for row in rows if "age" in row]
    field = report_of(stays)["parts"]["tabular"]["fields"]["age"]
    assert (field["count"], field["min"], field["max"]) == (len(ages), min(ages), max(ages))
    quarters = [field["q1"], field["median"], field["q3"]]
    assert quarters == pytest.approx(np.quantile(ages, [0.25, 0.5, 0.75]))
    assert sum(field["cases"].values()) == len(ages)
    assert field["mean"] == pytest.approx(np.mean(ages), rel=1e-5)
    words = report_of(stays)["parts"]["tabular"]["fields"]["gender"]["words"]
    given = [row["gender"] for row in rows if "gender" in row]
    assert words == {name: given.count(name) for name in words}


def test_series_are_counted_step_by_step_in_the_unit_of_the_variable(stays: Dataset):
    degrees: list[float] = []
    brought = series = 0
    for sample in STAYS:
        last: dict[int, float] = {}
        for row in sorted(sample.parts.get(Modality.TIMESERIES, ()), key=lambda each: each.hours):
            value = row.values.get("temperature")
            number = (float(value.value) - 32) / 1.8 if isinstance(value, Quantity) else value
            if number is not None and 14.2 <= float(str(number)) <= 47:
                last[min(int(row.hours), 47)] = float(str(number))
        degrees += last.values()
        brought += bool(last)
        series += Modality.TIMESERIES in sample.parts
    field = report_of(stays)["parts"]["timeseries"]["fields"]["temperature"]
    assert field["count"] == len(degrees)
    assert field["steps"] == pytest.approx(len(degrees) / (48 * series), abs=1e-4)
    assert sum(field["cases"].values()) == brought
    assert field["min"] == pytest.approx(min(degrees), rel=1e-4)
    assert field["median"] == pytest.approx(np.median(degrees), rel=1e-4)
    assert report_of(stays)["parts"]["timeseries"]["fields"]["height"] == {
        "kind": "number", "unit": "cm", "range": [0.0, 240.0], "cases": dict.fromkeys(SPLITS, 0),
        "missing": dict.fromkeys(SPLITS, 1.0), "count": 0, "steps": 0.0,
    }  # fmt: skip


def test_notes_and_pictures_are_measured(stays: Dataset):
    parts = report_of(stays)["parts"]
    notes = [note for sample in STAYS for note in sample.parts.get(Modality.TEXT, ())]
    assert parts["text"]["letters of a note"]["count"] == len(notes)
    assert parts["text"]["letters of a note"]["max"] == max(map(len, notes))
    assert parts["text"]["tokens of a note"]["max"] == parts["text"]["tokens of a note"]["most"]
    pictures = [each for sample in STAYS for each in sample.parts.get(Modality.IMAGE, ())]
    assert parts["image"]["width in pixels"]["median"] == 96
    assert parts["image"]["bytes"]["max"] == max(map(len, pictures))
    assert parts["image"]["format"]["words"] == {"JPEG L": len(pictures)}


def test_what_was_done_to_values_is_counted_by_field_and_reason(tmp_path: Path):
    series = tuple(Measurements(i / 10, {"heart_rate": 9000 + i, "fio2": 40}) for i in range(150))
    high = (Measurements(1, {"heart_rate": 360}), Measurements(50, {"heart_rate": 80}))
    samples = [
        Sample({Modality.TIMESERIES: (*series, Measurements(16, {"heart_rate": 80}))}, id="many"),
        Sample({Modality.TIMESERIES: high}, id="high"),
        Sample({Modality.TABULAR: {"age": "old"}}, id="old"),
        Sample({Modality.TABULAR: {"age": "older"}}, id="older"),
    ]
    data = prepared(
        samples,
        tmp_path / "data",
        split_of=dict.fromkeys(["many", "high", "old", "older"], "train"),
    )
    report = report_of(data)
    found = {(e["field"], e["code"], e["action"]): e for e in report["issues"]}
    dropped = found["timeseries.heart_rate", "out_of_range", "dropped"]
    assert (dropped["values"], dropped["cases"]) == (150, 1)  # more than a log tells one by one
    assert (dropped["lowest"], dropped["highest"]) == (9000, 9149)
    assert dropped["examples"] == [{"case": "many", "seen": 9000}]
    assert found["timeseries.heart_rate", "out_of_range", "clipped"]["values"] == 1
    assert found["timeseries.fio2", "unit_implied", "converted"]["values"] == 150
    assert found["timeseries.hours", "beyond_horizon", "dropped"]["highest"] == 50
    assert sum(e["values"] for e in report["issues"]) == sum(data.card.issues.values())
    (refused,) = report["refused"]
    assert (refused["code"], refused["field"], refused["records"]) == (
        "wrong_type",
        "tabular.age",
        2,
    )
    assert refused["share"] == 0.5
    assert refused["examples"][0].startswith("old: tabular.age: not a number; seen 'old'")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("timeseries[3].heart_rate", "timeseries.heart_rate"),
        ("text[0]", "text"),
        ("tabular.p[1]", "tabular.p[1]"),
        ("timeseries[12].p[1]", "timeseries.p[1]"),
    ],
)
def test_a_position_is_left_out_of_a_path_and_brackets_of_a_name_are_not(path: str, field: str):
    assert field_of(path) == field


def test_the_least_and_the_largest_are_told_to_the_last_digit():
    numbers = Numbers()
    numbers.extend(np.array([1_700_000_019, 1_700_000_001, 123_456_789]))
    summary = numbers.summary()
    assert (summary["min"], summary["max"]) == (123_456_789, 1_700_000_019)
    votes = {"votes": NumberField(kind="number", range=(0, 1e6), log=True)}
    scale = Scale(mean=1.5, std=0.7)
    fields = Fields(votes, {"votes": scale})
    fields.add_numbers("votes", np.array([scale(math.log1p(n)) for n in (3, 98_765)], np.float32))
    found = fields.report()["votes"]
    assert (found["min"], found["max"]) == (3, pytest.approx(98_765, rel=1e-5))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("low", [0.0, 0.01, 0.1])
def test_float32_leaves_no_trace_in_the_least_and_the_largest(low: float, log: bool):
    spec = NumberField(kind="number", range=(0, 500), log=log)
    for mean, std in np.random.default_rng(0).uniform((2, 0.4), (4, 0.8), (200, 2)).tolist():
        scale = Scale(mean=mean, std=std)
        fields = Fields({"WBC": spec}, {"WBC": scale})
        values = [scale(math.log1p(n) if log else n) for n in (low, 8.3)]
        fields.add_numbers("WBC", np.array(values, np.float32))
        found = fields.report()["WBC"]
        assert (str(found["min"]), found["max"]) == (str(low), 8.3)


@pytest.mark.parametrize("size", [1e-40, 1e60])
def test_the_noise_of_sizes_that_float32_does_not_hold_is_found(size: float):
    fields = Fields({"x": NumberField(kind="number")}, {"x": Scale(mean=0, std=size)})
    fields.add_numbers("x", np.array([0.25, 1], np.float32))
    assert fields.report()["x"]["max"] == pytest.approx(size)


@pytest.mark.parametrize("pieces", [1, 7, 400])
def test_summaries_of_long_streams_are_near_and_the_same_each_time(pieces: int):
    values = np.random.default_rng(5).normal(50, 10, 100_000)
    found = []
    for _ in range(2):
        numbers = Numbers()
        for piece in np.array_split(values, pieces):
            numbers.extend(piece)
        found.append(numbers.summary())
    assert found[0] == found[1]
    summary = found[0]
    assert (summary["count"], summary["exact"]) == (100_000, False)
    assert summary["min"] == pytest.approx(values.min(), rel=1e-5)
    assert summary["max"] == pytest.approx(values.max(), rel=1e-5)
    assert summary["mean"] == pytest.approx(values.mean(), rel=1e-5)
    ranks = [float(np.mean(values < summary[name])) for name in ("q1", "median", "q3")]
    assert ranks == pytest.approx([0.25, 0.5, 0.75], abs=0.025)
    assert sum(summary["histogram"]["counts"]) == SAMPLE


def test_every_value_of_a_stream_has_the_same_chance_to_be_in_the_sample():
    numbers = Numbers()
    for piece in np.array_split(np.arange(10.0 * SAMPLE), 9):
        numbers.extend(piece)
    tenths = np.bincount((numbers._sample // SAMPLE).astype(int), minlength=10)
    assert len(np.unique(numbers._sample)) == SAMPLE
    assert tenths == pytest.approx(np.full(10, SAMPLE / 10), rel=0.2)


@pytest.mark.parametrize(
    "values", [[0.3, 0.30000000000000004], [5.0], [1e300, 1.0000000000000002e300]]
)
def test_values_that_differ_by_rounding_alone_are_one_bar(values: list[float]):
    numbers = Numbers()
    numbers.extend(np.array(values * 20))
    bars = [each for each in numbers.summary()["histogram"]["counts"] if each]
    assert bars == [20 * len(values)]


def test_words_beyond_the_limit_are_counted_together():
    words = Words()
    for number in range(MOST_WORDS + 5):
        words.add(f"w{number}")
    words.add("w0", 3)
    found = words.summary()
    assert (found["count"], found["distinct"], found["exact"]) == (
        MOST_WORDS + 8,
        MOST_WORDS,
        False,
    )
    assert next(iter(found["words"].items())) == ("w0", 4)
    assert found["others"] == found["count"] - sum(found["words"].values())


# ---- checks -------------------------------------------------------------------------------------


def split_by_name(samples: list[Sample]) -> dict[str, Split]:
    """Send a case to the split that its name begins with."""
    return {
        str(s.group or s.id): next(x for x in SPLITS if str(s.id).startswith(x)) for s in samples
    }


def picture(kind: str, shade: int = 90) -> bytes:
    pixels = np.full((20, 20, 3), shade, dtype=np.uint8)
    pixels[5:9] = 200
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def test_a_clean_data_set_is_found_clean(stays: Dataset):
    report = report_of(stays)
    *checks, few = report["checks"]
    assert {each["verdict"] for each in checks} == {"ok"}
    assert {each["found"] for each in checks} == {0}
    assert len(checks) == 10
    assert few["name"] == "Few labelled cases in a split"  # which these few stays have


def test_the_same_text_in_two_splits_is_found_whatever_its_case_and_spaces(tmp_path: Path):
    texts = {
        "train-1": "Pt stable,  on room air", "train-2": "PT STABLE, ON ROOM AIR\n",
        "test-1": "pt stable, on room air", "test-2": "intubated", "validation-1": "extubated",
    }  # fmt: skip
    samples = [Sample({Modality.TEXT: (text,)}, id=name) for name, text in texts.items()]
    data = prepared(samples, tmp_path / "data", split_of=split_by_name(samples))
    found = check(report_of(data), "Notes in several splits")
    assert (found["verdict"], found["found"]) == ("warning", 1)
    assert found["examples"] == ["train-1 (train), train-2 (train), test-1 (test)"]
    contents = report_of(data)["parts"]["text"]["contents"]
    assert contents["touched"] == {"train": 2, "validation": 0, "test": 1}
    assert contents["repeated"] == {"train": 1, "validation": 0, "test": 0}
    assert (contents["items"], contents["distinct"]) == (5, 3)


def test_the_same_picture_in_two_splits_is_found_however_it_is_encoded(tmp_path: Path):
    pictures = {
        "train-1": picture("PNG"), "validation-1": picture("BMP"), "train-2": picture("PNG", 91),
        "test-1": picture("PNG", 30),
    }  # fmt: skip
    samples = [Sample({Modality.IMAGE: (data,)}, id=name) for name, data in pictures.items()]
    data = prepared(samples, tmp_path / "data", split_of=split_by_name(samples))
    found = check(report_of(data), "Images in several splits")
    assert (found["verdict"], found["found"]) == ("leak", 1)
    assert found["examples"] == ["train-1 (train), validation-1 (validation)"]
    assert check(report_of(data), "Whole cases")["found"] == 1


def test_the_same_series_in_two_splits_is_found_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def series(rate: float) -> dict[Modality, Any]:
        return {Modality.TIMESERIES: (Measurements(1, {"heart_rate": rate}),)}

    samples = [
        Sample(series(rate), id=name)
        for name, rate in (("train-1", 80), ("test-1", 80), ("test-2", 81), ("validation-1", 82))
    ]
    data = prepared(samples, tmp_path / "data", split_of=split_by_name(samples))
    found = check(report_of(data), "Series in several splits")
    assert found["verdict"] == "leak"
    (told,) = (each for each in caplog.messages if each.startswith("leak: "))
    assert told == f"leak: Series in several splits: {found['said']}; report.html shows some"


def test_a_group_in_two_splits_and_a_name_twice_are_found_in_the_index(tmp_path: Path):
    index = tmp_path / "index.arrow"
    table = pa.table(
        {
            "id": ["a", "b", "c", "c"],
            "group": ["p", "p", "q", "r"],
            "split": ["train", "test", "train", "test"],
        }
    )
    with pa.ipc.new_file(str(index), table.schema) as out:
        out.write_table(table)
    survey = Survey(
        MORTALITY,
        Preprocessor.fit(lambda: STAYS[:20], MORTALITY, OPTIONS),
        ReportOptions(),
        seed=0,
        shares=SplitOptions().shares,
    )
    report = survey.report(index, {})
    torn = check(report, "Groups")
    assert (torn["verdict"], torn["found"], torn["examples"]) == ("leak", 1, ["p"])
    twice = check(report, "Ids")
    assert (twice["verdict"], twice["found"], twice["examples"]) == ("leak", 1, ["c"])
    assert report["groups"]["by split"] == {"train": 2, "validation": 0, "test": 2}


def late(count: int) -> list[Sample]:
    rows = (Measurements(47.5, {"heart_rate": 80}), Measurements(48.5, {"heart_rate": 120}))
    return [
        Sample(
            {Modality.TIMESERIES: (Measurements(i / 10, {"heart_rate": 60 + i}), *rows)}, id=str(i)
        )
        for i in range(count)
    ]


def test_rows_after_the_horizon_leave_no_trace_and_the_report_says_so(tmp_path: Path):
    found = check(report_of(prepared(late(10), tmp_path / "data")), "Series that use data after")
    assert found["verdict"] == "ok"
    assert found["said"].startswith("10 later rows of 10 series were dropped; 10 of these series")


def test_a_series_that_looks_past_the_horizon_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(TimeseriesPreprocessor, "_within", lambda *_: True)
    found = check(
        report_of(prepared(late(10), tmp_path / "data")), "Series that use data after hour 48"
    )
    assert (found["verdict"], found["found"]) == ("leak", 10)


def told(tmp_path: Path, row: Callable[[int, bool], dict[str, Any]]) -> dict[str, Any]:
    """Return what is said of fields that tell the label, where rows depend on it."""
    rng = np.random.default_rng(0)
    samples = [
        Sample({Modality.TABULAR: row(i, died)}, id=str(i), label="died" if died else "survived")
        for i, died in enumerate((rng.random(200) < 0.3).tolist())
    ]
    return check(
        report_of(prepared(samples, tmp_path / "data")), "Fields that alone reveal the label"
    )


def test_a_number_that_tells_the_label_is_found_in_either_direction(tmp_path: Path):
    found = told(
        tmp_path, lambda i, died: {"age": 50 + i % 7, "hours_before_icu": 300 - 200 * died}
    )
    assert (found["verdict"], found["examples"]) == (
        "warning",
        ["tabular: hours_before_icu (1.0000)"],
    )


def test_a_category_that_tells_the_label_is_found(tmp_path: Path):
    found = told(
        tmp_path,
        lambda i, died: {
            "age": 50 + i % 7,
            "care_unit": ("neuro", "medical", "coronary")[died * (1 + i % 2)],
        },
    )
    assert (found["verdict"], found["examples"]) == ("warning", ["tabular: care_unit (1.0000)"])


def test_a_field_that_only_the_dead_have_is_found(tmp_path: Path):
    found = told(
        tmp_path, lambda i, died: {"age": 50 + i % 7} | ({"hours_before_icu": i} if died else {})
    )
    assert found["examples"] == ["tabular: hours_before_icu, there or not (1.0000)"]


def test_honest_fields_are_no_warning(tmp_path: Path):
    found = told(tmp_path, lambda i, died: {"age": 50 + i % 7 + 4 * died, "gender": "FM"[i % 2]})
    assert (found["verdict"], found["found"]) == ("ok", 0)
    assert "the strongest is tabular: age, AUROC 0.9" in found["said"]


def test_a_code_that_every_case_has_to_itself_tells_nothing(tmp_path: Path):
    samples = [
        Sample(
            {Modality.TABULAR: {"asin": f"B{i:09d}", "year": "2015"}},
            id=str(i),
            label=RATING.label.classes[i % 3],
        )
        for i in range(300)
    ]
    data = prepared(samples, tmp_path / "data", RATING)
    assert check(report_of(data), "Fields that alone reveal")["verdict"] == "ok"


@pytest.mark.parametrize("patient", [0, 1])
def test_categories_tell_nothing_where_patients_and_controls_go_by_turns(
    patient: int, tmp_path: Path
):
    rng = np.random.default_rng(1)
    samples = [
        Sample(
            {Modality.TABULAR: {"gender": str(rng.choice(["F", "M"])), "age": 50}},
            id=str(i),
            label=("survived", "died")[i % 2 == patient],
        )
        for i in range(200)
    ]
    found = check(report_of(prepared(samples, tmp_path / "data")), "Fields that alone reveal")
    assert (found["verdict"], found["found"]) == ("ok", 0)


def test_a_category_that_tells_any_one_of_many_classes_is_found(tmp_path: Path):
    """The first class is not among those that it tells."""
    label = LabelSpec(kind="multiclass", name="ward", classes=("a", "b", "c", "d"))
    task = RATING.model_copy(update={"label": label, "metric": "accuracy"})
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 400).tolist()
    word = {1: "2015", 3: "2016"}
    samples = [
        Sample(
            {Modality.TABULAR: {"year": word.get(code, "2017")}},
            id=str(i),
            label=label.classes[code],
        )
        for i, code in enumerate(codes)
    ]
    found = check(report_of(prepared(samples, tmp_path / "data", task)), "Fields that alone reveal")
    assert (found["verdict"], found["examples"]) == ("warning", ["tabular: year (1.0000)"])


def test_too_few_labels_are_not_judged(tmp_path: Path):
    samples = [Sample({Modality.TABULAR: {"age": 40 + i}}, id=str(i)) for i in range(30)]
    found = check(report_of(prepared(samples, tmp_path / "data")), "Fields that alone reveal")
    assert (found["verdict"], found["found"]) == ("not checked", None)


def test_a_number_is_predicted_by_order(tmp_path: Path):
    task = MORTALITY.model_copy(update={"label": STARS, "metric": "mae"})
    samples = [
        Sample(
            {Modality.TABULAR: {"age": 20 + i, "hours_before_icu": (7 * i) % 60}},
            id=str(i),
            label=float(i) ** 3,
        )
        for i in range(60)
    ]
    data = prepared(samples, tmp_path / "data", task)
    found = check(report_of(data), "Fields that alone reveal")
    assert (found["verdict"], found["examples"]) == ("warning", ["tabular: age (1.0000)"])
    assert report_of(data)["labels"]["train"]["values"]["count"] == 48
    assert "Spearman" in read((data.folder / "report.html").read_text()).text


# ---- files and page -----------------------------------------------------------------------------


def test_the_reports_are_among_the_hashed_files(stays: Dataset):
    assert {"report.json", "report.html"} <= set(stays.card.hashes)


def test_a_page_needs_nothing_but_itself_and_shows_a_few_pictures(stays: Dataset):
    html = (stays.folder / "report.html").read_text()
    found = read(html)
    pictures = [each for each in found.links if not each.startswith("#")]
    assert len(pictures) == 12
    assert all(each.startswith("data:image/jpeg;base64,") for each in pictures)
    assert not re.search(r"https?:|url\((?!#)|@import|<script|<link", html)
    assert {x.removeprefix("#") for x in found.links if x.startswith("#")} == set(found.ids)
    assert found.headings == [
        "Leaks and other checks", "Cases", "Labels", "Text", "Image", "Tabular", "Timeseries",
        "A few images", "Values with issues",
        "Records that could not be used", "Where the records came from",
    ]  # fmt: skip
    assert "None" not in found.text
    assert "nan" not in found.text.casefold()
    assert "1,234" in found.text


def test_the_same_seed_shows_the_same_pictures_and_another_others(stays: Dataset, tmp_path: Path):
    def shown(data: Dataset) -> list[str]:
        return [x for x in read((data.folder / "report.html").read_text()).links if x[0] != "#"]

    splits = dict(zip([str(s.group) for s in STAYS], stays.splits, strict=True))
    again = prepared(STAYS, tmp_path / "again")
    assert shown(again) == shown(stays)
    other = prepare(
        lambda: STAYS,
        MORTALITY,
        tmp_path / "other",
        options=OPTIONS,
        splits=SplitOptions(seed=1),
        source={},
        split_of=splits,  # type: ignore[arg-type]
    )
    assert len(shown(other)) == 12
    assert set(shown(other)) != set(shown(stays))


def test_pictures_can_be_kept_out_of_the_report(stays: Dataset, tmp_path: Path):
    data = prepared(STAYS, tmp_path / "data", report=ReportOptions(thumbnails=0))
    html = (data.folder / "report.html").read_text()
    assert "<img" not in html
    assert "data:image" not in html
    assert (data.folder / "report.json").read_bytes() == (stays.folder / "report.json").read_bytes()


def test_every_kind_passes_on_whether_pictures_may_be_shown():
    calls = [
        (path.name, {word.arg for word in node.keywords})
        for path in sorted((ROOT / "training" / "prepare").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("prepared.prepare", "prepare")
        and {"splits", "source"} & {word.arg for word in node.keywords}
    ]
    # All kinds are prepared by this one call, see `Preparation.run`.
    assert [(name, "report" in words) for name, words in calls] == [("kind.py", True)]


def test_names_of_a_user_stay_text(tmp_path: Path):
    samples = [
        replace(sample, id=f"{HOSTILE[i % 5]} {i}", subgroups={HOSTILE[1]: HOSTILE[i % 5]})
        for i, sample in enumerate(STAYS[:40])
    ]
    task = MORTALITY.model_copy(update={"title": HOSTILE[0]})
    data = prepared(samples, tmp_path / "data", task)
    found = read((data.folder / "report.html").read_text())
    assert not {"script", "i"} & set(found.tags)
    assert len([each for each in found.links if not each.startswith(("#", "data:"))]) == 0
    for name in HOSTILE:
        assert name in found.text


def test_a_leak_stands_at_the_top_of_the_page(stays: Dataset):
    report = report_of(stays)
    report["checks"][2] |= {"verdict": "leak", "found": 3, "examples": ["<b>x</b>"]}
    found = read(page(report, []))
    assert "Leaks: Notes in several splits" in found.text
    assert "<b>x</b>" in found.text
    assert "A few images" not in found.headings


def test_rows_that_were_lost_before_they_were_cases_are_not_called_used(stays: Dataset):
    report = report_of(stays)
    assert "Not usable0 recordsLeaks" in read(page(report, [])).text
    row = {"row": 120, "seen": None}
    lost = {"column": "", "code": "repeated_row", "times": 2, "examples": [row]}
    report["problems"] = [lost]
    text = read(page(report, [])).text
    assert "0 records; 2 values or rows of the raw files" in text
    assert "repeated row2(120)" in text
    assert "Every record that was read could be used." in text
    assert "Rows that were lost while reading the raw files are listed above." in text


def test_cases_of_no_subgroup_are_counted(stays: Dataset):
    report = report_of(stays)
    assert "further cases." not in page(report, [])
    del report["subgroups"]["gender"]["F"]
    missing = sum(s.subgroups["gender"] == "F" for s in STAYS)
    assert f"By gender, over all splits. It is unknown for {missing} further" in page(report, [])


def test_a_telephone_shows_the_page_without_scrolling_sideways(stays: Dataset, tmp_path: Path):
    report = report_of(stays)
    report["source"] |= {"columns": {"label_words": {"Y": "survived"}, "missing": ["", "NA"]}}
    html = page(report, [])
    assert "(empty), NA" in html
    (tmp_path / "report.html").write_text(html)
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 360, "height": 740})
        shown.goto((tmp_path / "report.html").as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") == 360
