"""Requests of every kind to the demo stays, and the right answers to them.

Every request has a name of its own, which is its id and that of its cases: an answer that belongs
to another request is found by it. What is right was said by the same service when it had nothing
else to do; numbers may differ in their last digits, as rows that are computed together do.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.workload import workload
from lanistr.bundle import Bundle

TOLERANCE = 1e-4
"""Of a number in an answer, see `benchmarks.mixed`."""

_JSON, _LINES = "application/json", "application/x-ndjson"
_WAYS: Mapping[str, tuple[str, str]] = {
    "predict": ("/predict/{task}", _JSON),
    "explain": ("/predict/{task}?explain=true", _JSON),
    "embed": ("/embed/{task}", _JSON),
    "batch": ("/predict/{task}/batch", _JSON),
    "stream": ("/predict/{task}/stream", _LINES),
}
"""Address and media type by the kind of a request."""

_BAD: Sequence[dict[str, Any]] = (
    {"tabular": {"agee": 71}},
    {"image": "bm8gcGljdHVyZQ=="},
    {"timeseries": [{"hours": 1, "heart_rate": "0,375"}]},
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request without its name.

    Attributes:
        kind: a key of `_WAYS`.
        task: that is asked.
        records: its cases, one unless it is a batch or stream.
    """

    kind: str
    task: str
    records: Sequence[Mapping[str, Any]]

    @property
    def path(self) -> str:
        """The address."""
        return _WAYS[self.kind][0].format(task=self.task)

    @property
    def media_type(self) -> str:
        """Of the body."""
        return _WAYS[self.kind][1]

    def body(self, name: str) -> bytes:
        """Return the body of a request of this name."""
        cases = [{"id": f"{name}/{i}", **each} for i, each in enumerate(self.records)]
        if self.kind == "stream":
            return b"".join(json.dumps(each).encode() + b"\n" for each in cases)
        return json.dumps(cases if self.kind == "batch" else cases[0]).encode()

    def items(self, answer: bytes) -> list[dict[str, Any]]:
        """Return the answers to the cases, in order: predictions, embeddings or problems."""
        if self.kind == "stream":
            found = sorted(map(json.loads, answer.splitlines()), key=lambda item: item["index"])
        elif self.kind == "batch":
            found = json.loads(answer).get("items") or [{"problem": json.loads(answer)}]
        else:
            return [json.loads(answer)]
        return [item.get("answer") or item["problem"] for item in found]


def asks(bundle: Bundle, cases: int, seed: int) -> list[Ask]:
    """Return requests over so many cases, always the same for a seed; one in eight is bad."""
    records = workload(bundle, cases, seed)
    task = bundle.task.name
    found: list[Ask] = []
    for k, record in enumerate(records):
        bad = _BAD[k % len(_BAD)]
        kind = ("predict", "batch", "predict", "explain", "predict", "stream", "embed", "bad")[
            k % 8
        ]
        others = [records[(k + i) % cases] for i in range(1, 5)]
        if kind == "batch":
            found.append(Ask(kind, task, [record, bad, others[0]]))
        elif kind == "stream":
            found.append(Ask(kind, task, [record, others[0], bad, *others[1:]]))
        else:
            found.append(
                Ask("predict", task, [bad]) if kind == "bad" else Ask(kind, task, [record])
            )
    return found


class Known:
    """The right answers.

    Args:
        url: of a service that has nothing else to do.
        what: requests.
        versions: of the model, all of which it serves.
    """

    def __init__(self, url: str, what: Sequence[Ask], versions: Sequence[str]) -> None:
        self.asks = what
        self._right: dict[tuple[int, str], list[Any]] = {}
        with httpx.Client(base_url=url, timeout=60) as client:
            for version in versions:
                for which, ask in enumerate(what):
                    answer = client.post(
                        ask.path,
                        params=httpx.URL(ask.path).params.set("version", version),
                        content=ask.body(""),
                        headers={"Content-Type": ask.media_type},
                    )
                    said = ask.items(answer.content)
                    self._right[which, version] = [plain(each) for each in said]

    def told_apart(self, versions: Sequence[str]) -> bool:
        """Whether two versions answer every good case otherwise."""
        first, second = versions
        return not any(
            alike(one["prediction"], other["prediction"])
            for which, _ in enumerate(self.asks)
            for one, other in zip(
                self._right[which, first], self._right[which, second], strict=True
            )
            if "prediction" in one
        )

    def fault(self, which: int, name: str, answer: bytes, excused: Collection[str] = ()) -> str:
        """Say what is wrong with an answer; "" where nothing is.

        Args:
            which: of the requests.
            name: of this one.
            answer: the whole body; of a request that was not refused as a whole.
            excused: codes of problems that any case may have instead.
        """
        ask = self.asks[which]
        try:
            items = ask.items(answer)
        except (ValueError, KeyError) as exc:
            return f"no answer: {exc!r}"
        broken_off = ask.kind == "stream" and items and items[-1].get("code") in excused
        if len(items) != len(ask.records) and not broken_off:
            return f"{len(items)} answers to {len(ask.records)} cases"
        versions = set(versions_in(items))
        if len(versions) > 1 and ask.kind != "stream":  # which goes on with the next model
            return f"answers by several versions: {versions}"
        usual = next(iter(versions), self._any_version())
        for i, item in enumerate(items):
            version = next(versions_in([item]), usual)
            if (which, version) not in self._right:
                return f"a version that was never served: {version}"
            if i == len(ask.records):  # what a stream broke off with
                break
            right = self._right[which, version][i]
            if item["request_id"] != name:
                return f"case {i} is answered for request {item['request_id']}"
            if "model" in item and item["id"] != f"{name}/{i}":
                return f"case {i} is answered for {item['id']}"
            if not alike(plain(item), right) and item.get("code") not in excused:
                return f"case {i} is not {right}: {item}"
        return ""

    def _any_version(self) -> str:
        return next(version for _, version in self._right)


def versions_in(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the version that each answer names."""
    return (item["model"]["version"] for item in items if "model" in item)


def plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an answer what does not depend on the request."""
    return {k: v for k, v in item.items() if k not in ("id", "request_id", "timing_ms")}


def alike(one: Any, other: Any) -> bool:
    """Whether two answers say the same, up to the last digits of their numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[each], other[each]) for each in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)
