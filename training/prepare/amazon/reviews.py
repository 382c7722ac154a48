"""One line of a file of reviews becomes a review in the words of `tasks/rating.yaml`."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lanistr.errors import shorten
from lanistr.sample import Value

Report = Callable[[str, Any, str], None]
"""Takes the column, what stood there, and what is accepted."""

NO_PRODUCT = "no asin: the product is unknown"
STARS = ("1", "2", "3", "4", "5")
_COLUMNS = (
    "overall", "reviewText", "summary", "reviewerID", "verified", "reviewTime", "unixReviewTime",
    "vote", "style", "image",
)  # fmt: skip
"""What a review may have beside its asin. In the files of 2023 all of it has other names."""

_YEAR = re.compile(r"\d{1,2} \d{1,2}, (\d{4})")
_COUNT = re.compile(r"\d+|\d{1,3}(,\d{3})+")


@dataclass(frozen=True, slots=True)
class Review:
    """One review.

    Attributes:
        product: the asin.
        reviewer: who wrote it; empty where that is not said.
        words: the text without the summary; empty where there is none.
        summary: its headline; empty where there is none.
        stars: the label, "1" to "5"; None where there is none.
        style: what was bought (size, colour), in the reviewer's order; empty where it is not said.
        row: the fields of the table that are there.
        picture: address of the reviewer's first picture; None where there is none.
    """

    product: str
    reviewer: str
    words: str
    summary: str
    stars: str | None
    style: str
    row: Mapping[str, Value]
    picture: str | None

    @property
    def content(self) -> tuple[str, ...]:
        """What the copies of a review under other variants of the product have in common.

        Without words a reviewer's other ratings of the day look alike; what was bought tells them
        apart. Where there are words they do, and the style is spelt differently now and then.
        """
        style = "" if self.words else self.style
        day = str(self.row.get("unixReviewTime"))
        return (self.reviewer, self.words, self.summary, str(self.stars), day, style)

    def text(self, longest: int | None = None) -> str:
        """Return summary and text, cut to the `longest` number of characters."""
        return ". ".join(part for part in (self.summary, self.words) if part)[:longest]


def read_review(record: Mapping[str, Any], report: Report) -> Review | str:
    """Read a review; what a column should not hold is reported and counts as missing.

    Returns:
        The review, or why the record is none.
    """
    product = read_word(record, "asin", report)
    if not product:
        return NO_PRODUCT
    if record.keys().isdisjoint(_COLUMNS):
        there = shorten(", ".join(record), 200)
        return f"no field of a 2018 review besides asin: {there}; accepted: {', '.join(_COLUMNS)}"
    reviewer = read_word(record, "reviewerID", report)
    time = _time(record, report)
    row: dict[str, Value] = {
        "reviewerID": reviewer or None,
        "asin": product,
        "verified": _verified(record, report),
        "year": _year(record, time, report),
        "vote": _votes(record, report),
        "unixReviewTime": time,
    }
    return Review(
        product=product,
        reviewer=reviewer,
        words=read_word(record, "reviewText", report),
        summary=read_word(record, "summary", report),
        stars=_stars(record, report),
        style=_style(record, report),
        row={name: value for name, value in row.items() if value is not None},
        picture=first_address(record, "image", report),
    )


def first_address(record: Mapping[str, Any], column: str, report: Report) -> str | None:
    """Return the first address of a column that holds addresses; None where it holds none."""
    value = record.get(column)
    addresses = [value] if isinstance(value, str) else value
    if not addresses:
        return None
    first = addresses[0] if isinstance(addresses, list) else None
    if not isinstance(first, str) or not _is_unicode(first):
        report(column, value, "a list of URLs")
        return None
    return first.strip() or None


def read_word(record: Mapping[str, Any], column: str, report: Report) -> str:
    """Return the text of a column; empty where there is none."""
    value = record.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        report(column, value, "a string")
        return ""
    if not _is_unicode(value):
        report(column, ascii(value), "valid Unicode; this has an unpaired surrogate")
        return ""
    return value.strip()


def _is_unicode(text: str) -> bool:
    """Whether no character is half of one, which JSON can say and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _style(record: Mapping[str, Any], report: Report) -> str:
    value = record.get("style")
    if value is None:
        return ""
    if not isinstance(value, dict):
        report("style", value, "an object of names and strings")
        return ""
    return json.dumps(value)


def _stars(record: Mapping[str, Any], report: Report) -> str | None:
    value = record.get("overall")
    if value is None:
        return None
    if value in map(int, STARS) and not isinstance(value, bool):
        return f"{value:g}"
    report("overall", value, "1, 2, 3, 4 or 5")
    return None


def _verified(record: Mapping[str, Any], report: Report) -> bool | None:
    value = record.get("verified")
    if value is None or isinstance(value, bool):
        return value
    report("verified", value, "true or false")
    return None


def _votes(record: Mapping[str, Any], report: Report) -> int | None:
    value = record.get("vote")
    if value is None:
        return None
    text = str(value).strip()
    if isinstance(value, str | int) and not isinstance(value, bool) and _COUNT.fullmatch(text):
        digits = text.replace(",", "")
        if _holds(float(digits)):
            return int(digits)
    report("vote", value, 'a count, such as "1,234"')
    return None


def _time(record: Mapping[str, Any], report: Report) -> int | None:
    value = record.get("unixReviewTime")
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and _holds(value):
        return int(value)
    report("unixReviewTime", value, "seconds since 1970")
    return None


def _holds(number: float) -> bool:
    """Whether a float holds a number: JSON has whole numbers of any size, and infinity."""
    return abs(number) <= sys.float_info.max


def _year(record: Mapping[str, Any], time: int | None, report: Report) -> str | None:
    """Return the year of the review's day, which the shop writes in words and in seconds."""
    day = record.get("reviewTime")
    if day is not None:
        found = _YEAR.fullmatch(day.strip()) if isinstance(day, str) else None
        if found:
            return found[1]
        report("reviewTime", day, 'a date such as "09 4, 2015"')
    if time is None:
        return None
    try:
        return str(datetime.fromtimestamp(time, UTC).year)
    except (OverflowError, ValueError, OSError):
        return None  # the time itself is reported as out of range when it is preprocessed
