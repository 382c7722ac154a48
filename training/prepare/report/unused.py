"""Tables of the data report: values and records that were not used as they came."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from training.report.tables import examples, percent, short, table

Json = Mapping[str, Any]


def unused(issues: Sequence[Json]) -> str:
    """Return a table of the values that were changed or dropped."""
    if not issues:
        return "<p>Every value that was read was used unchanged.</p>"
    rows = [
        [
            escape(each["field"]),
            escape(each["code"].replace("_", " ")),
            escape(each["action"]),
            f"{each['values']:,}",
            f"{each['cases']:,}",
            "-"
            if each["lowest"] is None
            else f"{short(each['lowest'])} to {short(each['highest'])}",
            ", ".join(f"{escape(str(e['seen']))} ({escape(e['case'])})" for e in each["examples"]),
        ]
        for each in issues
    ]
    head = ["field", "reason", "what was done", "times", "cases", "from, to", "such as (case)"]
    caption = (
        "By field and reason. Dropped values count as missing. Times that it occurred: for a whole"
        " series or note, once per case."
    )
    return table(caption, head, rows, "words")


def lost(problems: Sequence[Json]) -> str:
    """Return a table of what was lost while raw files were read, see `Problems.by_column`."""
    if not problems:
        return ""
    rows = [
        [
            escape(each["column"]) or "(the row as a whole)",
            escape(each["code"].replace("_", " ")),
            f"{each['times']:,}",
            ", ".join(
                f"{'' if e['seen'] is None else escape(str(e['seen']))} ({e['row'] or '-'})".strip()
                for e in each["examples"]
            ),
        ]
        for each in problems
    ]
    caption = (
        "Lost while reading the raw files, by column and reason: values that count as missing, "
        "and rows that were left out."
    )
    return table(caption, ["column", "reason", "times", "such as (row)"], rows, "words")


def refused(report: Json) -> str:
    """Return a table of the records that were left out."""
    kept_out = (
        "What was left out by the preparer's inclusion criteria is listed under where the records "
        "came from."
    )
    if report["problems"]:
        kept_out = f"Rows that were lost while reading the raw files are listed above. {kept_out}"
    kept_out = f'<p class="note">{kept_out}</p>'
    if not report["refused"]:
        return f"<p>Every record that was read could be used.</p>{kept_out}"
    rows = [
        [
            escape(each["code"].replace("_", " ")),
            escape(each["field"]),
            f"{each['records']:,}",
            percent(each["share"]),
            examples(each["examples"]),
        ]
        for each in report["refused"]
    ]
    head = ["reason", "field", "records", "share", "such as"]
    return table("By reason and field.", head, rows, "words") + kept_out
