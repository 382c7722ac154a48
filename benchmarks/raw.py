"""The limit of any server: the same cases through onnxruntime, one by one, with nothing around it.

No HTTP, no preprocessing in the time, no padding, no cache; one process, with as many threads as
the service gives a graph.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.servers.model import CORES
from benchmarks.workload import an_hour_later, as_features, workload
from lanistr.bundle import Bundle
from lanistr.command import CommandParser, run_command
from lanistr.errors import LanistrError
from service.engine.backends.onnx import OnnxBackend
from service.engine.cache import RowKeys, TokenCache
from service.engine.cost import Cost
from service.engine.runner import Job, Runner

Asked = tuple[int, int | None]
"""A record of the workload, and the number by which it is an hour later; None: as it is."""


class Raw:
    """The limit, in a process of its own.

    Args:
        folder: of the bundle.
        precision: of its graphs.
        cases: of the workload.
    """

    def __init__(self, folder: Path, precision: str, cases: int) -> None:
        words = ("--bundle", str(folder), "--precision", precision, "--cases", str(cases))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.raw", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, asked: Sequence[Asked]) -> Load:
        """Run cases, one after another.

        Raises:
            LanistrError: the process has ended; it says why.
        """
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise LanistrError("the graphs alone cannot be run", code="failed_command", field="raw")
        found = json.loads(line)
        spent: list[float] = found["seconds"]
        answers = [json.dumps(each).encode() for each in found["answers"]]
        return Load(sum(spent), spent, [200] * len(spent), [*range(len(spent))], answers)

    def close(self) -> None:
        """End the process."""
        with self._process:  # which waits for it and closes its pipes
            self._process.terminate()


def main() -> None:
    """Run the cases that standard input names, a list of `Asked` a line."""
    parser = CommandParser(
        prog="python -m benchmarks.raw", description="Run cases that others name."
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--cases", type=int, required=True)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    records = workload(bundle, arguments.cases, seed=0)
    backend = OnnxBackend(bundle, "cpu", arguments.precision, CORES)
    keys = RowKeys(bundle.manifest.version, backend.build.name)
    cost = Cost(backend.build.graphs)
    runner = Runner(backend, cost, TokenCache(0), budget=1, paces={})

    @cache
    def job(which: int, number: int | None) -> Job:
        record: Mapping[str, Any] = records[which]
        if number is not None:
            record = an_hour_later(record, number)
        features = as_features(record, bundle)
        return Job(features, keys.of(features))

    for line in sys.stdin:
        spent, said = [], []
        for each in [job(*asked) for asked in json.loads(line)]:
            started = time.perf_counter()
            (result,) = runner([each])
            spent.append(time.perf_counter() - started)
            prediction = bundle.calibration.predict(result.output, bundle.task.label, 0.9)
            said.append({"probabilities": prediction.probabilities})
        print(json.dumps({"seconds": spent, "answers": said}), flush=True)


if __name__ == "__main__":
    run_command(main)
