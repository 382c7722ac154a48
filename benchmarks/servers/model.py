"""What the servers beside ours share: a bundle's preprocessing and graphs, run in two ways.

`alone` runs what a case brings, one case at a time. `together` is what a server of tensors does
with a batch, and what the guides of batching servers show: one call of each graph for all cases.
Every note is padded to the longest, a part that a case lacks is a row of zeros that is encoded
like the others, and a mask keeps from fusion what is not there.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.workload import as_features
from lanistr.batch import RAGGED, Arrays, Features, stack
from lanistr.bundle import Bundle
from lanistr.command import CommandParser
from lanistr.manifest import FUSION, Graph
from lanistr.modalities import Modality

CORES = len(os.sched_getaffinity(0))

BATCH = 8
"""Cases of a batch at most, for each of the batching servers."""

Answer = dict[str, Any]
"""`label` and `probabilities`."""


class Model:
    """A bundle, ready to run.

    Args:
        folder: of the bundle.
        precision: of its graphs.
        threads: of a graph.
    """

    def __init__(self, folder: Path, precision: Any, threads: int) -> None:
        self.bundle = Bundle.open(folder)
        self._graphs = self.bundle.build("onnx", precision).graphs
        self._sessions = {name: self._open(each, threads) for name, each in self._graphs.items()}
        self._blank = {each: _zeros(self._graphs[each]) for each in self.bundle.task.modalities}

    def read(self, record: Mapping[str, Any]) -> Features:
        """Return a record, as it was sent in JSON, as arrays; raises whatever is wrong with it."""
        return as_features(record, self.bundle)

    def alone(self, case: Features) -> Answer:
        """Return the prediction of one case."""
        tokens = [
            self._encode(modality, rows).mean(axis=0)
            for modality, rows in ((each, case.rows.get(each)) for each in Modality)
            if rows
        ]
        joined = np.concatenate(tokens)[None]
        return self._fuse(joined, np.ones(joined.shape[:2], np.bool_))[0]

    def together(self, cases: Sequence[Features]) -> list[Answer]:
        """Return the predictions of a batch of cases, each of one row of a modality at most."""
        tokens, masks = [], []
        for modality, blank in self._blank.items():
            rows = [case.rows.get(modality, (blank,))[0] for case in cases]
            encoded = self._encode(modality, rows)
            there = np.array([modality in case.rows for case in cases])
            words = np.array([_length(row) or encoded.shape[1] for row in rows])
            tokens.append(encoded)
            masks.append(there[:, None] & (np.arange(encoded.shape[1]) < words[:, None]))
        return self._fuse(np.concatenate(tokens, axis=1), np.concatenate(masks, axis=1))

    def _encode(self, modality: Modality, rows: Sequence[Arrays]) -> NDArray[np.float32]:
        (tokens,) = self._sessions[modality].run(["tokens"], stack(rows))
        return np.asarray(tokens)

    def _fuse(self, tokens: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[Answer]:
        inputs = {"tokens": tokens, "mask": mask}
        (outputs,) = self._sessions[FUSION].run(["output"], inputs)
        label = self.bundle.task.label
        said = [self.bundle.calibration.predict(output, label, 0.9) for output in outputs]
        return [{"label": each.label, "probabilities": each.probabilities} for each in said]

    def _open(self, graph: Graph, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = str(self.bundle.folder / graph.file)
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def server_parser(name: str, description: str) -> CommandParser:
    """Return the parser of a server's command line: `bundle`, `precision`, `port`."""
    parser = CommandParser(prog=f"python -m benchmarks.servers.{name}", description=description)
    parser.add_argument("--bundle", type=Path, required=True, help="what is served")
    parser.add_argument("--precision", default="fp32", help="of the graphs (fp32)")
    parser.add_argument("--port", type=int, required=True, help="to listen on")
    return parser


def _zeros(graph: Graph) -> Arrays:
    """Return an empty row of what an encoder takes; a note of one token."""
    return {
        name: np.zeros([1 if isinstance(n, str) else n for n in each.shape[1:]], each.dtype)
        for name, each in graph.inputs.items()
        if name != "attention_mask"
    }


def _length(row: Arrays) -> int | None:
    return next((len(row[name]) for name in RAGGED & row.keys()), None)
