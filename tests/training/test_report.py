"""The report for people: what is in it for each kind of label, and nothing that a user's data does
to it.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from lanistr.calibration import Calibration, softmax
from lanistr.modalities import Modality
from lanistr.preprocess import PreprocessOptions
from lanistr.tasks import LabelSpec, find_task
from tests.fixtures_runs import STARS, VERDICT, table_task
from training.data.store import Dataset
from training.evaluate import NOT_GIVEN, full_report, main
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.synthetic import SyntheticOptions, draw
from training.report.findings import findings, wilson
from training.report.history import History, read_history, smoothed
from training.report.page import page
from training.report.plots import error_histogram_panel
from training.report.tables import number
from training.run import LOG, Run, RunConfig

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</table></style>&amp;",
    "$\\frac{1}$",
    "90 年",
)
TONE = LabelSpec(kind="multiclass", name="<b>tone</b>", classes=(HOSTILE[0], "b$_$", "c"))
RANKS = find_task("rating").label
LABELS = {"binary": VERDICT, "multiclass": TONE, "ordinal": RANKS, "regression": STARS}
METRIC = {"binary": "auroc", "multiclass": "macro_f1", "ordinal": "quadratic_kappa"}
VOID = {"meta", "wbr", "img", "br", "hr", "input", "link"}


@dataclass
class Found(HTMLParser):
    """What a page is made of; opening and closing tags must match."""

    tags: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    captions: int = 0
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.links += [str(given[name]) for name in ("href", "src", "xlink:href") if name in given]
        self.ids += [str(given["id"])] if "id" in given else []
        assert not [name for name in given if name.startswith("on")]
        if given.get("class") == "plot":
            self.pictures.append(str(given["aria-label"]))
        if tag == "h2":
            self.headings.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.captions += tag == "caption"

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "h2" in self._open:
            self.headings[-1] += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += " " + data

    def close(self) -> None:
        super().close()
        assert self._open == []


def read(html: str) -> Found:
    found = Found()
    found.feed(html)
    found.close()
    return found


# ---- a data set with users' names, a run, and what a model might say ----------------------------


@pytest.fixture(scope="module")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Dataset]:
    """Return a function that prepares rows of reviews with a label and subgroups."""

    def make(
        label: LabelSpec, metric: str, subgroups: Callable[[int], Mapping[str, str]]
    ) -> Dataset:
        classes = label.classes
        samples = [
            replace(
                each,
                parts={Modality.TABULAR: each.parts[Modality.TABULAR]},
                label=classes[int(str(each.label)) % len(classes)] if classes else float(place),
                subgroups=subgroups(place),
            )
            for place, each in enumerate(draw("rating", SyntheticOptions(samples=125, missing=0)))
        ]
        folder = tmp_path_factory.mktemp("report") / "data"
        prepare(
            lambda: samples,
            table_task(label.model_copy(update={"name": "label"}), metric).model_copy(
                update={"label": label}
            ),
            folder,
            options=PreprocessOptions(),
            splits=SplitOptions(),
            source={"from": "synthetic"},
        )
        return Dataset.open(folder)

    return make


@pytest.fixture(scope="module")
def datasets(make_dataset: Callable[..., Dataset]) -> dict[str, Dataset]:
    """A data set for each kind of label; a hostile name for every third case or so."""
    return {
        kind: make_dataset(
            label,
            METRIC.get(kind, "mae"),
            lambda place: {"<i>shop</i>": HOSTILE[place % 7 % len(HOSTILE)]},
        )
        for kind, label in LABELS.items()
    }


def say(dataset: Dataset, split: str) -> np.ndarray:
    """Return outputs that know something of the truth."""
    targets = dataset.labels[dataset.rows(split, labelled=True)]
    rng = np.random.default_rng(2)
    if dataset.task.label.kind == "regression":
        return (targets + rng.normal(0, 10, len(targets)))[:, None].astype(np.float32)
    classes = dataset.task.label.outputs
    noise = rng.normal(size=(len(targets), classes))
    return (noise + np.eye(classes)[targets.astype(int)]).astype(np.float32)


def report_of(
    dataset: Dataset, folder: Path, split: str = "train", logits: np.ndarray | None = None
) -> dict[str, Any]:
    config = RunConfig(
        stage="finetune",
        recipe={},
        data=str(dataset.folder),
        data_hash="0" * 64,
        init=None,
        parameters={},
        synthetic=False,
        versions={},
    )
    held_out = dataset.labels[dataset.rows("validation", labelled=True)]
    calibration = Calibration.fit(say(dataset, "validation"), held_out, dataset.task.label)
    logits = say(dataset, split) if logits is None else logits
    run = Run(folder, config, dataset.task)
    return full_report(run, dataset, split, logits, calibration)


def page_of(report: dict[str, Any], dataset: Dataset, split: str = "train") -> str:
    logits = say(dataset, split)
    return page(report, logits[:, 0], dataset.labels[dataset.rows(split, labelled=True)], {})


Told = Callable[[str], tuple[dict[str, Any], str]]


@pytest.fixture(scope="module")
def told(datasets: dict[str, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return a function that returns a kind's report, as its file has it, and its page."""

    @cache
    def tell(kind: str) -> tuple[dict[str, Any], str]:
        whole = report_of(datasets[kind], tmp_path_factory.mktemp("run"))
        report = json.loads(json.dumps(whole, allow_nan=False))
        return report, page_of(report, datasets[kind])

    return tell


