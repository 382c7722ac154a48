"""What the figures of `benchmarks.serving` are to be, as ratios in one run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        found: the figure.
        bound: that it is to keep to.
        least: whether it is to be at least that; else, at most.
    """

    what: str
    found: float
    bound: float
    least: bool = True

    @property
    def met(self) -> bool:
        """Whether it is as it is to be."""
        return self.found >= self.bound if self.least else self.found <= self.bound

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
    rate = {
        (row["bundle"], row["precision"], row["server"]): row["rate"]["median"]
        for row in rows
        if row["clients"] == CLIENTS or row["server"] == "raw"
    }

    def ratio(
        bundle: str, precision: str, other: str, bound: float, precision_of: str = ""
    ) -> Iterator[Target]:
        ours = rate.get((bundle, precision, "lanistr"))
        theirs = rate.get((bundle, precision_of or precision, other))
        if ours and theirs:
            beside = f"{other} {precision_of}" if precision_of else other
            yield Target(f"{bundle} {precision}: rate / {beside}", ours / theirs, bound)

    yield from ratio("nothing", "fp32", "litserve", 2)
    for precision in ("fp32", "int8"):
        for other in ("naive", "bare"):
            yield from ratio("tiny", precision, other, 1)
    yield from ratio("paper", "fp32", "raw", 0.95)
    for peer in PEERS:
        yield from ratio("paper", "fp32", peer, 1.5)
        yield from ratio("paper", "int8", peer, 3, precision_of="fp32")
    servers = {s: r for (b, p, s), r in rate.items() if (b, p) == ("paper", "fp32") and s != "raw"}
    if servers:
        yield from ratio("paper", "int8", max(servers, key=servers.__getitem__), 2, "fp32")


def _tails(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if (row["bundle"], row["server"], row["clients"]) == ("paper", "lanistr", CLIENTS):
            found = row["p99"]["median"] / row["p50"]["median"]
            yield Target(f"paper {row['precision']}: p99 / p50", found, 1.3, least=False)


def _again(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if row["bundle"] == "paper":
            what = f"paper {row['precision']}: an hour later, cached / uncached"
            yield Target(what, row["ratio"]["median"], 8)


def _memory(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if row["bundle"] == "paper" and row["cache"]:
            for which in ("peak", "after"):
                what = f"paper {row['precision']}: memory, {which} / (graphs + cache)"
                found = row[which] / (row["graphs"] + row["cache"])
                yield Target(what, found, 1.3, least=False)


def _neighbours(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        if row["server"] == "lanistr":
            what = f"{row['bundle']} {row['precision']}: good ones failed, lanistr"
            yield Target(what, row["failed"], 0, least=False)
