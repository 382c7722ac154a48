"""What the figures of `benchmarks.serving` are to be, as ratios in one run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.answers import rate_ratio
from benchmarks.pace import Figure, figure, ratios

PEERS = ("litserve", "ray", "bentoml")
"""The servers that batch."""

CLIENTS = 32
"""Clients at a time where rates are compared."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """One figure and what it is to be.

    Attributes:
        what: is meant.
        found: the figure; a ratio's is over the turns.
        bound: that it is to keep to.
        least: whether it is to be at least that; else, at most.
    """

    what: str
    found: Figure
    bound: float
    least: bool = True

    @property
    def met(self) -> bool:
        """Whether its median is as it is to be."""
        found = self.found["median"]
        return found >= self.bound if self.least else found <= self.bound

    def wanted(self) -> str:
        """Return the bound in words."""
        return f"{'>=' if self.least else '<='} {self.bound:g}"


def judge(found: Mapping[str, Sequence[Row]]) -> list[Target]:
    """Return what came of every target whose figures are there.

    Args:
        found: rows of `rates`, `again`, `memory` and `neighbours`, see `benchmarks.serving`.
    """
    return [
        *_rates(found["rates"]),
        *_tails(found["rates"]),
        *_again(found["again"]),
        *_memory(found["memory"]),
        *_neighbours(found["neighbours"]),
    ]


def _rates(rows: Sequence[Row]) -> Iterator[Target]:
    by_server = {
        (row["bundle"], row["precision"], row["server"]): row
        for row in rows
        if row["clients"] == CLIENTS or row["server"] == "raw"
    }

    def ratio(
        bundle: str, precision: str, other: str, bound: float, precision_of: str = ""
    ) -> Iterator[Target]:
        ours = by_server.get((bundle, precision, "lanistr"))
        theirs = by_server.get((bundle, precision_of or precision, other))
        if ours and theirs and theirs["rate"]["low"]:  # one that did not answer in a turn has none
            name = f"{other} {precision_of}" if precision_of else other
            yield Target(f"{bundle} {precision}: rate / {name}", rate_ratio(ours, theirs), bound)

    yield from ratio("nothing", "fp32", "litserve", 2)
    for precision in ("fp32", "int8"):
        for other in ("naive", "bare"):
            yield from ratio("tiny", precision, other, 1)
    yield from ratio("paper", "fp32", "raw", 0.95)
    for peer in PEERS:
        yield from ratio("paper", "fp32", peer, 1.5)
        yield from ratio("paper", "int8", peer, 3, precision_of="fp32")
    servers = {
        server: row["rate"]["median"]
        for (*about, server), row in by_server.items()
        if about == ["paper", "fp32"] and server != "raw"
    }
    if servers:
        yield from ratio("paper", "int8", max(servers, key=servers.__getitem__), 2, "fp32")


def _tails(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        about = (row["bundle"], row["server"], row["clients"])
        if about == ("paper", "lanistr", CLIENTS) and row["p50"]:
            p99, p50 = ([v for v in row["turns"][p] if v is not None] for p in ("p99", "p50"))
            found = ratios(p99, p50)
            yield Target(f"paper {row['precision']}: p99 / p50", found, 1.3, least=False)


def _again(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if row["bundle"] == "paper":
            what = f"paper {row['precision']}: an hour later, cached / uncached"
            yield Target(what, row["ratio"], 8)


def _memory(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if row["bundle"] == "paper" and row["cache"]:
            for which in ("peak", "after"):
                what = f"paper {row['precision']}: memory, {which} / (graphs + cache)"
                found = figure([row[which] / (row["graphs"] + row["cache"])])
                yield Target(what, found, 1.3, least=False)


def _neighbours(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if row["server"] == "lanistr" and row["good"]:
            what = f"{row['bundle']} {row['precision']}: good ones failed, lanistr"
            yield Target(what, figure([row["failed"]]), 0, least=False)
