"""What was done to the values of one case, counted by field."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from lanistr.errors import shorten
from lanistr.issues import Action, IssueLog

Kind = tuple[str, str, Action]
"""Field without the position of row, note or picture; code; action."""

_POSITION = re.compile(r"^([^.\[]*)\[\d+\]")
"""It stands behind the part: further on, brackets are of a field's own name."""

EXAMPLES = 3
"""Values that the report shows of a kind."""


def field_of(path: str) -> str:
    """Return the field of a path: `timeseries.heart_rate` of `timeseries[3].heart_rate`."""
    return _POSITION.sub(r"\1", path)


class CaseLog(IssueLog):
    """Takes the issues of one case and counts every one; none is told in full.

    Attributes:
        seen: the values as they came, by kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: defaultdict[Kind, list[Any]] = defaultdict(list)

    def add(
        self,
        code: str,
        field: str,
        seen: Any,
        action: Action,
        detail: str | Callable[[], str] = "",
    ) -> None:
        """Count one issue; its detail is never asked for."""
        self.counts[code, action] += 1
        self.seen[field_of(field), code, action].append(seen)


class IssueCounts:
    """Issues of all cases by field, with the first few as examples."""

    def __init__(self) -> None:
        self._values: Counter[Kind] = Counter()
        self._cases: Counter[Kind] = Counter()
        self._ends: dict[Kind, tuple[float, float]] = {}
        self._examples: defaultdict[Kind, list[dict[str, Any]]] = defaultdict(list)

    def add(self, case: str, log: CaseLog) -> None:
        """Take what was found in one case."""
        for kind, seen in log.seen.items():
            self._values[kind] += len(seen)
            self._cases[kind] += 1
            if len(self._examples[kind]) < EXAMPLES:
                self._examples[kind].append({"case": case, "seen": shorten(seen[0])})
            numbers = [x for x in seen if isinstance(x, int | float) and not isinstance(x, bool)]
            if numbers:
                ends = (*self._ends.get(kind, ()), *numbers)
                self._ends[kind] = min(ends), max(ends)

    def report(self) -> list[dict[str, Any]]:
        """Return one entry a field, code and action, in that order."""
        entries = []
        for kind in sorted(self._values):
            field, code, action = kind
            low, high = self._ends.get(kind, (None, None))
            entries.append(
                {
                    "field": field,
                    "code": code,
                    "action": str(action),
                    "values": self._values[kind],
                    "cases": self._cases[kind],
                    "lowest": low,
                    "highest": high,
                    "examples": self._examples[kind],
                }
            )
        return entries
