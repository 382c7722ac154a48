"""Tables of a report as HTML; every name passes through `escape`, for users gave it."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from training.metrics import shown

Json = Mapping[str, Any]

MOST_GROUPS = 40

_FIGURE_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "brier": "Brier score",
    "ece": "ECE",
    "mae": "MAE",
    "rmse": "RMSE",
    "quadratic_kappa": "Quadratic κ",
}


def figure_name(metric: str) -> str:
    """Return a figure's name as a reader knows it, escaped."""
    return escape(_FIGURE_NAMES.get(metric, metric))


def number(value: float | None) -> str:
    """Write a number; "-" if it is not determined."""
    if value is None:
        return "-"
    return shown(value) if abs(value) < 1000 else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Write a share."""
    return "-" if value is None else f"{value:.1%}"


def short(value: float) -> str:
    """Write a number with the digits that a reader takes in."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def examples(words: Iterable[str]) -> str:
    """Return words, each on a line of its own below what they are examples of."""
    return "".join(f'<small class="why">{escape(each)}</small>' for each in words)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table that scrolls by itself where it is too wide; all cells are HTML.

    The first cell of a row names it.
    """
    heads = "".join(f'<th scope="col">{each}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{each}</td>" for each in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}">'
        f"<caption><span>{caption}</span></caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


# ---- figures ------------------------------------------------------------------------------------


def figures_cell(group: Json, metric: str) -> str:
    """Return a figure with its interval; "-" with the reason where there is none."""
    value = group["metrics"][metric]
    if value is None:
        return f'-<small class="why">{escape(group["undetermined"][metric])}</small>'
    return f"{number(value)}<small>{interval(group['intervals'][metric])}</small>"


def interval(ends: Sequence[float | None] | None) -> str:
    """Write an interval."""
    if ends is None or ends[0] is None:
        return "no interval"
    return f"{number(ends[0])} to {number(ends[1])}"


def groups_table(
    caption: str, heading: str, groups: Mapping[str, Json], everything: Json, metrics: Sequence[str]
) -> str:
    """Return the figures of groups of cases, all cases first."""
    main, shown = metrics[0], list(groups.items())
    if len(shown) > MOST_GROUPS:
        caption += f" The {MOST_GROUPS} largest of {len(shown)} groups; the rest is in the JSON."
        largest = sorted(groups, key=lambda name: -groups[name]["cases"])[:MOST_GROUPS]
        shown = [(name, group) for name, group in shown if name in set(largest)]
    scale = _scale([everything, *(group for _, group in shown)], main)
    head = [escape(heading), "cases", *map(figure_name, metrics)]
    if "positives" in everything:
        head.insert(2, "positive")

    def row(name: str, group: Json) -> list[str]:
        cells = [figures_cell(group, metric) for metric in metrics]
        cells[0] += _bar(group, everything, main, scale)
        counts = [f"{group['cases']:,}"]
        if "positives" in everything:
            counts.append(f"{group['positives']:,}")
        return [name + _mark(group), *counts, *cells]

    rows = [row("<b>all cases</b>", everything)]
    rows += [row(group_name(name), group) for name, group in shown]
    return table(caption, head, rows, "figures groups")


def group_name(name: str) -> str:
    """Return the name of a group, escaped, that may break where it joins parts."""
    return escape(name).replace("+", "+<wbr>")


def _mark(group: Json) -> str:
    """Say that a group is too small to conclude from, if it is."""
    small = group["small"]
    if not small:
        return ""
    return f'<small class="few">{escape(small)}: too few to draw conclusions</small>'


def _scale(groups: Sequence[Json], metric: str) -> tuple[float, float] | None:
    """Return the ends of all intervals of a figure."""
    ends = [each for group in groups for each in group["intervals"][metric] if each is not None]
    return (min(ends), max(ends)) if ends and min(ends) < max(ends) else None


def _bar(group: Json, everything: Json, metric: str, scale: tuple[float, float] | None) -> str:
    """Draw an interval on the scale of its table, with all cases' figure as a line."""
    low, high = group["intervals"][metric]
    value, overall = group["metrics"][metric], everything["metrics"][metric]
    if scale is None or value is None or low is None or overall is None:
        return ""

    def at(number: float) -> str:
        share = (number - scale[0]) / (scale[1] - scale[0])
        return f"{4 + 92 * share:.1f}"

    kind = "bar pale" if group["small"] else "bar"
    return (
        f'<svg class="{kind}" viewBox="0 0 100 10" aria-hidden="true">'
        f'<path class="overall" d="M{at(overall)} 0V10"/>'
        f'<path class="interval" d="M{at(low)} 5H{at(high)}"/>'
        f'<circle cx="{at(value)}" cy="5" r="3"/></svg>'
    )


