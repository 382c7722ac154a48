"""BentoML with adaptive batching, as its documentation configures a model on a CPU.

- `@bentoml.api(batchable=True, max_batch_size)`: of the guide "Adaptive batching"; the window
  adapts itself.
- `workers="cpu_count"`: a worker a core, each with one thread a graph ("Configure workers").
- A request is a list, of one record here, since a batchable method takes lists.
- `traffic.timeout`, `max_latency_ms`: 32 clients may wait for longer than the 60 s after which it
  would give up.

    python -m benchmarks.servers.bento --bundle BUNDLE --precision fp32 --port 8000
"""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml

from benchmarks.servers import HOST
from benchmarks.servers.model import BATCH, Answer, Model, server_parser
from lanistr.command import run_command

_BUNDLE, _PRECISION = "BENCHMARK_BUNDLE", "BENCHMARK_PRECISION"
"""BentoML's workers import this module for themselves and are told by the environment."""


_PATIENCE = 600
"""Seconds."""


@bentoml.service(workers="cpu_count", traffic={"timeout": _PATIENCE})
class Predict:
    """One worker."""

    def __init__(self) -> None:
        self._model = Model(Path(os.environ[_BUNDLE]), os.environ[_PRECISION], threads=1)

    @bentoml.api(
        route="/predict/mortality",
        batchable=True,
        max_batch_size=BATCH,
        max_latency_ms=1000 * _PATIENCE,
    )
    def predict(self, records: list[dict[str, Any]], /) -> list[Answer]:
        """Predict a batch."""
        return self._model.together([self._model.read(each) for each in records])


def main() -> None:
    """Serve until told to stop."""
    parser = server_parser("bento", "Serve a bundle by BentoML.")
    arguments = parser.parse_args()
    os.environ |= {
        _BUNDLE: str(arguments.bundle.resolve()),
        _PRECISION: arguments.precision,
        "BENTOML_DO_NOT_TRACK": "True",
    }
    listen = ("--host", HOST, "--port", str(arguments.port))
    words = ("-m", "bentoml", "serve", f"{__spec__.name}:Predict", *listen)
    os.execv(sys.executable, (sys.executable, *words))


if __name__ == "__main__":
    run_command(main)
