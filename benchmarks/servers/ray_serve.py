"""Ray Serve with batching, as its documentation configures a model on a CPU.

- `@serve.batch(max_batch_size, batch_wait_timeout_s=0.01)`: the default wait, in the form of the
  tutorial "Serve a Text Generator with Request Batching", which reads its input in the batch too.
- A replica a core, each with one thread a graph: a replica reserves one CPU by default, and "set
  OMP_NUM_THREADS" to what it has ("Performance Tuning").
- `max_ongoing_requests`: room for a batch that runs and one that gathers; the default of 5 would
  let no batch fill ("Dynamic Request Batching").

    python -m benchmarks.servers.ray_serve --bundle BUNDLE --precision fp32 --port 8000
"""

import os
import signal
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.servers import HOST
from benchmarks.servers.model import BATCH, CORES, Answer, Model, server_parser
from lanistr.command import run_command


class Predict:
    """One replica."""

    def __init__(self, bundle: Path, precision: str) -> None:
        self._model = Model(bundle, precision, threads=1)

    async def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        if request.method == "GET":
            return {"status": "ready"}
        answer: Answer = await self.predict(await request.json())
        return answer

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.01)
    async def predict(self, records: list[dict[str, Any]]) -> list[Answer]:
        """Predict a batch."""
        return self._model.together([self._model.read(each) for each in records])


def main() -> None:
    """Serve until told to stop."""
    parser = server_parser("ray_serve", "Serve a bundle by Ray Serve.")
    arguments = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray took it
    try:
        serve.start(http_options={"host": HOST, "port": arguments.port})
        deployed = serve.deployment(num_replicas=CORES, max_ongoing_requests=2 * BATCH)(Predict)
        serve.run(deployed.bind(arguments.bundle.resolve(), arguments.precision))
        signal.pause()
    except KeyboardInterrupt:
        serve.shutdown()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    run_command(main)
