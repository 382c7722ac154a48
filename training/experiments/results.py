"""What came out of a table's runs: means over seeds, and differences seed by seed."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from lanistr.decision import Decision
from lanistr.document import read_yaml
from lanistr.errors import ConfigError, DataError, TaskError
from training.baselines import REPORT
from training.bootstrap import percentile_interval, resampled
from training.cases import draw_labelled
from training.data.store import Dataset, data_hash
from training.experiments.jobs import Job
from training.experiments.setup import LeftOut, Row, Setup
from training.experiments.tables import WHOLE
from training.initial import open_data
from training.metrics import Floats, check_metric, goodness, known
from training.outputs import outputs_file, read_outputs
from training.recipe import FinetuneRecipe
from training.report.history import read_history
from training.run import versions

log = logging.getLogger(__name__)

Json = Mapping[str, Any]

FORMAT = 1
"""Of a table for programs; another one has a new number."""

NOBODY = "nobody"
"""As whose figures are asked for: no column of the paper's."""

_PUBLISHED = Path(__file__).with_name("published.yaml")


def summary(
    table: str,
    setup: Setup,
    lines: Sequence[Row | LeftOut],
    failed: Mapping[Job, str],
    work: Path,
    published: str | None,
) -> dict[str, Any]:
    """Return all that a table says, for programs.

    Args:
        table: its name.
        setup: on what, and how, its rows were trained.
        lines: of the table.
        failed: why, for each job that is not done.
        work: where the runs stand.
        published: whose figures of the paper stand beside.

    Returns:
        ``rows``, in the table's order: of each its ``runs`` by seed with all ``metrics`` of the
        test split, ``mean`` and ``std`` of the task's metric, the 95% ``interval`` of the mean
        over seeds (Student's t), and ``difference`` from LANISTR's row, paired by seed, likewise;
        and what the paper has. Both have a ``test_interval`` too: of the mean of these very runs,
        over the test cases (bootstrap), None where one was judged before outputs were stored. A
        run says how many labelled ``cases`` it learned from in how many ``steps``, and, where
        several were ``tried``, what each came to. A row without all its runs has ``failed``
        instead, and one that these data cannot fill ``why``.
    """
    dataset = Dataset.open(setup.data)
    metric = dataset.task.metric
    beside = published_figures(table, published)
    rows = [_row(line, failed, work, setup, metric) for line in lines]
    drawn = {row["key"]: _resampled(row["runs"], work, dataset) for row in rows if "runs" in row}
    whole = next((each for each in rows if each["key"] == WHOLE and "runs" in each), None)
    for row in rows:
        row["published"] = beside["rows"].get(row["key"]) if beside else None
        if "runs" not in row:
            continue
        of_row = drawn[row["key"]]
        row["test_interval"] = _middle(of_row)
        if whole and row is not whole:
            ours, theirs = (figures(each, metric) for each in (row, whole))
            of_whole = drawn[WHOLE]
            apart = None if of_row is None or of_whole is None else of_row - of_whole
            row["difference"] = said_of(np.subtract(ours, theirs).tolist())
            row["difference"]["test_interval"] = _middle(apart)
    return identity(table, setup) | {
        "format": FORMAT,
        "task": dataset.task.name,
        "metric": metric,
        "data": str(setup.data),
        "pretraining_data": str(setup.pretrained_on),
        "worded": setup.worded and str(setup.worded),
        "worded_pretraining_data": setup.worded_unlabelled and str(setup.worded_unlabelled),
        "synthetic": dataset.synthetic,
        "cases": dataset.card.cases,
        "labelled": dataset.card.labelled,
        "seeds": list(setup.seeds),
        "published": {"name": published, "metric": beside["metric"]} if beside else None,
        "versions": versions(),
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rows": rows,
    }


def identity(table: str, setup: Setup) -> dict[str, Any]:
    """Return what makes a table this one and no other, but for its rows and seeds."""
    hashes = {
        "data_hash": setup.data,
        "pretraining_data_hash": setup.pretrained_on,
        "worded_hash": setup.worded,
        "worded_pretraining_data_hash": setup.worded_unlabelled,
    }
    return {
        "table": table,
        **{name: path and data_hash(Dataset.open(path)) for name, path in hashes.items()},
        "category": setup.category if setup.scale == "paper" else None,
        "labels": setup.labels,
        "scale": setup.scale,
        "pretrain_once": setup.pretrain_once,
        "rates": list(setup.rates),
        "settings": {
            "pretraining": list(setup.pretrain),
            "fine-tuning": list(setup.finetune),
            "fine-tuning after pretraining": list(setup.pretrained),
        },
    }


def _row(
    line: Row | LeftOut, failed: Mapping[Job, str], work: Path, setup: Setup, metric: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"key": line.key, "name": line.name}
    if isinstance(line, LeftOut):
        return row | {"why": line.why}
    jobs = [job for candidates in line.by_seed for job in candidates]
    broken = {job.folder: failed[job] for job in jobs if job in failed}
    if broken:
        return row | {"failed": broken}
    row["runs"] = []
    for candidates in line.by_seed:
        found = {job: {"run": job.folder} | _metrics(work / job.folder) for job in candidates}
        best = chosen(candidates, work, metric)
        tried = {"tried": list(found.values())} if len(found) > 1 else {}
        row["runs"].append(found[best] | _learned(best, work, setup) | tried)
    return row | said_of(figures(row, metric))


def chosen(candidates: Sequence[Job], work: Path, metric: str) -> Job:
    """Return that run of a seed which the validation split prefers."""
    if len(candidates) == 1:  # which may be no run of ours, and without a history
        return candidates[0]
    return max(candidates, key=lambda job: best_validation(work / job.folder, metric))


