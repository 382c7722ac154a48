"""What is served and asked in a part of `benchmarks.serving`, and by which servers."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from benchmarks.answers import Row
from benchmarks.load import Load, in_turn, send
from benchmarks.raw import Raw
from benchmarks.servers import HOST, Server
from benchmarks.servers.model import CORES
from benchmarks.workload import workload
from lanistr.bundle import Bundle
from lanistr.manifest import Precision

OTHERS: Mapping[str, tuple[str, str]] = {
    "naive": ("benchmarks.servers.naive", "fastapi"),
    "bare": ("benchmarks.servers.bare", "uvicorn"),
    "litserve": ("benchmarks.servers.lit", "litserve"),
    "ray": ("benchmarks.servers.ray_serve", "ray"),
    "bentoml": ("benchmarks.servers.bento", "bentoml"),
}
"""Module of each other server, and the package that it is made of."""

OURS, ABREAST, SPREAD, CACHED = "lanistr", "lanistr / n", "lanistr x n", "lanistr, cached"
"""The service: in one process, with a core a case, with front ends, and with its cache."""

CACHE_BYTES = 16 << 20
"""Bound of the cache where there is one: so little that the workload fills it."""


@dataclass(frozen=True)
class Setting:
    """What is served, and how much is asked of it.

    Attributes:
        name: one of `benchmarks.serving.PARTS`.
        bundle: that is served.
        precision: of its graphs.
        cases: of the workload; 0: the smallest case alone.
        requests: for each figure.
    """

    name: str
    bundle: Bundle
    precision: Precision
    cases: int
    requests: int

    @property
    def labels(self) -> Row:
        """What every row of it begins with."""
        return {"bundle": self.name, "precision": self.precision}

    def records(self) -> list[dict[str, Any]]:
        """Return the cases as they are sent."""
        return workload(self.bundle, self.cases, seed=0)

    def raw(self) -> Raw:
        """Start the graphs alone."""
        return Raw(self.bundle.folder, self.precision, self.cases)

    def commands(self) -> dict[str, tuple[str, ...]]:
        """Return how the servers that there are are started, by name."""
        place = (str(self.bundle.folder), "--precision", self.precision)
        others = {
            name: (OTHERS[name][0], "--bundle", *place) for name in OTHERS if name in installed()
        }
        ours = ("service", "--bundles", *place, "--cache-bytes")
        return others | {
            OURS: (*ours, "0"),
            ABREAST: (*ours, "0", "--device", ",".join(["cpu"] * CORES)),
            SPREAD: (*ours, "0", "--workers", str(CORES)),
            CACHED: (*ours, str(CACHE_BYTES)),
        }

    def send(
        self,
        name: str,
        server: Server,
        records: Sequence[Mapping[str, Any]],
        clients: int,
        requests: int,
    ) -> Load:
        """Send so many requests, the records in turn, to the server of that name."""
        lists = name == "bentoml"  # a method that batches takes lists
        bodies = [json.dumps([each] if lists else each).encode() for each in records]
        path = f"/predict/{self.bundle.task.name}"
        asked = in_turn(len(bodies), requests)
        return asyncio.run(send(HOST, server.port, path, bodies, clients, asked))


def installed() -> set[str]:
    """Return the other servers that there are."""
    return {name for name, (_, package) in OTHERS.items() if find_spec(package)}