KINDS = pytest.mark.parametrize("kind", LABELS)


# ---- what is there ------------------------------------------------------------------------------


@KINDS
def test_every_kind_of_label_has_its_sections_and_pictures(kind: str, told: Told) -> None:
    found = read(told(kind)[1])
    of_kind = {
        "binary": ["Discrimination", "Calibration", "Confusion"],
        "multiclass": ["Discrimination", "Calibration", "Confusion"],
        "ordinal": ["Discrimination", "Calibration", "Confusion", "Expected value"],
        "regression": ["Errors"],
    }[kind]
    assert found.headings == [
        *of_kind,
        "Sets and intervals",
        "By modalities present",
        "By <i>shop</i>",
        "What the figures mean",
    ]
    of_classes = ["ROC", "Precision", "Reliability before", "Reliability after", "Number of"]
    expected = {
        "regression": ["Predicted against", "Predicted minus", "Histogram of"],
        "ordinal": [*of_classes, "Expected value"],
    }.get(kind, of_classes)
    assert len(found.pictures) == len(expected)
    for said, start in zip(found.pictures, expected, strict=True):
        assert said.startswith(start)
    assert found.captions == found.tags.count("table") > 2
    assert "Not a medical device" in found.text
    assert "synthetic records" in found.text
    assert "other data than the model was trained on" in found.text
    assert ("At other thresholds" in found.text) == (kind == "binary")


@KINDS
def test_a_page_needs_nothing_but_itself(kind: str, told: Told) -> None:
    _, html = told(kind)
    found = read(html)
    assert found.links
    assert all(each.startswith("#") for each in found.links)
    assert {each.removeprefix("#") for each in found.links} <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert not re.search(r"https?:|url\((?!#)|@import|<script|<link", html)
    assert "None" not in found.text
    assert "nan" not in found.text.casefold()
    assert not re.search(r"#0[12]0[12]", html)  # no colour that stands for another is left


@KINDS
def test_names_of_a_user_stay_text(kind: str, told: Told) -> None:
    found = read(told(kind)[1])
    assert not {"script", "img", "i"} & set(found.tags)
    for name in HOSTILE:
        assert name in found.text


@KINDS
def test_numbers_on_the_page_are_those_of_the_json(kind: str, told: Told) -> None:
    report, html = told(kind)
    found = read(html)
    groups = {"all cases": report["all"]} | report["by_presence"]
    for column in report["by_subgroup"].values():
        groups |= column
    tables = [row for row in found.rows if len(row) > len(report["all"]["metrics"])]
    names = list(report["all"]["metrics"])
    main_metric = report["about"]["metric"]
    names.sort(key=lambda name: name != main_metric)
    for name, group in groups.items():
        cells = []
        for metric in names:
            (low, high), value = group["intervals"][metric], group["metrics"][metric]
            cells.append(f"{number(value)} {number(low)} to {number(high)}")
        counts = [str(group[key]) for key in ("cases", "positives") if key in group]
        rows = [[cell.strip() for cell in row] for row in tables if row[0].strip().startswith(name)]
        assert [*counts, *cells] in [row[1:] for row in rows], name
    shown = [cell for row in found.rows for cell in row]
    for key in ("covered", "mean_size"):
        value = report["conformal"]["all"][key]
        text = f"{value:.1%}" if key == "covered" else f"{value:.2f}"
        assert any(cell.split()[:1] == [text] for cell in shown)
    if kind != "regression":
        counted = [[str(n) for n in row] for row in report["confusion"]["matrix"]]
        there = [[cell.split()[0] for cell in row[1:-1]] for row in found.rows if "%" in row[-2]]
        assert [row for row in there if row in counted] == counted
        for curve in report["curves"]["roc"]:
            assert f"{curve['name']}: AUROC {curve['area']:.3f}" in found.text


