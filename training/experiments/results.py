"""What came out of a table's runs: means over seeds, and differences seed by seed."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from lanistr.document import read_yaml
from lanistr.errors import ConfigError
from training.data.store import Dataset, data_hash
from training.experiments.jobs import Job
from training.experiments.tables import WHOLE, LeftOut, Row, Setup
from training.foreign import REPORT
from training.metrics import goodness
from training.report.history import read_history
from training.run import versions

Json = Mapping[str, Any]

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
        and what the paper has. A row without all its runs has ``failed`` instead, and one that
        these data cannot fill ``why``.
    """
    dataset = Dataset.open(setup.data)
    metric = dataset.task.metric
    beside = published_figures(table, published)
    rows = [_row(line, failed, work, metric) for line in lines]
    whole = next((each for each in rows if each["key"] == WHOLE and "runs" in each), None)
    for row in rows:
        row["published"] = beside["rows"].get(row["key"]) if beside else None
        if whole and row is not whole and "runs" in row:
            ours, theirs = (_figures(each, metric) for each in (row, whole))
            row["difference"] = said_of(np.subtract(ours, theirs).tolist())
    return identity(table, setup) | {
        "task": dataset.task.name,
        "metric": metric,
        "data": str(setup.data),
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
    return {
        "table": table,
        "data_hash": data_hash(Dataset.open(setup.data)),
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


def _row(line: Row | LeftOut, failed: Mapping[Job, str], work: Path, metric: str) -> dict[str, Any]:
    row: dict[str, Any] = {"key": line.key, "name": line.name}
    if isinstance(line, LeftOut):
        return row | {"why": line.why}
    jobs = [job for candidates in line.by_seed for job in candidates]
    broken = {job.folder: failed[job] for job in jobs if job in failed}
    if broken:
        return row | {"failed": broken}
    row["runs"] = [chosen(candidates, work, metric) for candidates in line.by_seed]
    return row | said_of(_figures(row, metric))


def chosen(candidates: Collection[Job], work: Path, metric: str) -> dict[str, Any]:
    """Return the figures of that run of a seed which the validation split prefers."""
    best = next(iter(candidates))
    if len(candidates) > 1:
        best = max(candidates, key=lambda job: best_validation(work / job.folder, metric))
    folder = work / best.folder
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return {"run": best.folder, "metrics": report["all"]["metrics"]}


def best_validation(run: Path, metric: str) -> float:
    """Return how good a run's best epoch was on the validation split: more is better."""
    history = read_history(run)
    if history is None or metric not in history.validation:
        return -np.inf
    _, values = history.validation[metric]
    return max(goodness({metric: value}, metric) for value in values.tolist())


def _figures(row: Json, metric: str) -> list[float]:
    return [np.nan if (v := each["metrics"][metric]) is None else v for each in row["runs"]]


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


def published_names(table: str) -> list[str]:
    """Return whose figures the paper has for a table."""
    return list(_published()[table])


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
            accepted=", ".join(known),
        )
    found: Json = known[name]
    return found


def _published() -> Json:
    found: Json = read_yaml(_PUBLISHED.read_text(encoding="utf-8"))
    return found
