"""The builds of a bundle: graphs for a runtime in a precision, each tried before it is handed out.

A build of reduced precision is judged by what the task's metric loses on the test split. A graph of
one that is far off by itself stays at float32: TabNet is, which gates by small differences, and has
so few weights that nothing is gained by reducing it.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from export.exported import Exported, Run, open_graphs
from export.graphs import GraphSource
from export.onnx import Signature, export_onnx
from export.parity import Reference, naming_build, try_proof
from export.reduce import reduce_onnx
from export.torchscript import export_torchscript
from lanistr.calibration import Calibration
from lanistr.errors import BundleError
from lanistr.manifest import FUSION, Build, Graph, Precision, Runtime
from lanistr.model.lanistr import Lanistr
from lanistr.proof import BOUND, Proof
from training.data.store import Dataset
from training.metrics import higher_is_better, known, measure
from training.predict import predict

log = logging.getLogger(__name__)

OFFERED: Mapping[Runtime, Sequence[Precision]] = {
    "onnx": ("fp32", "int8", "fp16"),
    "torchscript": ("fp32", "bf16"),
}
PRECISIONS: Sequence[Precision] = ("fp32", "int8", "fp16", "bf16")
USUAL: Sequence[Precision] = ("fp32", "int8")

_FAR_OFF = 0.05
"""Difference of an encoder's tokens, as a share of the largest, above which it stays at float32."""

_TOGETHER = 64
"""Cases in a batch when the metric is measured."""


# ---- what is written ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """Writes graphs into the draft of a bundle, each once.

    Attributes:
        draft: the bundle's folder.
        sources: what to export, by name.
        signatures: inputs and outputs of those written so far.
    """

    draft: Path
    sources: Mapping[str, GraphSource]
    signatures: dict[str, Signature] = field(default_factory=dict)

    def onnx(self, name: str, precision: Precision) -> Graph:
        """Write an ONNX graph; reduced ones are made of the one in float32."""
        path = self.draft / "onnx" / precision / f"{name}.onnx"
        if not path.exists():
            if precision == "fp32":
                self.signatures[name] = export_onnx(self.sources[name], path)
            else:
                whole = self.draft / self.onnx(name, "fp32").file
                reduce_onnx(whole, precision, path)
        return self._graph(name, path)

    def torchscript(self, name: str, precision: Precision) -> Graph:
        """Write a TorchScript graph: the one in float32, which autocast makes others of."""
        self.onnx(name, "fp32")  # says which axes really vary
        path = self.draft / "torchscript" / "fp32" / f"{name}.pt"
        if not path.exists():
            export_torchscript(self.sources[name], path)
        return self._graph(name, path)

    def write(self, name: str, runtime: Runtime, precision: Precision) -> Graph:
        """Write a graph, as far as it is not there."""
        return {"onnx": self.onnx, "torchscript": self.torchscript}[runtime](name, precision)

    def keep(self, builds: Sequence[Build]) -> None:
        """Remove the graphs that no build needs in the end, and folders that hold no more."""
        needed = {self.draft / graph.file for build in builds for graph in build.graphs.values()}
        written = {*self.draft.glob("onnx/*/*"), *self.draft.glob("torchscript/*/*")}
        for path in written - needed:
            path.unlink()
            for folder in (path.parent, path.parent.parent):
                if not any(folder.iterdir()):
                    folder.rmdir()

    def _graph(self, name: str, path: Path) -> Graph:
        file = path.relative_to(self.draft).as_posix()
        return Graph(file=file, **self.signatures[name]._asdict())


# ---- what is found out about it -----------------------------------------------------------------


@dataclass(frozen=True)
class BuildReference:
    """What builds are held against.

    Attributes:
        model: in evaluation mode, on the CPU.
        reference: what it makes of real cases.
        proof: what it makes of inputs made by chance.
        dataset: where the cases stand that metrics are measured on.
        rows: (N,) which they are.
        metrics: of the model there, see `figures`.
        calibration: of the run.
    """

    model: Lanistr
    reference: Reference
    proof: Proof
    dataset: Dataset
    rows: NDArray[np.int64]
    metrics: Mapping[str, float]
    calibration: Calibration


def make_build(
    writer: Writer, expected: BuildReference, runtime: Runtime, precision: Precision
) -> Build:
    """Write a build and hold it against the model.

    Raises:
        ParityError: at float32, a difference over the bound; at any, one that is not finite.
        BundleError: a graph cannot be exported.
    """
    graphs = {name: writer.write(name, runtime, precision) for name in writer.sources}
    build, opened = _compared(writer, expected, runtime, precision, graphs)
    parity = build.parity.items()
    far = [name for name, difference in parity if name != FUSION and difference > _FAR_OFF]
    if far:
        log.info("%s: kept in fp32: %s", build.name, ", ".join(far))
        graphs |= {name: writer.write(name, runtime, "fp32") for name in far}
        build, opened = _compared(writer, expected, runtime, precision, graphs, far)
    dataset, metric = expected.dataset, expected.dataset.task.metric
    found = as_served(build, opened, expected.model, dataset, expected.rows)
    metrics = figures(found, dataset, expected.rows, expected.calibration)
    fall = points_lost(metric, expected.metrics.get(metric), metrics.get(metric))
    return build.model_copy(update={"metrics": metrics, "fall": fall})


def as_served(
    build: Build,
    opened: Mapping[str, Run],
    model: Lanistr,
    dataset: Dataset,
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the head's outputs (N, C) of the N cases `rows`; see `Build.alone`."""
    exported = Exported(model, opened, alone=build.alone)
    size = 1 if build.alone else _TOGETHER
    return predict(exported, dataset, rows, torch.device("cpu"), size)


