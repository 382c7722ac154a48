"""What a team writes in an afternoon: FastAPI, a thread pool, one case after another.

It shares preprocessing and graphs with the service, and nothing else: no limits, no queue, no
cache, and whatever goes wrong is a 500.

    python -m benchmarks.servers.naive --bundle BUNDLE --precision fp32 --port 8000
"""

from typing import Any

import uvicorn
from fastapi import FastAPI

from benchmarks.servers.model import CORES, Answer, Model, server_parser
from lanistr.command import run_command


def make_app(model: Model) -> FastAPI:
    """Return the application."""
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post(f"/predict/{model.bundle.task.name}")
    def predict(record: dict[str, Any]) -> Answer:
        return model.alone(model.read(record))

    return app


def main() -> None:
    """Serve until told to stop."""
    parser = server_parser("naive", "Serve a bundle the naive way, to be measured beside ours.")
    arguments = parser.parse_args()
    app = make_app(Model(arguments.bundle, arguments.precision, CORES))
    uvicorn.run(app, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    run_command(main)
