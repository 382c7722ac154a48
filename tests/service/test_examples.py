"""The made-up cases of a task: every field takes its values, and slips are seen."""

import pytest

from lanistr.fields import NumberField
from lanistr.issues import IssueLog
from lanistr.preprocess import read_record
from lanistr.preprocess.values import cleaner
from lanistr.tasks import find_task
from service.examples import Example, examples

TASKS = [find_task(name) for name in ("mortality", "rating", "physionet2012")]


def cleaned(task, example: Example) -> list[str]:
    """Read a case and clean each of its values; return the codes of what was noticed."""
    log = IssueLog()
    sample = read_record(example.record, task, log)
    row = dict(sample.parts.get("tabular", {}))
    series = [each.values for each in sample.parts.get("timeseries", ())]
    for spec, values in [(task.tabular, [row]), (task.timeseries, series)]:
        fields = getattr(spec, "fields", getattr(spec, "variables", {}))
        for name, value in ((n, v) for each in values for n, v in each.items()):
            cleaner(fields[name])(value, name, log)
    return [each.code for each in log.issues]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_only_slips_are_noticed(task):
    for example in examples(task):
        codes = cleaned(task, example)
        if example.title == "With mistakes":
            assert set(codes) & {"out_of_range", "unit_converted"}
        else:
            assert codes == [], example.title


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_they_are_complete_and_incomplete_and_differ(task):
    found = examples(task)
    assert len({each.title for each in found}) == len(found)
    assert set(found[0].record) == set(found[1].record) == set(task.modalities)
    assert all(found[0].record[part] != found[1].record[part] for part in task.modalities)
    assert min(len(each.record) for each in found) == 1


def test_a_range_that_is_narrow_is_kept_to():
    task = find_task("physionet2012")
    narrow = NumberField(kind="number", range=(100.2, 100.8))
    row = task.tabular.model_copy(
        update={"fields": {"narrow": narrow, "free": NumberField(kind="number")}}
    )
    changed = task.model_copy(update={"tabular": row, "timeseries": None})
    for example in examples(changed)[:2]:
        assert cleaned(changed, example) == []
