"""MODEL_CARD.md: what a person should know before trusting a bundle."""

from collections.abc import Mapping, Sequence
from typing import Any

from lanistr.decision import Decision
from lanistr.manifest import Build
from lanistr.tasks import TaskSpec
from training.bootstrap import drawn_again
from training.data.store import Dataset
from training.metrics import shown
from training.run import Run

_DEMO = """> **Demonstration weights.** Trained on synthetic records. The predictions of this
> model mean nothing about any patient, product or person.
"""


def model_card(
    run: Run,
    dataset: Dataset,
    report: Mapping[str, Any],
    builds: Sequence[Build],
    measured: int,
    license: str,
) -> str:
    """Return the card as Markdown.

    Args:
        run: the fine-tuned run.
        dataset: what it was tested on.
        report: of `training.evaluate`, on the test split: `about` and what `evaluate` returns.
        builds: of the bundle.
        measured: cases that their metric rests on.
        license: of the weights.
    """
    task = run.task
    lines = [f"# {task.title}", ""]
    if run.config.synthetic:
        lines += [_DEMO]
    if description := task.description.strip():
        lines += [description, ""]
    lines += [
        "## Data",
        "",
        *_data(dataset, report["about"]),
        *(f"- {caution}" for caution in report["about"]["cautions"]),
        "",
        "## Results on the test split",
        "",
        f"With 95% bootstrap intervals over {drawn_again(report['all'])}.",
        "",
        *_table({"all cases": report["all"]}, "cases"),
        "",
        "### By modalities present",
        "",
        *_table(report["by_presence"], "modalities"),
    ]
    for column, groups in report["by_subgroup"].items():
        lines += ["", f"### By {column}", "", *_table(groups, column)]
    lines += [
        "",
        "## Builds",
        "",
        f"{task.metric} was measured on {measured} cases of the test split.",
    ]
    lines += ["", *_builds(builds, task.metric)]
    lines += [
        "",
        "## Use and limits",
        "",
        "- For research and for validation on your own data. Not a medical device; do not base",
        "  decisions about people on it.",
        "- A missing modality is left out of the computation, not imputed.",
        "- Probabilities and conformal sets were calibrated on the validation split of the "
        "training",
        "  data, which was also used to choose the best epoch: coverage is slightly",
        "  optimistic. Check both on your own data.",
        *_naming(task, report),
        "",
        "## Licence of the weights",
        "",
        license,
        "",
    ]
    return "\n".join(lines)


def _naming(task: TaskSpec, report: Mapping[str, Any]) -> list[str]:
    """Say how classes are predicted, if not by what is most likely."""
    decision = Decision.model_validate(report["decision"])
    if decision.likeliest:
        return []
    how = decision.in_words(task.label)
    return [f"- Predicted (`label`) is {how}; chosen there, too, for the best {task.metric}."]


def _data(dataset: Dataset, about: Mapping[str, Any]) -> list[str]:
    """Say what the model was trained and tested on; of data that are not at hand, the hash alone.

    Args:
        dataset: what it was tested on.
        about: of `training.evaluate.about`.
    """
    card, trained_on, measured_on = dataset.card, about["trained_on_hash"], about["data_hash"]
    same = trained_on == measured_on
    splits = list(card.cases) if same else [about["split"]]
    missing = ", ".join(f"{m} {card.missing[m]:.0%}" for m in dataset.task.modalities)
    said = [
        f"Cases: {', '.join(f'{card.cases[each]} {each}' for each in splits)}; "
        f"labelled: {', '.join(f'{card.labelled[each]} {each}' for each in splits)}.",
        f"Missing: {missing}.",
        f"Source: {card.source.get('from', 'unknown')}; sha256 of `dataset.json` "
        f"{measured_on[:12]}….",
    ]
    if same:
        said.append(
            "No group (patient, product) is in more than one split."
            if dataset.grouped
            else "No groups were named: a patient or product may be in several splits."
        )
        return [f"- {each}" for each in said]
    return [
        "- Trained on other data than it was tested on; sha256 of their `dataset.json`: "
        f"{trained_on[:12]}….",
        *(f"- Tested on: {each}" for each in said),
    ]


def _builds(builds: Sequence[Build], metric: str) -> list[str]:
    """Say of each build how large it is and how far from the model that was trained."""
    rows = [
        f"| build | MiB | largest difference | {metric} | points lost |",
        "|---|---:|---:|---:|---:|",
    ]
    for build in builds:
        value = build.metrics.get(metric)
        cells = [
            f"{build.bytes / 2**20:.1f}",
            f"{max(build.parity.values()):.1e}",
            "-" if value is None else shown(value, 4),
            "-" if build.fall is None else f"{build.fall:.2f}",
        ]
        rows.append(f"| {build.name} | " + " | ".join(cells) + " |")
    return rows


def _table(groups: Mapping[str, Mapping[str, Any]], heading: str) -> list[str]:
    names = list(next(iter(groups.values()))["metrics"])
    rows = [
        f"| {heading} | n | " + " | ".join(names) + " |",
        "|---|---:|" + "---:|" * len(names),
    ]
    for group, found in groups.items():
        cells = [_cell(found["metrics"][n], found["intervals"][n]) for n in names]
        rows.append(f"| {_in_table(group)} | {found['cases']} | " + " | ".join(cells) + " |")
    return rows


def _in_table(words: str) -> str:
    """Write words so that they stay one cell of a Markdown table."""
    return " ".join(words.split()).replace("|", "\\|")


def _cell(value: float | None, interval: list[float | None]) -> str:
    if value is None:
        return "-"
    low, high = interval
    if low is None or high is None:
        return shown(value)
    return f"{shown(value)} ({shown(low)} to {shown(high)})"