def test_the_command_writes_both_files_and_says_where(
    stays: Path, stays_finetuned: Path, command: Callable[..., str]
) -> None:
    said = command(main, "--run", stays_finetuned, "--data", stays).splitlines()
    assert said[-2:] == [str(stays_finetuned / f"report-test.{kind}") for kind in ("json", "html")]
    report = json.loads((stays_finetuned / "report-test.json").read_text())
    found = read((stays_finetuned / "report-test.html").read_text())
    assert found.headings[-3:] == ["Fine-tuning", "Pretraining", "What the figures mean"]
    for name in ("mlm", "mim", "mfm", "mtm", "simmmm"):
        assert any(said.startswith(f"Loss {name} over") for said in found.pictures)
    best = report["about"]["best_epoch"]
    assert any(said.endswith(f"Epoch {best} was kept.") for said in found.pictures)
    assert report["about"]["trained_on_hash"] == report["about"]["data_hash"]
    assert report["about"]["data_hash"][:12] in found.text
    assert len(report["about"]["cautions"]) == 1
    assert report["about"]["cautions"][0] in found.text


def test_without_the_logs_there_are_no_curves_of_the_training(
    datasets: dict[str, Dataset], tmp_path: Path
) -> None:
    dataset = datasets["binary"]
    report = report_of(dataset, tmp_path)
    history = {"Fine-tuning": None, "Pretraining": read_history(tmp_path / "gone")}
    found = read(page(report, np.zeros(0), np.zeros(0), history))
    assert "Fine-tuning" not in found.headings
    assert "Pretraining" not in found.headings
    assert report["about"]["best_epoch"] is None


