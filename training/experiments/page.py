"""A table for people: Markdown, a plot, and one HTML page of all tables."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

from training.experiments.results import Json, figures, said_of
from training.experiments.tables import TABLES, WHOLE
from training.metrics import has_unit, higher_is_better, shown
from training.report import plots
from training.report.document import document
from training.report.tables import figure_name, table

_MEANING = (
    "Mean over {count} seeds ± their standard deviation, on the test split. After the mean "
    "difference from LANISTR are two 95% intervals: in brackets over seeds, which determine "
    "labels and training, paired by seed (Student's t); in parentheses over test cases, for these "
    "runs, paired by case (bootstrap by patient or product). Neither covers both. Steps are all "
    "steps of fine-tuning, in both stages if it has two, including those after the best epoch."
)
_ONE_SEED = (
    "One seed, on the test split: the variation between seeds is unknown. In parentheses is the "
    "95% interval over test cases of the difference from LANISTR, paired by case (bootstrap by "
    "patient or product)."
)
_SYNTHETIC = (
    "These records are synthetic: the figures compare methods on what the generator put in, and "
    "say nothing about real patients, products or people."
)


def markdown(found: Json) -> str:
    """Return a table of the results as Markdown."""
    head, rows = cells(found)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    left = [f"- {name}: {why}" for name, why in missing(found)]
    parts = [f"# {TABLES[found['table']][0]}", about(found), "\n".join(lines)]
    parts += ["Not in the table:\n\n" + "\n".join(left)] if left else []
    return "\n\n".join(parts) + "\n"


def page(tables: Mapping[str, Json]) -> str:
    """Return one HTML page with every table that was made, by name."""
    sections = []
    for number, (name, found) in enumerate(tables.items()):
        head, rows = cells(found)
        escaped = [[escape(each) for each in row] for row in rows]
        left = "".join(f"<li>{escape(row)}: {escape(why)}</li>" for row, why in missing(found))
        body = f"<p>{escape(about(found))}</p>"
        caption = f"{figure_name(found['metric'])} on the test split"
        body += '<div class="beside">' + table(caption, head, escaped)
        body += f"<figure>{plot(found, f'plot{number}')}</figure></div>"
        body += f"<h3>Not in the table</h3><ul>{left}</ul>" if left else ""
        sections.append((f"{TABLES[found['table']][0]}: {name}", body))
    header = "<h1>The paper's comparison</h1>"
    footer = "For research. <b>Not a medical device.</b>"
    return document("The paper's comparison", header, "", sections, footer)


def plot(found: Json, name: str) -> str:
    """Return the picture of a table: each run a dot, each row a line at its mean."""
    rows = [each for each in found["rows"] if each.get("mean") is not None]
    by_row = {row["name"]: [run["metrics"][found["metric"]] for run in row["runs"]] for row in rows}
    marked = next((row["name"] for row in rows if row["key"] == WHOLE), None)
    return plots.seeds_panel(name, by_row, figure_name(found["metric"]), marked)


def about(found: Json) -> str:
    """Say in words what was compared."""
    count = len(found["seeds"])
    meaning = _MEANING.format(count=count) if count > 1 else _ONE_SEED
    cases = ", ".join(f"{number} {split}" for split, number in found["labelled"].items())
    learned = "" if found["labels"] is None else f"; trained on at most {found['labels']} of them"
    if found["pretraining_data"] != found["data"]:
        learned += f"; pretrained on {found['pretraining_data']}"
    if found["worded"]:
        learned += f"; Tab2Txt on {found['worded']}"
        if other := found.get("worded_pretraining_data"):  # not there in older tables
            learned += f", pretrained on {other}"
    chosen = [f"{stage}: {', '.join(each)}" for stage, each in found["settings"].items() if each]
    if found["rates"]:
        rates = ", ".join(f"{each:g}" for each in found["rates"])
        chosen.append(f"learning rate of fine-tuning chosen on the validation split from {rates}")
    if found["pretrain_once"]:
        chosen.append("one pretraining for all seeds")
    settings = f" Settings: {'; '.join(chosen)}." if chosen else ""
    if not higher_is_better(found["metric"]):
        meaning += f" For {figure_name(found['metric'])}, lower is better."
    caution = f" {_SYNTHETIC}" if found["synthetic"] else ""
    return (
        f"{found['data']}, scale {found['scale']}; labelled cases: {cases}{learned}."
        f"{settings} {meaning}{caution}"
    )


def cells(found: Json) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table, as text."""
    metric, beside = found["metric"], found["published"]
    head = ["", figure_name(metric), "minus LANISTR", "labelled cases", "steps"]
    other = beside["metric"] if beside and beside["metric"] != metric else None
    head += [figure_name(other)] if other else []
    head += [f"paper, {figure_name(beside['metric'])} ({beside['name']})"] if beside else []
    rows = []
    for row in found["rows"]:
        if "runs" not in row:
            continue
        line = [row["name"], _plus_minus(row, metric), _difference(row.get("difference"), metric)]
        line += [_span([run[each] for run in row["runs"]]) for each in ("cases", "steps")]
        if other:
            # What is predicted serves our metric; the paper's goes by the most likely class.
            values = figures(row, other, most_likely=True)
            line.append(_plus_minus(said_of(values), other))
        if beside:
            line.append(" ± ".join(f"{each / 100:.3f}" for each in row["published"] or ()))
        rows.append(line)
    return head, rows


def missing(found: Json) -> list[tuple[str, str]]:
    """Return the names of the rows that are not in the table, and why."""
    return [
        (row["name"], row.get("why") or "; ".join(f"{k}: {v}" for k, v in row["failed"].items()))
        for row in found["rows"]
        if "runs" not in row
    ]


def _span(counts: Sequence[int | None]) -> str:
    """Write the numbers of several runs as one, or as from where to where."""
    known = [each for each in counts if each is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    return f"{low}" if low == high else f"{low} to {high}"


def _plus_minus(row: Json, metric: str) -> str:
    if row["mean"] is None:
        return "not determined"
    std = "" if row["std"] is None else f" ± {_figure(row['std'], metric)}"
    return _figure(row["mean"], metric) + std


def _difference(found: Json | None, metric: str) -> str:
    if found is None or found["mean"] is None:
        return ""

    def ends(low: float, high: float) -> str:
        return f"{_figure(low, metric, '+')}, {_figure(high, metric, '+')}"

    text = _figure(found["mean"], metric, "+")
    if found["interval"]:
        low, high = found["interval"]
        text += f" [{ends(low, high)}]" if low < high else ", the same for every seed"
    over_cases = found.get("test_interval")
    if over_cases and None not in over_cases:
        low, high = over_cases
        text += f" ({ends(low, high)})" if low < high else ", the same for every case"
    return text


def _figure(value: float, metric: str, sign: Literal["", "+"] = "") -> str:
    """Write a figure to three decimals; of one in the label's unit no less than two digits."""
    return shown(value, 3, sign) if has_unit(metric) else f"{value:{sign}.3f}"