# ---- confusion, thresholds, calibration, coverage -----------------------------------------------


def confusion_table(found: Json, classes: Sequence[str]) -> str:
    """Return true against predicted classes; colour says the share of the true class."""
    if "pairs" in found:
        rows = [
            [
                escape(pair["true"]),
                escape(pair["guess"]),
                f"{pair['cases']:,}",
                percent(pair["cases"] / pair["of"]),
            ]
            for pair in found["pairs"]
        ]
        caption = "The classes most often confused with each other."
        return table(caption, ["true class", "predicted as", "cases", "of the true class"], rows)
    rows = []
    for name, counts in zip(classes, found["matrix"], strict=True):
        total = sum(counts)
        cells = [
            f'<span class="share" style="--share:{count / total if total else 0:.3f}">{count:,}'
            f"<small>{percent(count / total if total else None)}</small></span>"
            for count in counts
        ]
        rows.append([escape(name), *cells, f"{total:,}"])
    caption = "Rows: true class. Columns: predicted class. Shares are of the row."
    return table(caption, ["true", *map(escape, classes), "cases"], rows, "confusion")


def operating_table(points: Sequence[Json], positive: str) -> str:
    """Return what follows from acting at each threshold."""
    caption = (
        f"If every case whose probability of <b>{escape(positive)}</b> reaches the threshold is "
        "flagged. No threshold was chosen on these cases."
    )
    head = ["from", "flagged", "sensitivity", "specificity", "PPV", "NPV", "found", "missed"]
    head.append("false alarms")
    rows = [
        [
            f"{each['threshold']:g}",
            f"{each['true_positives'] + each['false_positives']:,}",
            *(percent(each[name]) for name in ("sensitivity", "specificity", "ppv", "npv")),
            f"{each['true_positives']:,}",
            f"{each['false_negatives']:,}",
            f"{each['false_positives']:,}",
        ]
        for each in points
    ]
    return table(caption, head, rows, "tight")


def calibration_table(found: Json) -> str:
    """Return calibration before and after the temperature."""
    names = {
        "log_loss": "log loss",
        "brier": "Brier score",
        "ece": "ECE",
        "mean_probability": "mean probability",
        "observed": "share that came true",
    }
    head = ["", "as trained (temperature 1)", f"temperature {found['temperature']:.3f}"]
    rows = [
        [label, number(found["before"][key]), number(found["after"][key])]
        for key, label in names.items()
    ]
    caption = f"Probabilities of {escape(found['of'])}, before and after temperature scaling."
    return table(caption, head, rows, "tight")


def coverage_table(found: Json, patterns: Mapping[str, Json], size: str) -> str:
    """Return how often sets or intervals hold what came true, in the order of the patterns."""
    groups = {"<b>all cases</b>": found["all"]}
    for name, pattern in patterns.items():
        groups[group_name(name) + _mark(pattern)] = found["by_presence"][name]
    rows = [
        [
            name,
            f"{group['cases']:,}",
            f"{percent(group['covered'])}<small>{percent(group['interval'][0])} to "
            f"{percent(group['interval'][1])}</small>",
            shown(group["mean_size"], 2),
        ]
        for name, group in groups.items()
    ]
    caption = (
        f"Share of cases whose {found['promised']:.0%} set or interval contains the truth, with "
        "its 95% interval (Wilson; treating cases as independent, even of one patient or product)."
    )
    return table(caption, ["modalities", "cases", "covered", size], rows, "figures")
