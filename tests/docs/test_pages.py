"""What pages list is what the code has: problems, keys of a task file, measured settings."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks.physionet2012 import PRETRAINING
from lanistr.document import read_yaml
from lanistr.fields import CategoryField, NumberField
from lanistr.tasks import LabelSpec, TaskSpec
from service.api.problems import STATUS
from training.metrics import measure

DOCS = Path(__file__).resolve().parents[2] / "docs"


def section(page: str, heading: str) -> str:
    text = (DOCS / page).read_text("utf-8")
    return re.split(r"(?m)^##+ ", text.split(f"# {heading}\n")[1])[0]


def table(text: str) -> list[list[str]]:
    """Return the rows of the only table in a text, without its head, by cell."""
    lines = [each[1:-1] for each in text.splitlines() if each.startswith("|")]
    return [[cell.strip() for cell in each.split("|")] for each in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([a-z0-9_]+)`", cell)


LABELS = section("bring-your-data.md", "Labels")


def test_every_problem_stands_with_its_status():
    rows = table(section("api.md", "Problems"))
    said = [(code, int(status)) for status, _, codes in rows for code in names(codes)]
    assert len(said) == len(dict(said))
    assert dict(said) == {code: status for code, (status, _) in STATUS.items()}


def test_every_key_of_a_field_stands_under_its_kind():
    said: dict[str, set[str]] = {}
    kind = ""
    for first, key, _ in table(section("bring-your-data.md", "Fields")):
        kind = first or kind
        said.setdefault(kind, set()).update(names(key))
    for kind, fields in ("number", NumberField), ("category", CategoryField):
        assert said[kind] | said["both"] == fields.model_fields.keys() - {"kind"}


@pytest.mark.parametrize("line", re.findall(r"(?m)^label: .*", LABELS))
def test_a_label_is_one_and_has_the_metrics_that_stand_there(line: str):
    label = LabelSpec.model_validate(read_yaml(line)["label"])
    metrics = dict(table(LABELS))
    targets = np.arange(label.outputs, dtype=np.float64)
    found = measure(np.eye(label.outputs), targets, label)
    chosen = set(get_args(TaskSpec.model_fields["metric"].annotation))
    assert set(names(metrics[label.kind])) == chosen & found.keys()


def test_there_is_a_label_of_every_kind():
    kinds = re.findall(r"(?m)^label: \{kind: (\w+)", LABELS)
    assert kinds == list(get_args(LabelSpec.model_fields["kind"].annotation))


def test_physionet_is_pretrained_as_it_was_measured():
    command = section("physionet2012.md", "PhysioNet Challenge 2012").split("training.finetune")[0]
    assert set(re.findall(r"--set (\S+)", command)) == {*PRETRAINING, "optim.epochs=30"}
