"""What servers answered: how fast, how late, and how far off what is right."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.load import Load
from benchmarks.pace import Figure, figure, ratios, spread
from lanistr.errors import LanistrError

Probabilities = Mapping[str, float]
"""By class."""


Row = dict[str, Any]
"""Figures of a server, with `server` and `clients`."""

HEAD = f"{'clients':>20} {'a second':>26} {'of limit':>20} {'p50 ms':>8} {'p99 ms':>8} off by"
"""Over lines of `in_words`."""


def summary(taken: Sequence[Load], right: Mapping[int, Probabilities]) -> Row:
    """Return the figures of repetitions of a load, and under `turns` those of each of them.

    None where there is no good answer: only these have a latency that counts, and probabilities.

    Args:
        taken: the repetitions.
        right: see `furthest`.
    """
    good = [each.good for each in taken]
    turns: dict[str, list[float | None]] = {
        "rate": [each.rate for each in taken],
        "p50": [each.percentile(50) if each.latencies else None for each in good],
        "p99": [each.percentile(99) if each.latencies else None for each in good],
    }
    known = {name: [v for v in values if v is not None] for name, values in turns.items()}
    found = [each for each in (furthest(load, right) for load in taken) if each is not None]
    return {
        "requests": sum(len(each.statuses) for each in taken),
        **{name: figure(values) if values else None for name, values in known.items()},
        "failed": sum(len(each.statuses) - each.statuses.count(200) for each in taken),
        "differs": max(found, default=None),
        "turns": turns,
    }


def rate_ratio(row: Mapping[str, Any], other: Mapping[str, Any]) -> Figure:
    """Return the ratio of two servers' rates, turn by turn."""
    return ratios(row["turns"]["rate"], other["turns"]["rate"])


def in_words(row: Row, share: Figure) -> str:
    """Return a line of a table.

    Args:
        row: the figures.
        share: of the predictions a second that the graphs alone make.
    """
    p50, p99 = (f"{1e3 * row[p]['median']:.1f}" if row[p] else "-" for p in ("p50", "p99"))
    return (
        f"{row['server']:12} {row['clients']:7} {spread(row['rate']):>26} "
        f"{spread(share):>20} {p50:>8} {p99:>8} {distance(row['differs'])}"
        + (f", {row['failed']} FAILED" if row["failed"] else "")
    )


def distance(found: float | None) -> str:
    """Return in words how far probabilities are off."""
    return "nothing compared" if found is None else f"{found:.0e}"


def answered(load: Load) -> dict[int, Probabilities]:
    """Return the probabilities in good answers of any of the servers, by what was sent."""
    answers = zip(load.sent, load.statuses, load.answers, strict=True)
    return {which: _read(answer) for which, status, answer in answers if status == 200}


def furthest(load: Load, right: Mapping[int, Probabilities]) -> float | None:
    """Return the largest difference of a good answer's probability from what is right.

    None where no such answer can be compared.

    Args:
        load: what was answered.
        right: by the number of the body that was sent; of others nothing is known.
    """
    return off_by(
        (_read(answer), right[which])
        for which, status, answer in zip(load.sent, load.statuses, load.answers, strict=True)
        if status == 200 and which in right
    )


def off_by(pairs: Iterable[tuple[Probabilities, Probabilities]]) -> float | None:
    """Return the largest difference of a probability from what is right, the second of a pair.

    None where there are no pairs.
    """
    return max(
        (abs(said[each] - p) for said, right in pairs for each, p in right.items()), default=None
    )


def refuse_wrong(server: str, found: float | None, bound: float) -> None:
    """Check how far a server's probabilities are off.

    Raises:
        LanistrError: by more than the bound, or no answer could be compared.
    """
    if found is None:
        raise LanistrError(
            "none of a server's answers could be compared",
            code="no_answers",
            field=server,
            accepted="good answers, whose probabilities are the graphs' own",
        )
    if not found <= bound:
        raise LanistrError(
            "a server's answers are not the graphs' own",
            code="wrong_answers",
            field=server,
            seen=f"a probability that is off by {found:.1e}",
            accepted=f"at most {bound:.0e}",
        )


def _read(answer: bytes) -> Probabilities:
    parsed = json.loads(answer)
    (said,) = parsed if isinstance(parsed, list) else (parsed,)
    probabilities: Probabilities = said.get("prediction", said)["probabilities"]
    return probabilities
