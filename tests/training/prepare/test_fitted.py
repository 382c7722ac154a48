"""Preparing for a model pretrained elsewhere: its vocabulary, scales and codes are taken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lanistr.errors import BundleError, ConfigError
from lanistr.tasks import find_task
from tests.training.prepare import mimic_files, test_physionet2012
from tests.training.prepare.tables import (
    COLUMNS,
    SOURCE,
    TASK,
    as_csv,
    place,
    prepare_table,
    rows,
    write_task,
)
from training.compatibility import check_fits
from training.data.store import Dataset
from training.prepare.__main__ import KINDS, _parser
from training.prepare.fitted import take_fitted
from training.run import Run

FITTED = ("preprocessing.json", "tokenizer.json")


def run(kind: str, out: Path, *options: object) -> Dataset:
    arguments = _parser().parse_args([kind, "--out", str(out), *map(str, options)])
    data = KINDS[kind].prepare(arguments)
    assert data is not None
    return data


def mimic_source(folder: Path, at: int) -> Path:
    """Write a hospital whose heart rates lie about a number and whose notes say it."""
    files = mimic_files.Files()
    for number in range(12):
        files.stay(number)
        files.chart(number, 1, 220045, at + number, valueuom="bpm")
        files.note(number, 2, f"ward number {at}")
    return files.write(folder / f"hospital-{at}")


def mimic_iv(folder: Path, out: str, at: int, *options: object) -> Dataset:
    source = mimic_source(folder, at)
    return mimic_files.prepare(source, folder / out, *map(str, options))


def physionet2012(folder: Path, out: str, at: int, *options: object) -> Dataset:
    raw = folder / f"raw-{at}"
    stay = (*test_physionet2012.STAY, f"02:00,HR,{at}")
    test_physionet2012.write(raw, dict.fromkeys(range(1, 21), stay))
    return run("physionet2012", folder / out, "--source", raw, "--sets", "a", *options)


def table(
    folder: Path, out: str, at: int, *options: object, task: dict[str, Any] | None = None
) -> Dataset:
    raw = folder / f"raw-{out}"
    raw.mkdir()
    cases = [{**row, "age": str(at + i), "note": f"seen {at}"} for i, row in enumerate(rows(8))]
    place(raw, {"cases.csv": as_csv(cases)})
    file = write_task(raw, task or TASK, SOURCE)
    data = prepare_table(raw / "cases.csv", file, folder / out, *map(str, options))
    assert data is not None
    return data


def synthetic(folder: Path, out: str, at: int, *options: object) -> Dataset:
    small = ("--samples", 10, "--image-size", 16, "--vocabulary-size", 300)
    return run("synthetic", folder / out, "--task", "mortality", "--seed", at, *small, *options)


@pytest.mark.parametrize("make", [mimic_iv, physionet2012, table, synthetic])
def test_every_kind_takes_what_was_fitted_on_other_records(
    tmp_path: Path, make: Callable[..., Dataset]
):
    elsewhere = make(tmp_path, "elsewhere", 60).folder
    own = make(tmp_path, "own", 90).folder
    taken = make(tmp_path, "taken", 90, "--preprocessing", elsewhere)
    for name in FITTED:
        if (elsewhere / name).is_file():
            state = (elsewhere / name).read_bytes()
            assert (taken.folder / name).read_bytes() == state != (own / name).read_bytes()
    assert taken.card.source["preprocessing"] == "fitted elsewhere"


def test_stays_of_one_hospital_fit_a_model_that_was_pretrained_on_others(
    tmp_path: Path, stays_pretrained: Path
):
    data = mimic_iv(tmp_path, "data", 60, "--preprocessing", stays_pretrained)
    check_fits(Run.open(stays_pretrained), data)


def test_a_table_all_of_whose_rows_are_for_testing_needs_nothing_to_learn_from(
    tmp_path: Path, usual: Dataset
):
    cases = [{**case, "fold": "test"} for case in rows()]
    place(tmp_path, {"cases.csv": as_csv(cases, columns=(*COLUMNS, "fold"))})
    file = write_task(tmp_path, TASK, {**SOURCE, "split": "fold"})
    options = ("--preprocessing", str(usual.folder))
    data = prepare_table(tmp_path / "cases.csv", file, tmp_path / "data", *options)
    assert data is not None
    assert data.splits == ["test"] * 6


def test_what_says_nothing_of_the_parts_values_may_differ(tmp_path: Path):
    elsewhere = table(tmp_path, "elsewhere", 60)
    fields = {
        name: {**field, "description": f"the {name} here"}
        for name, field in TASK["tabular"]["fields"].items()
    }
    task = {
        **TASK,
        "name": "others",
        "label": {**TASK["label"], "name": "outcome"},
        "text": {
            "description": "notes of another ward",
            "suspicions": [{"code": "letter", "detail": "a letter", "patterns": ["^dear"]}],
        },
        "tabular": {"fields": fields},
    }
    taken = table(tmp_path, "taken", 90, "--preprocessing", elsewhere.folder, task=task)
    assert taken.task.name == "others"


@pytest.mark.parametrize(
    ("field", "differs"),
    [
        ({"age": {"kind": "number", "unit": "months"}}, "tabular.fields.age.unit"),
        ({"weight": {"kind": "number"}}, "tabular.fields.weight.kind"),
    ],
)
def test_what_was_fitted_for_other_fields_is_refused_before_anything_is_read(
    tmp_path: Path, field: dict[str, Any], differs: str
):
    elsewhere = table(tmp_path, "elsewhere", 60)
    task = {**TASK, "tabular": {"fields": {**TASK["tabular"]["fields"], **field}}}
    file = write_task(tmp_path, task, SOURCE)
    out = tmp_path / "out" / "data"
    with pytest.raises(ConfigError, match="does not match the task stays") as caught:
        prepare_table(tmp_path / "none.csv", file, out, "--preprocessing", str(elsewhere.folder))
    assert (caught.value.code, caught.value.field) == ("bad_fit", "--preprocessing")
    assert differs in caught.value.seen
    assert not out.parent.exists()


def test_what_was_fitted_for_another_task_is_refused(tmp_path: Path):
    reviews = run("synthetic", tmp_path / "reviews", "--task", "rating", "--samples", 20)
    with pytest.raises(ConfigError, match="the task mortality") as caught:
        mimic_iv(tmp_path, "data", 60, "--preprocessing", reviews.folder)
    assert "tabular.fields" in caught.value.seen
    assert not (tmp_path / "data").exists()


def test_a_folder_without_fitted_preprocessing_is_refused(tmp_path: Path):
    task = find_task("mortality")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(ConfigError, match="no fitted preprocessing") as caught:
            take_fitted(folder, task)
        assert caught.value.seen == str(folder)


def test_damaged_preprocessing_is_refused(tmp_path: Path, stays_pretrained: Path):
    task = find_task("mortality")
    for name in ("task.json", *FITTED):
        (tmp_path / name).write_bytes((stays_pretrained / name).read_bytes())
    take_fitted(tmp_path, task)
    (tmp_path / "preprocessing.json").write_text("{}")
    with pytest.raises(BundleError, match="cannot read the preprocessing state"):
        take_fitted(tmp_path, task)
