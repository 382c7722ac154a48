"""LitServe with batching, as its documentation configures a model on a CPU.

- `LitAPI(max_batch_size, batch_timeout=0.05)`: of the guide "Batching".
- `workers_per_device`: "for CPU, set to the number of cores" (reference of `LitServer`), each with
  one thread a graph; as many processes for HTTP, the default.
- `fast_queue`: "for high-throughput scenarios (>100 RPS)" (the same).
- Cases are read in `decode_request`, as in every example there is.
- `timeout=False`: 32 clients wait for longer than the 30 s after which it would give up.

    python -m benchmarks.servers.lit --bundle BUNDLE --precision fp32 --port 8000
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import litserve

from benchmarks.servers import HOST
from benchmarks.servers.model import BATCH, CORES, Answer, Model, server_parser
from lanistr.batch import Features
from lanistr.command import run_command


class Predict(litserve.LitAPI):
    """The hooks that LitServe calls in each of its workers."""

    def __init__(self, bundle: Path, precision: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._bundle = bundle
        self._precision = precision

    def setup(self, device: str) -> None:
        """Load the model."""
        self._model = Model(self._bundle, self._precision, threads=1)

    def decode_request(self, request: dict[str, Any]) -> Features:
        """Read one record."""
        return self._model.read(request)

    def batch(self, inputs: Sequence[Features]) -> Sequence[Features]:
        """Put cases together, which the model does by itself."""
        return inputs

    def predict(self, cases: Sequence[Features]) -> list[Answer]:
        """Predict a batch."""
        return self._model.together(cases)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """Take the answers apart."""
        return output


def main() -> None:
    """Serve until told to stop."""
    parser = server_parser("lit", "Serve a bundle by LitServe.")
    arguments = parser.parse_args()
    api = Predict(
        arguments.bundle,
        arguments.precision,
        max_batch_size=BATCH,
        batch_timeout=0.05,
        api_path="/predict/mortality",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=CORES,
        fast_queue=True,
        timeout=False,
        healthcheck_path="/readyz",
    )
    server.run(HOST, arguments.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    run_command(main)
