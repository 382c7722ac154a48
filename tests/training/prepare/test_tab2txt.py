"""Tab2Txt: rows as words in front of the notes, by what the task says of the fields alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lanistr.errors import ConfigError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.sample import Quantity, Sample
from lanistr.tasks import TaskSpec, find_task
from training.data.store import Dataset
from training.prepare.__main__ import main
from training.prepare.lazy import Shared
from training.prepare.tab2txt import Tab2Txt

STAY = find_task("mortality")


def notes(row: Any, *own: str, log: IssueLog | None = None) -> list[str]:
    parts = ({Modality.TEXT: own} if own else {}) | ({Modality.TABULAR: row} if row else {})
    sample = Tab2Txt(STAY)(Sample(parts), log or IssueLog())
    assert Modality.TABULAR not in sample.parts
    return list(sample.parts.get(Modality.TEXT, ()))


def test_a_row_is_spelled_out_field_by_field_in_front_of_every_note():
    row = {"gender": "F", "age": 71.0, "care_unit": None}
    assert notes(row, "intubated", "stable") == [
        "age 71, gender F. intubated",
        "age 71, gender F. stable",
    ]


def test_a_case_without_notes_has_the_words_for_one_and_one_without_a_row_stays_as_it_is():
    assert notes({"age": 71}) == ["age 71."]
    assert notes({}, "stable") == ["stable"]
    assert notes({"age": 12000}, "stable") == ["stable"]


def test_values_are_cleaned_as_those_of_rows_are_and_what_was_done_is_told():
    log = IssueLog()
    row = {"hours_before_icu": Quantity(90, "min"), "age": 12000, "gender": "female"}
    assert notes(row, "stable", log=log) == ["gender F, hours before icu 1.5. stable"]
    assert {issue.field for issue in log.issues} == {"tabular.age", "tabular.hours_before_icu"}


@pytest.mark.parametrize(
    ("value", "spelled"),
    [(1e-5, "1e-05"), (-0.00056, "-0.00056"), (0.0, "0"), (0.0012345, "0.0012"), (71.5, "71.5")],
)
def test_a_number_is_spelled_so_that_something_is_left_of_it(value: float, spelled: str):
    fields = {"rate": {"kind": "number"}}
    task = TaskSpec.model_validate(STAY.model_dump() | {"tabular": {"fields": fields}})
    (note,) = Tab2Txt(task)(Sample({Modality.TABULAR: {"rate": value}}), IssueLog()).parts["text"]
    assert note == f"rate {spelled}."


def test_late_notes_stay_late_and_are_others_with_another_row():
    reads = []

    def read() -> list[str]:
        reads.append(1)
        return ["stable"]

    words = Tab2Txt(STAY)
    found = [
        words(
            Sample({Modality.TEXT: Shared("n1", read), Modality.TABULAR: {"age": age}}),
            IssueLog(),
        ).parts[Modality.TEXT]
        for age in (40, 40, 50)
    ]
    assert reads == []
    keys = [each.key for each in found]
    assert keys[0] == keys[1] != keys[2]
    assert list(found[2]) == ["age 50. stable"]


def test_a_data_set_of_words_has_the_same_cases_and_no_rows(
    stays: Path, tmp_path: Path, command: Callable[..., str]
):
    words = ("synthetic", "--task", "mortality", "--image-size", 16)
    sizes = ("--samples", 125, "--vocabulary-size", 400, "--max-tokens", 64)
    command(main, *words, *sizes, "--tab2txt", "--out", tmp_path / "words")
    plain, worded = Dataset.open(stays), Dataset.open(tmp_path / "words")
    assert worded.task.modalities == (Modality.TEXT, Modality.IMAGE, Modality.TIMESERIES)
    assert worded.card.source["tab2txt"]
    for split in ("train", "validation", "test"):
        rows = plain.rows(split), worded.rows(split)
        assert plain.ids(rows[0]) == worded.ids(rows[1])
        assert (plain.labels[rows[0]] == worded.labels[rows[1]]).all()
    assert worded.card.missing["text"] < plain.card.missing["text"]

    # Other records, with the vocabulary of these.
    again, words = tmp_path / "again", (*words, "--samples", 12)
    command(main, *words, "--tab2txt", "--preprocessing", tmp_path / "words", "--out", again)
    vocabularies = ((each / "tokenizer.json").read_bytes() for each in (tmp_path / "words", again))
    assert next(vocabularies) == next(vocabularies)
    with pytest.raises(ConfigError, match="--preprocessing"):
        command(main, *words, "--preprocessing", tmp_path / "words", "--out", tmp_path / "refused")


def test_a_task_without_rows_has_none_to_put_into_words():
    with pytest.raises(ConfigError, match="--tab2txt: the task mortality has no table row"):
        Tab2Txt(STAY.model_copy(update={"tabular": None}))