def _metrics(folder: Path) -> dict[str, dict[str, float | None]]:
    """Return a run's ``metrics``, and what differs where the ``most_likely`` classes count."""
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    others = report.get("most_likely")
    return {"metrics": report["all"]["metrics"]} | ({"most_likely": others} if others else {})


def _learned(job: Job, work: Path, setup: Setup) -> dict[str, int | None]:
    """Return from how many labelled cases was learned, and in how many steps, where it has any."""
    if not job.recipe:
        cases = draw_labelled(Dataset.open(setup.data), setup.labels, seed=0)
        return {"cases": len(cases), "steps": None}
    recipe = FinetuneRecipe.model_validate_json(job.recipe)
    assert job.judged_on is not None, "a training is"
    dataset = open_data(job.judged_on, recipe)
    cases = draw_labelled(dataset, recipe.labels, recipe.seed, complete=recipe.complete)
    stages = [job, *(each for each in job.needs if "training.finetune" in each.command)]
    taken = [_steps(work / each.folder) for each in stages]
    known = [each for each in taken if each is not None]
    return {"cases": len(cases), "steps": sum(known) if len(known) == len(taken) else None}


def _steps(run: Path) -> int | None:
    """Return how many steps a run took; None where its log is gone."""
    history = read_history(run)
    return None if history is None else 1 + int(history.losses["loss"][0][-1])


def best_validation(run: Path, metric: str) -> float:
    """Return how good a run was on the validation split: more is better.

    Its best epoch; or the mean of several that it handed out, which may be better than that. Of
    such a mean runs of old do not tell: then it is the best epoch, with a warning.
    """
    history = read_history(run)
    if history is not None and metric in history.mean_validation:
        return goodness(history.mean_validation, metric)
    if history is None or metric not in history.validation:
        return -np.inf
    if history.mean_of > 1:
        said = (
            "%s averaged the weights of several validations but did not record their %s: using "
            "its best epoch's"
        )
        log.warning(said, run, metric)
    _, values = history.validation[metric]
    return max(goodness({metric: value}, metric) for value in values.tolist())


def _resampled(runs: Sequence[Json], work: Path, dataset: Dataset) -> Floats | None:
    """Return the mean over runs of the task's metric, for each draw of test cases.

    None where what one said of them is not stored.
    """
    test, task = dataset.rows("test", labelled=True), dataset.task
    targets, groups = dataset.labels[test], dataset.groups_of(test)
    drawn = []
    for run in runs:
        path = work / run["run"] / outputs_file("test")
        if not path.is_file():
            return None
        positions, outputs = read_outputs(path)
        # Of data with words in the place of rows too, see `_check` of the command.
        assert np.array_equal(positions, test), "the same cases in the same order"
        decision = _decision(work / run["run"] / REPORT)
        drawn.append(resampled(outputs, targets, task.label, groups, decision)[task.metric])
    mean: Floats = np.mean(drawn, axis=0)
    return mean


def _decision(report: Path) -> Decision:
    """Return by which decision a run was judged; those of old predicted the most likely class."""
    said = json.loads(report.read_text(encoding="utf-8"))
    return Decision.parse(said.get("decision", {}), DataError, str(report), within=("decision",))


def _middle(drawn: Floats | None) -> list[float | None] | None:
    """Return the 95% interval of what draws came to; None where there are none."""
    return None if drawn is None else [known(each) for each in percentile_interval(drawn)]


def figures(row: Json, metric: str, *, most_likely: bool = False) -> list[float]:
    """Return a figure of each run of a row; NaN where it is not determined.

    Of the predicted classes, or of the most likely ones.
    """
    values = []
    for run in row["runs"]:
        others = run.get("most_likely", {}) if most_likely else {}
        value = (run["metrics"] | others)[metric]
        values.append(np.nan if value is None else value)
    return values


def said_of(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation and the 95% interval of the mean; None where undetermined."""
    mean, count = float(np.mean(values)), len(values)
    if not np.isfinite(mean):
        return {"mean": None, "std": None, "interval": None}
    if count < 2:
        return {"mean": mean, "std": None, "interval": None}
    std = float(np.std(values, ddof=1))
    return {"mean": mean, "std": std, "interval": list(interval(values))}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the mean of two values or more, by Student's t."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    reach = float(student.ppf(0.975, len(values) - 1)) * error
    return float(mean - reach), float(mean + reach)


def published_beside(table: str, asked: str | None, setup: Setup) -> str | None:
    """Return whose figures of the paper stand beside a table; None: nobody's.

    Unless one is asked for, the category's, else the table's first, if the paper's metric there is
    one of the task's.

    Raises:
        ConfigError: the paper has none by the name that is asked for.
        DataError, TaskError: it has, by a metric that the task has not.
    """
    if asked == NOBODY:
        return None
    known = _published()[table]
    name = asked or (setup.category if setup.category in known else next(iter(known)))
    found = published_figures(table, name)
    assert found is not None, "there is a name"
    dataset = Dataset.open(setup.data)
    test = dataset.labels[dataset.rows("test", labelled=True)]
    try:
        check_metric(found["metric"], test, dataset.task.label, "test")
    except (DataError, TaskError):
        if asked:
            raise
        return None
    return name


def published_figures(table: str, name: str | None) -> Json | None:
    """Return the paper's figures of a table: ``metric``, and ``rows`` by key, in percent.

    Raises:
        ConfigError: the paper has none by that name.
    """
    if name is None:
        return None
    known = _published()[table]
    if name not in known:
        raise ConfigError(
            "the paper's table has no such figures",
            field="--beside",
            seen=name,
            accepted=", ".join([*known, NOBODY]),
        )
    found: Json = known[name]
    return found


def _published() -> Json:
    found: Json = read_yaml(_PUBLISHED.read_text(encoding="utf-8"))
    return found
