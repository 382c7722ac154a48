"""The report as one HTML file: no script, nothing fetched, light and dark, on paper too.

Numbers come from the report as `training.evaluate` writes it to JSON; only the plots of single
cases and of the training need more.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from lanistr.decision import Decision
from lanistr.tasks import LabelSpec
from training.bootstrap import drawn_again
from training.metrics import DEFINITIONS, Floats
from training.report import plots, tables
from training.report.document import document
from training.report.history import Curve, History

Json = Mapping[str, Any]

_MOST_DOTS = 800
_LOSSES = {
    "mlm": "Masked words (mlm)",
    "mim": "Masked image patches (mim)",
    "mfm": "Masked fields (mfm)",
    "mtm": "Masked time steps (mtm)",
    "simmmm": "Similarity of masked and whole (simmmm)",
    "summary_timeseries": "Summary of time series (summary)",
    "shortcut": "Task, past fusion (shortcut)",
}


def page(
    report: Json, predicted: Floats, true: Floats, history: Mapping[str, History | None]
) -> str:
    """Return the page.

    Args:
        report: as it is written to `report-SPLIT.json`.
        predicted: (N,) numbers, drawn for regression only.
        true: (N,) numbers, drawn for regression only.
        history: of the trainings that led to the model, by their name; None: there is no log.
    """
    about = report["about"]
    metrics = _metrics(report)
    kind = about["label"]["kind"]
    sections: list[tuple[str, str]] = []
    if kind == "regression":
        sections.append(("Errors", _errors(report, predicted, true)))
    else:
        sections.append(("Discrimination", _discrimination(report)))
        sections.append(("Calibration", _calibration(report)))
        sections.append(("Confusion", _confusion(report)))
    if kind == "ordinal":
        sections.append(("Expected value", _expected(report)))
    sections.append(("Sets and intervals", _coverage(report)))
    sections.append(("By modalities present", _presence(report, metrics)))
    for column in report["by_subgroup"]:
        sections.append((f"By {column}", _subgroup(report, column, metrics)))
    for name, log in history.items():
        if log is not None:
            kept = about["metric"] if name == "Fine-tuning" else None
            sections.append((name, _training(f"log{len(sections)}", log, kept)))
    sections.append(("What the figures mean", _definitions(report, metrics)))
    title = f"{about['title']}: {about['run']} on {about['split']}"
    footer = (
        "For research and for validation on your own data. <b>Not a medical device</b>; do "
        "not base decisions about people on this model."
    )
    return document(title, _header(report), _summary(report, metrics), sections, footer)


# ---- top ----------------------------------------------------------------------------------------


def _header(report: Json) -> str:
    about = report["about"]
    cautions = "".join(
        f'<p class="caution" role="note">{escape(each)}</p>' for each in about["cautions"]
    )
    label = about["label"]
    unit = f" ({label['unit']})" if label["unit"] else ""
    classes = ", ".join(label["classes"])
    facts = {
        "Predicts": f"{label['name']}{unit}" + (f": {classes}" if classes else ""),
        "Run": about["run"],
        "Data": f"{about['data']}, sha256 {about['data_hash'][:12]}…",
        "Evaluated": about["created"],
        "Versions": ", ".join(f"{name} {each}" for name, each in about["versions"].items()),
    }
    if about["best_epoch"] is not None:
        best = f"best {tables.figure_name(about['metric'])} on validation"
        facts["Epoch kept"] = f"{about['best_epoch']}, {best}"
        if about["mean_of"] > 1:
            del facts["Epoch kept"]
            facts["Weights"] = f"mean over {about['mean_of']} validations, the {best}"
    listed = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    return (
        f'<p class="kind">Evaluation · {escape(about["split"])} split · '
        f"{report['all']['cases']:,} cases</p><h1>{escape(about['title'])}</h1>"
        '<p class="research">For research. Not a medical device.</p>'
        f"{cautions}<dl>{listed}</dl>"
    )


def _metrics(report: Json) -> list[str]:
    """Return the figures' names, the task's own first."""
    main = report["about"]["metric"]
    names = list(report["all"]["metrics"])
    return [main, *(each for each in names if each != main)] if main in names else names


def _summary(report: Json, metrics: Sequence[str]) -> str:
    group = report["all"]
    cards = "".join(
        f'<div class="card"><dt>{tables.figure_name(metric)}</dt>'
        f"<dd>{tables.figures_cell(group, metric)}</dd></div>"
        for metric in metrics
    )
    small = group["small"]
    warning = ""
    if small:
        warning = f'<p class="caution">{escape(small)}: too few to draw conclusions.</p>'
    rounds, drawn = report["bootstrap"]["rounds"], drawn_again(group)
    return (
        f'<section class="summary" aria-label="All cases">{warning}<dl class="cards">{cards}</dl>'
        f'<p class="note">With 95% intervals from {rounds:,} bootstrap samples of {drawn}.</p>'
        "</section>"
    )


# ---- kinds of label -----------------------------------------------------------------------------


def _discrimination(report: Json) -> str:
    curves = report["curves"]
    if not curves["roc"]:
        return "<p>All cases are of one class, so there is no curve.</p>"
    binary = report["about"]["label"]["kind"] == "binary"
    cases = report["all"]["cases"]
    share = curves["pr"][0]["cases"] / cases if binary else None
    figures = []
    for kind, title, area in (
        ("roc", "ROC", "AUROC"),
        ("pr", "Precision and recall", "average precision"),
    ):
        legend = [(n, f"{c['name']}: {area} {c['area']:.3f}") for n, c in enumerate(curves[kind])]
        note = "Band: pointwise 95% bootstrap interval. " if binary else ""
        if not binary:
            note = "Each class against the rest. "
        if kind == "roc":
            note += "Dashed: chance."
        elif share is not None:
            note += f"Dashed: chance, the share of positive cases ({share:.1%})."
        figures.append(_figure(title, plots.curves_panel(kind, curves[kind], share), note, legend))
    return f'<div class="grid">{"".join(figures)}</div>'


def _calibration(report: Json) -> str:
    found = report["calibration"]
    note = "Lines: 95% intervals of the share (Wilson). Calibrated: on the dashed diagonal."
    figures = [
        _figure("Before", plots.reliability_panel("before", found["before"]), note),
        _figure("After scaling", plots.reliability_panel("after", found["after"]), note),
        _figure(
            "Distribution of probabilities",
            plots.histogram_panel("spread", found["after"]["bins"], "probability"),
            "After scaling.",
        ),
    ]
    intro = (
        f"<p>Probabilities of <b>{escape(found['of'])}</b>. The temperature was fitted on the "
        "validation split to minimize log loss and is stored with the run; it does not change "
        "the order of the classes.</p>"
    )
    return intro + f'<div class="grid">{"".join(figures)}</div>' + tables.calibration_table(found)


def _confusion(report: Json) -> str:
    classes = report["about"]["label"]["classes"]
    html = _decision(report) + tables.confusion_table(report["confusion"], classes)
    if points := report.get("operating_points"):
        html += "<h3>At other thresholds</h3>" + tables.operating_table(points, classes[1])
    return html


def _decision(report: Json) -> str:
    """Say how classes are predicted, and what the most likely ones would have come to."""
    decision, about = Decision.model_validate(report["decision"]), report["about"]
    if decision.likeliest:
        return ""
    how = decision.in_words(LabelSpec.model_validate(about["label"]))
    compared = "; ".join(
        f"{tables.figure_name(name)} {tables.number(report['all']['metrics'][name])}, "
        f"with the most likely class {tables.number(value)}"
        for name, value in report["most_likely"].items()
    )
    return (
        f"<p>Predicted is {escape(how)}. This was chosen on the validation split for the best "
        f"{tables.figure_name(about['metric'])}. {compared}.</p>"
    )


def _expected(report: Json) -> str:
    values = report["about"]["label"]["values"]
    rows = [
        [
            escape(name),
            f"{found['cases']:,}",
            tables.number(found["mean"]),
            *(tables.number(q) for q in (found["quantiles"] or dict.fromkeys(range(5))).values()),
        ]
        for name, found in report["expected"].items()
    ]
    note = "Box: 25% to 75% of the cases; line: 5% to 95%; dash: median; dot: mean."
    head = ["true", "cases", "mean", "5%", "25%", "median", "75%", "95%"]
    figure = _figure(
        "Expected against true", plots.expected_panel(report["expected"], values), note
    )
    table = tables.table("Expected value by true class.", head, rows, "tight")
    return f'<div class="beside">{figure}{table}</div>'


def _errors(report: Json, predicted: Floats, true: Floats) -> str:
    unit = report["about"]["label"]["unit"]
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(true))[:_MOST_DOTS])
    few = f"{_MOST_DOTS} of {len(true):,} cases, chosen at random. "
    some = few if len(true) > _MOST_DOTS else ""
    some_predicted, some_true = predicted[chosen], true[chosen]
    figures = [
        _figure(
            "Predicted against true",
            plots.scatter_panel(some_predicted, some_true, unit),
            some + "Correct predictions are on the dashed diagonal.",
        ),
        _figure(
            "Errors by prediction",
            plots.residuals_panel(some_predicted, some_predicted - some_true, unit),
            some + "A slope or a fan shape means that the errors depend on the prediction.",
        ),
        _figure("Distribution of errors", plots.error_histogram_panel(predicted - true, unit), ""),
    ]
    found = report["residuals"]
    head = ["", "mean", "5%", "25%", "median", "75%", "95%"]
    cells = [tables.number(found["mean"]), *map(tables.number, found["quantiles"].values())]
    table = tables.table("Predicted minus true.", head, [["error", *cells]], "tight")
    return f'<div class="grid">{"".join(figures)}</div>{table}'


def _coverage(report: Json) -> str:
    found = report["conformal"]
    if found is None:
        return "<p>Too few cases were held out to give sets or intervals.</p>"
    regression = report["about"]["label"]["kind"] == "regression"
    size = "mean width" if regression else "mean size"
    enough = found["calibrated_by_presence"]
    own = ", ".join(f"{tables.group_name(name)}: {cases:,}" for name, cases in enough.items())
    return (
        f"<p>Conformal {'intervals' if regression else 'sets'}, calibrated on "
        f"{found['calibrated_on']:,} cases of the validation split. They should contain the truth "
        f"in {found['promised']:.0%} of new cases like those: over all cases, "
        + (f"and over those of each pattern with enough cases ({own}); " if own else "")
        + "but not for every other pattern separately.</p>"
        + tables.coverage_table(found, report["by_presence"], size)
    )


# ---- groups -------------------------------------------------------------------------------------


def _presence(report: Json, metrics: Sequence[str]) -> str:
    return tables.groups_table(
        "The most complete cases first. Bars: the 95% interval of the first figure; line: all "
        "cases.",
        "modalities",
        report["by_presence"],
        report["all"],
        metrics,
    )


def _subgroup(report: Json, column: str, metrics: Sequence[str]) -> str:
    return tables.groups_table(
        "Bars: the 95% interval of the first figure; line: all cases. Groups also differ by "
        "chance, and more so the more of them are compared.",
        column,
        report["by_subgroup"][column],
        report["all"],
        metrics,
    )


# ---- training, meaning --------------------------------------------------------------------------


def _training(key: str, log: History, metric: str | None) -> str:
    figures = []
    names = list(log.validation)
    for name in sorted(names, key=lambda each: each != metric):
        best = log.best_epoch(name) if name == metric and log.mean_of == 1 else None
        note = f"On the validation split. Kept: epoch {best}." if best is not None else ""
        panel = plots.validation_panel(key, name, log.validation[name], best)
        figures.append(_figure(tables.figure_name(name), panel, note or "On the validation split."))
        if metric is not None:
            break  # the other figures of each epoch are in the log
    for name, curve in _losses(log).items():
        title = "Loss" if name == "loss" else _LOSSES.get(name, f"Loss: {escape(name)}")
        note = "Pale: every step; strong: moving average over a twentieth of the steps."
        figures.append(_figure(title, plots.loss_panel(key, name, curve), note))
    if log.lr is not None:
        figures.append(_figure("Learning rate", plots.rate_panel(key, log.lr), ""))
    return f'<div class="grid small">{"".join(figures)}</div>'


def _losses(log: History) -> dict[str, Curve]:
    """Return the losses to draw: a single part is the whole."""
    return {"loss": log.losses["loss"]} if len(log.losses) == 2 else log.losses


def _definitions(report: Json, metrics: Sequence[str]) -> str:
    listed = "".join(
        f"<dt>{tables.figure_name(metric)}</dt><dd>{escape(DEFINITIONS[metric])}</dd>"
        for metric in metrics
    )
    few = escape(report["bootstrap"]["small_is"])
    return (
        f'<dl class="meanings">{listed}<dt>Intervals</dt><dd>Percentile bootstrap, '
        f"{report['bootstrap']['rounds']:,} draws, seed {report['bootstrap']['seed']}; samples "
        "that do not determine a figure are left out. Source: Efron and Tibshirani 1993.</dd>"
        f"<dt>Too few to draw conclusions</dt><dd>{few}</dd>"
        "<dt>-</dt><dd>The cases do not determine the figure; the reason is given below "
        "it.</dd></dl>"
    )


def _figure(title: str, svg: str, note: str, legend: Sequence[tuple[int, str]] = ()) -> str:
    """Return a picture with its title, legend (series, text) and note; `title` is HTML."""
    keys = "".join(
        f'<li style="--key:var(--series-{number % 12})">{escape(text)}</li>'
        for number, text in legend
    )
    listed = f"<ul>{keys}</ul>" if keys else ""
    caption = f"<small>{escape(note)}</small>" if note else ""
    return f"<figure><h3>{title}</h3>{svg}<figcaption>{listed}{caption}</figcaption></figure>"
