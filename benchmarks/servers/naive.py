"""What a team writes in an afternoon: FastAPI, a thread pool, one case after another.

It shares preprocessing and graphs with the service, and nothing else: no limits, no queue, no
cache, and whatever goes wrong is a 500.

    python -m benchmarks.servers.naive --bundle BUNDLE --precision fp32 --port 8000
"""

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI

from lanistr.batch import stack
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, run_command
from lanistr.issues import IssueLog
from lanistr.manifest import FUSION
from lanistr.modalities import Modality
from lanistr.preprocess import read_record


def make_app(bundle: Bundle, precision: Any) -> FastAPI:
    """Return the application."""
    graphs = bundle.build("onnx", precision).graphs
    sessions = {name: _session(bundle.read(graph.file)) for name, graph in graphs.items()}
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post(f"/predict/{bundle.task.name}")
    def predict(record: dict[str, Any]) -> dict[str, Any]:
        if "image" in record:
            record["image"] = base64.b64decode(record["image"])
        log = IssueLog()
        features = bundle.preprocessor.apply(read_record(record, bundle.task, log), log)
        tokens = []
        for modality in Modality:
            if rows := features.rows.get(modality):
                (found,) = sessions[modality].run(["tokens"], stack(rows))
                tokens.append(found.mean(axis=0))
        joined = np.concatenate(tokens)[None]
        inputs = {"tokens": joined, "mask": np.ones(joined.shape[:2], np.bool_)}
        output, _ = sessions[FUSION].run(["output", "embedding"], inputs)
        said = bundle.calibration.predict(output[0], bundle.task.label, 0.9)
        return {"label": said.label, "probabilities": said.probabilities}

    return app


def _session(graph: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Serve until told to stop."""
    parser = CommandParser(
        prog="python -m benchmarks.servers.naive",
        description="Serve a bundle the naive way, to be measured beside the service.",
    )
    parser.add_argument("--bundle", type=Path, required=True, help="what is served")
    parser.add_argument("--precision", default="fp32", help="of the graphs (fp32)")
    parser.add_argument("--port", type=int, required=True, help="to listen on")
    arguments = parser.parse_args()
    app = make_app(Bundle.open(arguments.bundle), arguments.precision)
    uvicorn.run(app, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    run_command(main)
