"""The data report as one HTML file, from the report as it is written to JSON, and pictures."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lanistr.jsonfile import json_text
from training.data.store import SPLITS
from training.prepare.report.part import Check
from training.prepare.report.survey import Survey
from training.prepare.report.unused import lost, refused, unused
from training.report.document import document
from training.report.tables import MOST_GROUPS, examples, percent, short, table

Json = Mapping[str, Any]

_VERDICTS = {
    "ok": "ok",
    "warning": "check this",
    "leak": "leak",
    "not checked": "not checked",
}


def write_report(
    folder: Path, survey: Survey, index: Path, source: Json, problems: Sequence[Json]
) -> Sequence[Check]:
    """Write `report.json`, for programs, and `report.html`, for people; return what was checked.

    What `source` says of where records came from, and `Problems.by_column` of raw files, is shown.
    """
    report = survey.report(index, source) | {"problems": list(problems)}
    text = json_text(report)
    html = page(json.loads(text), survey.thumbnails())
    # Half a character of what was seen, which UTF-8 cannot hold, has JSON's own spelling.
    for name, content in (("report.json", text), ("report.html", html)):
        (folder / name).write_text(content, encoding="utf-8", errors="backslashreplace")
    checks: Sequence[Check] = report["checks"]
    return checks


def page(report: Json, thumbnails: Sequence[tuple[str, str]]) -> str:
    """Return the page.

    Args:
        report: as it is written to `report.json`.
        thumbnails: a case and a picture, as a data URL, each.
    """
    sections = [
        ("Leaks and other checks", _checks(report)),
        ("Cases", _cases(report)),
        ("Labels", _labels(report)),
    ]
    for modality, part in report["parts"].items():
        sections.append((modality.capitalize(), _part(part, report["cases"])))
    if thumbnails:
        sections.append(("A few images", _pictures(thumbnails)))
    not_used = unused(report["issues"]) + lost(report["problems"])
    sections.append(("Values with issues", not_used))
    sections.append(("Records that could not be used", refused(report)))
    sections.append(("Where the records came from", _facts(report["source"])))
    title = f"{report['task']['title']}: the data"
    shown = "values and images" if thumbnails else "values"
    footer = (
        f"{escape(report['sampling']['said'])} <b>This page shows {shown} of individual cases: "
        "protect it as you protect the data.</b>"
    )
    return document(title, _header(report), "", sections, footer)


# ---- top ----------------------------------------------------------------------------------------


def _header(report: Json) -> str:
    label, total = report["task"]["label"], sum(report["cases"].values())
    found = {
        verdict: [each["name"] for each in report["checks"] if each["verdict"] == verdict]
        for verdict in ("leak", "warning")
    }
    cautions = "".join(
        f'<p class="caution" role="note">{said}: {escape("; ".join(found[verdict]))}</p>'
        for verdict, said in (("leak", "Leaks"), ("warning", "Check this"))
        if found[verdict]
    )
    classes = ", ".join(label["classes"])
    unit = f" ({label['unit']})" if label["unit"] else ""
    problems = sum(each["times"] for each in report["problems"])
    facts = {
        "Predicts": f"{label['name']}{unit}" + (f": {classes}" if classes else ""),
        "From": str(report["source"].get("from", "not said")),
        "Splits": ", ".join(f"{n:,} {split}" for split, n in report["cases"].items()),
        "Not usable": f"{sum(each['records'] for each in report['refused']):,} records"
        + (f"; {problems:,} values or rows of the raw files" if problems else ""),
    }
    listed = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    return (
        f'<p class="kind">Data · {total:,} cases</p><h1>{escape(report["task"]["title"])}</h1>'
        f"{cautions}<dl>{listed}</dl>"
    )


def _checks(report: Json) -> str:
    rows = [
        [
            escape(each["name"]),
            _verdict(each["verdict"]),
            "-" if each["found"] is None else f"{each['found']:,}",
            escape(each["said"]) + examples(each["examples"]),
        ]
        for each in report["checks"]
    ]
    strongest = report["strongest fields"]
    html = table("What was checked.", ["", "verdict", "found", ""], rows, "words")
    html += (
        '<p class="note">Notes and images have no time in the records: check in the raw '
        "files that none is from after the time of prediction.</p>"
    )
    if strongest["strongest"]:
        caption = (
            f"The fields that individually say most about the label ({strongest['figure']} over "
            f"{strongest['cases']:,} labelled cases, in either direction; categories are scored "
            "on the other half of the cases)."
        )
        fields = [[escape(n), f"{each:.3f}"] for n, each in strongest["strongest"].items()]
        html += table(caption, ["field", escape(strongest["figure"])], fields, "tight")
    return html


# ---- cases and labels ---------------------------------------------------------------------------


def _cases(report: Json) -> str:
    head = ["", *SPLITS]
    rows = [
        ["cases", *_counts(report["cases"])],
        ["groups", *_counts(report["groups"]["by split"])],
        ["labelled", *(f"{report['labels'][split]['labelled']:,}" for split in SPLITS)],
    ]
    rows += [
        [f"without {escape(name)}", *(percent(part["missing"][split]) for split in SPLITS)]
        for name, part in report["parts"].items()
    ]
    html = table("Cases, and the share of them without a modality.", head, rows, "tight")
    sizes = report["groups"]["cases of a group"]
    html += f"<p>Cases per group: {short(sizes['min'])} to {short(sizes['max'])}, median "
    html += f"{short(sizes['median'])}.</p>"
    patterns = [
        [escape(name).replace("+", "+<wbr>"), *_counts(counts)]
        for name, counts in report["presence"].items()
    ]
    return html + table("Combinations of modalities.", ["modalities", *SPLITS], patterns, "tight")


def _labels(report: Json) -> str:
    html = _label_table("Labels by split.", "split", report["labels"])
    for column, groups in report["subgroups"].items():
        largest = sorted(groups, key=lambda name: (-groups[name]["cases"], name))[:MOST_GROUPS]
        shown = {name: groups[name] for name in groups if name in set(largest)}
        caption = f"By {escape(column)}, over all splits."
        unsaid = sum(report["cases"].values()) - sum(each["cases"] for each in groups.values())
        if unsaid:
            caption += f" It is unknown for {unsaid:,} further cases."
        if len(groups) > MOST_GROUPS:
            caption += f" The {MOST_GROUPS} largest of {len(groups):,}; all are in the JSON."
        html += _label_table(caption, column, shown)
    return html


def _label_table(caption: str, heading: str, groups: Json) -> str:
    some = next(iter(groups.values()))
    if "values" in some:
        head = [escape(heading), "cases", "labelled", *_NUMBER_HEAD]
        rows = [
            [escape(name), f"{g['cases']:,}", f"{g['labelled']:,}", *_number_cells(g["values"])]
            for name, g in groups.items()
        ]
        return table(caption, head, rows, "figures")
    head = [escape(heading), "cases", "labelled", *map(escape, some["classes"])]
    rows = [
        [
            escape(name),
            f"{g['cases']:,}",
            f"{g['labelled']:,}",
            *(f"{c['cases']:,}<small>{percent(c['share'])}</small>" for c in g["classes"].values()),
        ]
        for name, g in groups.items()
    ]
    return table(caption, head, rows, "figures")


# ---- parts --------------------------------------------------------------------------------------

_NUMBER_HEAD = ("min", "25%", "median", "75%", "max", "spread")


def _part(part: Json, cases: Json) -> str:
    have, total = sum(part["cases"].values()), sum(cases.values())
    html = f"<p>{have:,} of {total:,} cases ({percent(have / total)}) have it"
    if part["nothing usable"]:
        html += f"; in {part['nothing usable']:,} more, nothing in it was usable"
    html += ".</p>"
    if part["contents"]:
        repeated = sum(part["contents"]["repeated"].values())
        html += (
            f"<p>{part['contents']['items']:,} items, {part['contents']['distinct']:,} distinct, "
            f"{repeated:,} repeat an earlier one in the same split.</p>"
        )
    if part.get("unknown tokens") is not None:
        html += f"<p>Vocabulary of {part['vocabulary']:,}; unknown tokens: "
        html += f"{part['unknown tokens']:.2%}.</p>"
    sizes = {
        name: each
        for name, each in part.items()
        if isinstance(each, Mapping) and "exact" in each and "words" not in each
    }
    if sizes:
        rows = [[escape(n), f"{s['count']:,}", *_number_cells(s)] for n, s in sizes.items()]
        caption = "Sizes, as stored." if "format" in part else "Sizes."
        html += table(caption, ["", "number", *_NUMBER_HEAD], rows, "figures")
    if "format" in part:
        html += _words_table("Formats, as stored.", "format", part["format"])
    if "fields" in part:
        html += _fields(part)
    return html


def _fields(part: Json) -> str:
    series = "steps" in part
    numbers = {n: f for n, f in part["fields"].items() if f["kind"] == "number"}
    words = {n: f for n, f in part["fields"].items() if f["kind"] == "category"}
    lacking = "missing" + (", steps with" if series else "")
    html = ""
    if numbers:
        caption = (
            "Numbers as the model gets them: cleaned, in the field's unit"
            + (", the last of each step" if series else "")
            + ". Missing: share of the cases with this modality that lack the field, in training "
            "(all splits if they differ by more than two points)."
        )
        rows = [
            [
                escape(name) + (f"<small>{escape(f['unit'])}</small>" if f["unit"] else ""),
                _lacking(f, series),
                f"{f['count']:,}",
                *_number_cells(f),
            ]
            for name, f in numbers.items()
        ]
        html += table(caption, ["field", lacking, "values", *_NUMBER_HEAD], rows, "figures groups")
    if words:
        caption = "Categories, most frequent first."
        rows = [
            [escape(name), _lacking(f, series), f"{f.get('distinct', 0):,}", _named(f)]
            for name, f in words.items()
        ]
        html += table(caption, ["field", lacking, "distinct", "values"], rows, "words")
    return html


def _lacking(field: Json, series: bool) -> str:
    missing = {split: each for split, each in field["missing"].items() if each is not None}
    text = percent(field["missing"]["train"])
    if missing and max(missing.values()) - min(missing.values()) > 0.02:
        others = ", ".join(f"{s} {percent(e)}" for s, e in missing.items() if s != "train")
        text += f'<small class="why">{others}</small>'
    if series:
        text += f"<small>steps: {percent(field['steps'])}</small>"
    return text


def _number_cells(found: Json) -> list[str]:
    if not found["count"]:
        return ["-"] * len(_NUMBER_HEAD)
    cells = [short(found[name]) for name in ("min", "q1", "median", "q3", "max")]
    return [*cells, _spark(found["histogram"]["counts"])]


def _spark(counts: Sequence[int]) -> str:
    most = max(counts)
    bars = "".join(
        f'<rect x="{5 * i}" y="{20 - height:.1f}" width="4" height="{height:.1f}"/>'
        for i, count in enumerate(counts)
        if (height := 20 * count / most)
    )
    return f'<svg class="spark" viewBox="0 0 {5 * len(counts)} 20" aria-hidden="true">{bars}</svg>'


def _named(field: Json) -> str:
    if not field["count"]:
        return "-"
    named = [
        f"{escape(word)} {percent(count / field['count'])}"
        for word, count in field["words"].items()
    ]
    if field["others"]:
        named.append(f"others {percent(field['others'] / field['count'])}")
    return ", ".join(named)


def _words_table(caption: str, heading: str, found: Json) -> str:
    rows = [[escape(word), f"{count:,}"] for word, count in found["words"].items()]
    return table(caption, [heading, "number"], rows, "tight")


def _pictures(thumbnails: Sequence[tuple[str, str]]) -> str:
    shown = "".join(
        f'<figure><img src="{url}" alt="An image of case {escape(case, quote=True)}">'
        f"<figcaption>{escape(case)}</figcaption></figure>"
        for case, url in thumbnails
    )
    return f'<p>A random sample, as stored.</p><div class="thumbs">{shown}</div>'


# ---- where the records came from -----------------------------------------------------------------


def _facts(found: Json) -> str:
    listed = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{_fact(value)}</dd>" for name, value in found.items()
    )
    return f'<dl class="facts">{listed}</dl>' if listed else "<p>Nothing is recorded.</p>"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return _facts(value) if value else "-"
    if isinstance(value, list | tuple):
        return escape(", ".join(str(each) or "(empty)" for each in value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else escape(str(value))


# ---- words --------------------------------------------------------------------------------------


def _counts(found: Json) -> list[str]:
    return [f"{found[split]:,}" for split in SPLITS]


def _verdict(verdict: str) -> str:
    return f'<span class="verdict {verdict.split()[0]}">{_VERDICTS[verdict]}</span>'
