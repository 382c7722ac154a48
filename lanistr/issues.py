"""What was found wrong with a record that could still be used, and what was done about it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lanistr.errors import LONGEST_FIELD, shorten


class Action(StrEnum):
    """What was done with the value."""

    DROPPED = "dropped"  # the value counts as missing
    CLIPPED = "clipped"  # the nearest valid value stands in its place
    CONVERTED = "converted"  # the same value in another unit, type or format
    KEPT = "kept"  # used, though unusual: an unknown category, a cut text


@dataclass(frozen=True, slots=True)
class InputIssue:
    """One value of a record that was not used as it came.

    Attributes:
        code: stable short name of the kind of issue, such as ``out_of_range``.
        field: path of the value, such as ``timeseries[3].heart_rate``.
        seen: the value as it came, shortened.
        action: what was done with it.
        detail: what is accepted, or what the value became.
    """

    code: str
    field: str
    seen: Any
    action: Action
    detail: str = ""


MOST_ISSUES = 100
"""How many issues of a record are listed; of the rest only the number is given."""


@dataclass(slots=True)
class IssueLog:
    """Collects the issues of one record while it is read and preprocessed.

    Attributes:
        counts: how often each kind was met, by code and action.
    """

    counts: Counter[tuple[str, Action]] = field(default_factory=Counter)
    _first: list[InputIssue] = field(default_factory=list)

    def add(
        self,
        code: str,
        field: str,
        seen: Any,
        action: Action,
        detail: str | Callable[[], str] = "",
    ) -> None:
        """Record one issue; `field` and `seen` are shortened to what may stand in an answer.

        A detail that has to be made is given as the function that makes it: of the many issues that
        a record can have, most are only counted.
        """
        self.counts[code, action] += 1
        if len(self._first) < MOST_ISSUES:
            said = detail if isinstance(detail, str) else detail()
            self._first.append(
                InputIssue(code, shorten(field, LONGEST_FIELD), shorten(seen), action, said)
            )

    @property
    def issues(self) -> tuple[InputIssue, ...]:
        """The first issues in full, then one for each kind that there were more of."""
        told = Counter((each.code, each.action) for each in self._first)
        return (
            *self._first,
            *(
                InputIssue(code, "", f"{more} more", action, "not listed individually")
                for (code, action), count in self.counts.items()
                if (more := count - told[code, action])
            ),
        )