def test_of_two_classes_that_are_not_positive_and_negative_none_is_the_chance_level(
    datasets: dict[str, Dataset], told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = datasets["binary"]
    said = "the share of positive cases"
    assert said in read(told("binary")[1]).text
    label = dataset.task.label.model_copy(update={"kind": "multiclass"})
    monkeypatch.setattr(dataset, "task", dataset.task.model_copy(update={"label": label}))
    assert said not in read(page_of(report_of(dataset, tmp_path), dataset)).text


def test_where_weights_are_a_mean_no_epoch_is_said_to_be_kept(told: Told, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(
        '{"epoch": 0, "validation": {"auroc": 0.7}}\n{"epoch": 1, "validation": {"auroc": 0.6}}\n'
        '{"after": 9, "mean_of": 2}\n'
    )
    log = read_history(tmp_path)
    assert log is not None
    assert log.mean_of == 2
    report, _ = told("binary")
    mean = {"best_epoch": 0, "mean_of": log.mean_of}
    report = report | {"about": report["about"] | mean}
    found = read(page(report, np.zeros(0), np.zeros(0), {"Fine-tuning": log, "Pretraining": None}))
    assert "mean over 2 validations, the best AUROC on validation" in found.text
    assert "Epoch kept" not in found.text
    assert "was kept" not in " ".join(found.pictures)


# ---- what cases do not determine ----------------------------------------------------------------


def test_one_class_alone_has_no_curve_and_the_page_says_why(
    datasets: dict[str, Dataset], tmp_path: Path
) -> None:
    dataset = datasets["binary"]
    rows = dataset.rows("train", labelled=True)
    kept, dataset.labels[rows] = dataset.labels[rows].copy(), 1
    try:
        report = report_of(dataset, tmp_path)
        found = read(page_of(report, dataset))
    finally:
        dataset.labels[rows] = kept
    assert report["curves"] == {"roc": [], "pr": []}
    assert report["all"]["metrics"]["auroc"] is None
    assert report["all"]["undetermined"] == dict.fromkeys(
        ("auroc", "auprc"), "all cases are of one class"
    )
    assert "there is no curve" in found.text
    (row,) = [row for row in found.rows if row[0].startswith(" tabular") and len(row) > 4]
    assert row[3].split() == ["-", "all", "cases", "are", "of", "one", "class"]


def test_groups_stand_in_an_order_that_reads_and_small_ones_are_marked(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    def ages(place: int) -> dict[str, str]:
        given = {} if place == 0 else {"age": ("≥ 90", "60-69", "9 or less")[place % 3]}
        return given | {"ward": f"only {place}" if place == 7 else "bc"[place % 3 == 0]}

    dataset = make_dataset(VERDICT, "auroc", ages)
    rows = dataset.rows("train", labelled=True)
    report = report_of(dataset, tmp_path)
    age, ward = report["by_subgroup"]["age"], report["by_subgroup"]["ward"]
    assert [name for name in age if name != NOT_GIVEN] == ["9 or less", "60-69", "≥ 90"]
    assert list(age)[-1:] == [NOT_GIVEN] or NOT_GIVEN not in age
    sizes = [group["cases"] for group in ward.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == sum(group["cases"] for group in age.values()) == len(rows)
    alone = next(group for group in (*ward.values(), *age.values()) if group["cases"] == 1)
    assert alone["small"] == "fewer than 30 cases"
    assert set(map(tuple, alone["intervals"].values())) == {(None, None)}
    assert report["all"]["small"] is None
    found = read(page_of(report, dataset))
    marked = [row for row in found.rows if row and "too few to draw conclusions" in row[0]]
    small = [g for groups in report["by_subgroup"].values() for g in groups.values() if g["small"]]
    assert len(marked) == len(small) > 0
    assert "no interval" in found.text


def test_very_many_groups_do_not_make_the_page_long(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = make_dataset(STARS, "mae", lambda place: {"id": f"case {place}"})
    report = report_of(dataset, tmp_path)
    groups = report["by_subgroup"]["id"]
    assert len(groups) == len(dataset.rows("train"))
    found = read(page_of(report, dataset))
    shown = [row for row in found.rows if row and row[0].strip().startswith("case ")]
    assert len(shown) == 40
    assert f"40 largest of {len(groups)} groups" in found.text


# ---- findings, against values worked out by hand or by the library ------------------------------


def of(
    label: LabelSpec,
    logits: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray | None = None,
    **fitted: Any,
) -> dict[str, Any]:
    patterns = np.array(["text"] * (len(targets) - 1) + ["image"])
    if groups is None:
        groups = np.arange(len(targets)).astype(str)
    return findings(logits, targets, patterns, groups, label, Calibration(**fitted))


def test_thresholds_and_confusion_count_cases() -> None:
    p = np.array([0.9, 0.6, 0.4, 0.2])
    found = of(VERDICT, np.log(np.stack([1 - p, p], axis=1)), np.array([1.0, 0, 1, 0]))
    assert found["confusion"] == {"matrix": [[1, 1], [1, 1]]}
    (point,) = [each for each in found["operating_points"] if each["threshold"] == 0.3]
    assert point == {
        "threshold": 0.3, "true_positives": 2, "false_positives": 1, "false_negatives": 0,
        "true_negatives": 1, "sensitivity": 1.0, "specificity": 0.5, "ppv": 0.666667, "npv": 1.0,
    }  # fmt: skip
    (nobody,) = [each for each in found["operating_points"] if each["threshold"] == 0.05]
    assert nobody["npv"] is None
    assert found["conformal"] is None


def test_curves_are_the_librarys_and_lie_within_their_bands() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=150)
    logits = np.stack([np.zeros(150), truth + rng.normal(size=150)], axis=1)
    curves = of(VERDICT, logits, truth.astype(float))["curves"]
    (roc,), (pr,) = curves["roc"], curves["pr"]
    score = softmax(logits)[:, 1]
    assert roc["area"] == pytest.approx(metrics.roc_auc_score(truth, score), abs=1e-6)
    assert pr["area"] == pytest.approx(metrics.average_precision_score(truth, score), abs=1e-6)
    x, y, _ = metrics.roc_curve(truth, score)
    assert np.stack([roc["x"], roc["y"]]) == pytest.approx(np.stack([x, y]), abs=1e-4)
    for curve in (roc, pr):
        band = {name: np.array(values) for name, values in curve["band"].items()}
        assert (band["low"] <= band["high"]).all()
        inside = np.interp(band["x"], curve["x"], curve["y"])[5:-5]
        assert (band["low"][5:-5] <= inside + 0.03).all()
        assert (inside <= band["high"][5:-5] + 0.03).all()
    assert np.mean(np.subtract(roc["band"]["high"], roc["band"]["low"])) > 0.05


@pytest.mark.parametrize("label", [VERDICT, TONE], ids=lambda label: label.kind)
def test_where_scores_are_equal_curves_slope_as_their_areas_say(label: LabelSpec) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(len(label.classes), size=300)
    likely = np.where(rng.random(300) < 0.3, 0.0, truth + rng.normal(size=300)).round()
    logits = likely[:, None] * np.arange(len(label.classes)) / 2
    roc, *_ = of(label, logits, truth.astype(float))["curves"]["roc"]
    assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(roc["area"], abs=2e-3)
    if "band" in roc:
        drawn = np.interp(roc["band"]["x"], roc["x"], roc["y"])[1:-1]
        assert (roc["band"]["low"][1:-1] <= drawn).all()
        assert (drawn <= roc["band"]["high"][1:-1]).all()


def test_bands_are_those_of_patients_however_often_each_is_seen() -> None:
    rng = np.random.default_rng(0)
    truth, patients = rng.integers(2, size=60), np.arange(60).astype(str)
    logits = np.stack([np.zeros(60), truth + rng.normal(size=60)], axis=1)
    (once,) = of(VERDICT, logits, truth.astype(float))["curves"]["roc"]
    seen = rng.permutation(np.repeat(np.arange(60), 4))
    often = logits[seen], truth[seen].astype(float)
    (same,) = of(VERDICT, *often, groups=patients[seen])["curves"]["roc"]
    (narrow,) = of(VERDICT, *often)["curves"]["roc"]
    width = {
        name: np.mean(np.subtract(curve["band"]["high"], curve["band"]["low"]))
        for name, curve in (("once", once), ("same", same), ("narrow", narrow))
    }
    assert width["same"] == pytest.approx(width["once"], rel=0.1)
    assert width["narrow"] < 0.7 * width["once"]


def test_one_patient_alone_has_no_band() -> None:
    truth = np.arange(40) % 2
    logits = np.stack([np.zeros(40), truth + np.sin(np.arange(40))], axis=1)
    (roc,) = of(VERDICT, logits, truth.astype(float), groups=np.full(40, "Ann"))["curves"]["roc"]
    assert roc["area"] > 0.5
    assert "band" not in roc


def test_the_mean_curve_is_that_of_the_classes_that_have_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=60)  # the third class never is true
    logits = rng.normal(size=(60, 3)) + np.eye(3)[truth]
    mean, *classes = of(TONE, logits, truth.astype(float))["curves"]["roc"]
    assert [each["name"] for each in classes] == list(TONE.classes[:2])
    assert mean["area"] == pytest.approx(np.mean([each["area"] for each in classes]), abs=1e-6)
    assert mean["y"][-1] == 1


def test_many_classes_are_shown_by_the_pairs_mixed_up_most() -> None:
    many = LabelSpec(kind="multiclass", name="m", classes=tuple(f"c{i}" for i in range(40)))
    guess, truth = np.arange(200) % 40, np.arange(200) % 40
    truth[:3] = 39  # taken for 0, 1 and 2
    truth[40] = 39  # for 0 once more
    found = of(many, 5 * np.eye(40)[guess], truth.astype(float))
    first = found["confusion"]["pairs"][0]
    assert first == {"true": "c39", "guess": "c0", "cases": 2, "of": 9}
    assert len(found["curves"]["roc"]) == 1


def test_reliability_before_the_temperature_is_of_the_logits_as_they_are() -> None:
    p = np.array([0.95, 0.95, 0.95, 0.95, 0.15])
    logits = np.log(np.stack([1 - p, p], axis=1))
    found = of(VERDICT, logits, np.array([1.0, 1, 1, 0, 0]), temperature=2.0)["calibration"]
    last = found["before"]["bins"][9]
    assert (last["cases"], last["mean"], last["observed"]) == (4, 0.95, 0.75)
    assert last["interval"] == pytest.approx([0.3006, 0.9544], abs=1e-3)
    milder = softmax(logits / 2)[:, 1]
    assert found["after"]["mean_probability"] == pytest.approx(milder.mean(), abs=1e-6)
    assert found["after"]["bins"][8]["cases"] == 4
    assert found["before"]["observed"] == 0.6


def test_a_share_of_no_cases_has_no_interval() -> None:
    assert wilson(0, 0) is None
    low, high = wilson(0, 10) or (None, None)
    assert (low, high) == (0, pytest.approx(0.2775, abs=1e-3))


def test_coverage_counts_cases_over_all_and_by_pattern() -> None:
    outputs, targets = np.array([[0.0], [0.0], [0.0], [0.0]]), np.array([0.5, 1.5, -0.9, 3.0])
    scores = tuple(np.linspace(0.05, 1, 20))
    found = of(STARS, outputs, targets, scores=scores)["conformal"]
    assert found["all"]["covered"] == 0.5  # 0.5 and 0.9 lie within 0.95
    assert found["all"]["mean_size"] == pytest.approx(1.9)
    assert found["by_presence"]["image"]["covered"] == 0
    assert found["by_presence"]["text"]["cases"] == 3


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_thousands_of_cases_fit_a_small_page(kind: str, told: Told) -> None:
    label = LABELS[kind]
    rng = np.random.default_rng(1)
    targets = rng.integers(2, size=5000).astype(float)
    logits = rng.normal(size=(5000, label.outputs)) + targets[:, None]
    log = History(losses={"loss": (np.arange(9999.0), rng.normal(size=9999))})
    report = told(kind)[0] | of(label, logits, targets)
    html = page(report, logits[:, 0], targets, {"Fine-tuning": log})
    assert 30_000 < len(html) < 500_000
    if kind == "regression":
        assert "800 of 5,000 cases, chosen at random" in html


# ---- how the training went ----------------------------------------------------------------------


def test_a_log_is_read_whatever_else_it_holds(tmp_path: Path) -> None:
    lines: list[Any] = [
        {"step": 0, "epoch": 0, "loss": 4, "losses": {"task": 4, "new": None}, "lr": 0.1, "mfu": 1},
        {"step": 1, "epoch": 0, "loss": 3.0, "losses": {"task": 3.0}, "lr": 0.2},
        {"step": 1, "epoch": 0, "loss": 2.0, "losses": {"task": 2.0}, "lr": 0.3},
        {"epoch": 0, "validation": {"auroc": 0.6, "mae": 3.0, "other": None}},
        {"epoch": 1, "validation": {"auroc": 0.8, "mae": 2.0}},
        {"epoch": 2, "validation": {"auroc": 0.8, "mae": 2.5}},
        {"resumed": True},
        [1, 2],
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 2, "lo'
    (tmp_path / LOG).write_text(text)
    found = read_history(tmp_path)
    assert found is not None
    assert set(found.losses) == {"loss", "task"}
    assert found.losses["loss"][1].tolist() == [4, 2]  # a step taken again counts once
    assert found.lr is not None
    assert found.lr[1].tolist() == [0.1, 0.3]
    assert found.best_epoch("auroc") == 1  # the first of equals, as fine-tuning keeps it
    assert found.best_epoch("mae") == 1
    assert found.best_epoch("brier") is None
    assert read_history(tmp_path / "nowhere") is None
    (tmp_path / LOG).write_text("")
    assert read_history(tmp_path) is None


def test_smoothing_keeps_a_level_and_thins_a_long_training() -> None:
    x, y = smoothed((np.arange(10_000.0), np.full(10_000, 3.0)))
    assert len(x) == len(y) == 300
    assert y == pytest.approx(3)
    steps, values = smoothed((np.arange(2.0), np.array([1.0, 5.0])))
    assert steps.tolist() == [0, 1]
    assert values.tolist() == [1, 5]


def test_errors_as_large_as_float32_tells_apart_are_drawn() -> None:
    assert "<svg" in error_histogram_panel(np.full(50, 1e8, np.float32), "s")