def _compared(
    writer: Writer,
    expected: BuildReference,
    runtime: Runtime,
    precision: Precision,
    graphs: Mapping[str, Graph],
    whole: Sequence[str] = (),
) -> tuple[Build, dict[str, Run]]:
    """Run the graphs beside the model, those named in `whole` at float32."""
    paths = {graph.file: writer.draft / graph.file for graph in graphs.values()}
    build = Build(
        runtime=runtime,
        precision=precision,
        bytes=sum(path.stat().st_size for path in paths.values()),
        graphs=dict(graphs),
        whole=tuple(whole),
        parity={},
    )
    opened = open_graphs(build, lambda file: paths[file].read_bytes())
    exported = Exported(expected.model, opened)
    bounds = dict.fromkeys(opened, BOUND if precision == "fp32" else math.inf)
    with naming_build(build):
        parity = expected.reference.differences(exported, bounds)
        proof = try_proof(expected.proof, opened, bounds)
    ordered = {name: parity[name] for name in graphs}
    return build.model_copy(update={"parity": ordered, "proof": proof}), opened


def figures(
    logits: NDArray[np.float32],
    dataset: Dataset,
    rows: NDArray[np.int64],
    calibration: Calibration,
) -> dict[str, float]:
    """Return by name the metrics that the cases determine.

    Args:
        logits: (N, C) of the head, before the temperature; (N, 1) for regression.
        dataset: where the cases stand.
        rows: (N,) which they are.
        calibration: of the run.
    """
    outputs, targets = logits / calibration.temperature, dataset.labels[rows]
    found = measure(outputs, targets, dataset.task.label, calibration.decision)
    return {name: each for name, value in found.items() if (each := known(value)) is not None}


def points_lost(metric: str, before: float | None, after: float | None) -> float | None:
    """Return what is lost of a metric, in points; negative where something is gained.

    A point is a hundredth of a share (AUROC, accuracy), one per cent of an error (RMSE, MAE).
    None where one of the two is not determined, or where there was no error that could grow.
    """
    if before is None or after is None:
        return None
    if before == after:
        return 0.0
    if higher_is_better(metric):
        return round(100 * (before - after), 4)
    return round(100 * (after / before - 1), 4) if before else None


def check_fit(build: Build, metric: str, most_fall: float) -> None:
    """Check that a build of reduced precision predicts nearly as well as the model.

    Raises:
        BundleError: it loses too much of the metric, or the test split does not determine it.
    """
    if build.precision == "fp32" or (build.fall is not None and build.fall <= most_fall):
        return
    unknown = "the test split does not determine it"
    raise BundleError(
        f"{build.name} loses too much of the metric",
        code="worse",
        field=metric,
        seen=unknown if build.fall is None else f"{build.fall:.2f} points lost",
        accepted=f"at most {most_fall:g} points lost (--most-fall)",
    )
