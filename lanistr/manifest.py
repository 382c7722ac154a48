"""What a bundle says of itself: its files, its builds with their graphs, and what was measured."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from lanistr.errors import BundleError, one_line
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

FORMAT: Literal[2] = 2
MANIFEST = "manifest.json"
FUSION = "fusion"

Runtime = Literal["onnx", "torchscript"]
Precision = Literal["fp32", "int8", "fp16", "bf16"]

MOST_FALL = 0.5
"""Points of the task's metric that a reduced precision may lose, unless the user says otherwise."""


class FileEntry(Schema):
    """Size and hash of a file of the bundle."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Tensor(Schema):
    """An input or output of a graph; an axis is a size or the name of a dynamic one."""

    dtype: str
    shape: tuple[Annotated[int, Field(ge=0)] | str, ...]

    def keeps(self, promise: "Tensor") -> bool:
        """Whether type and sizes are as promised; what is dynamic there may be any size here."""
        return (
            len(self.shape) == len(promise.shape)
            and self.dtype == promise.dtype
            and all(
                isinstance(wanted, str) or size == wanted
                for size, wanted in zip(self.shape, promise.shape, strict=True)
            )
        )

    def fits(self, array: NDArray[Any]) -> bool:
        """Whether an array has the type and sizes; of what is dynamic there must be some."""
        same = len(self.shape) == array.ndim and all(
            found > 0 if isinstance(size, str) else found == size
            for size, found in zip(self.shape, array.shape, strict=True)
        )
        return same and array.dtype.isnative and array.dtype.name == self.dtype


class Graph(Schema):
    """A graph of the bundle."""

    file: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Build(Schema):
    """The graphs for one runtime in one precision.

    Attributes:
        precision: of the arithmetic. int8: of the products with weights, activations scaled as
            they come; fp16: of everything between inputs and outputs; bf16: the float32 graphs,
            to be run under autocast.
        bytes: of the files; 0: not said (bundles of format 1).
        graphs: by modality, and `fusion`.
        whole: those of them that stay at float32, being far off in the build's precision; in bf16
            they are run outside autocast.
        parity: largest difference of each graph's output from the eager model's, as a share of the
            output's largest value where that is above 1; on real cases, see `Extent`.
        proof: the same on the inputs in proof.npz.
        metrics: on the labelled cases of the test split, or some of them, see `Extent`.
        fall: points of the task's metric lost against the eager model, on the same cases: 1 is a
            hundredth of a share such as AUROC, or one per cent of an error such as RMSE.
            None: not measured (bundles of format 1).
    """

    runtime: Runtime
    precision: Precision
    bytes: int = Field(ge=0)
    graphs: dict[str, Graph]
    whole: tuple[str, ...] = ()
    parity: dict[str, float]
    proof: dict[str, float] = {}
    metrics: dict[str, float] = {}
    fall: float | None = None

    @property
    def name(self) -> str:
        """Runtime and precision, as in `onnx fp32`."""
        return f"{self.runtime} {self.precision}"

    @property
    def alone(self) -> bool:
        """Whether rows run one by one: int8 scales activations by all that run together."""
        return self.precision == "int8"


class Extent(Schema):
    """What graphs and model were compared on.

    Attributes:
        cases: real ones, of the test split, each counted once.
        measured: cases of the test split that the metrics of builds rest on; 0: not said.
        batch_sizes: B.
        lengths: of the notes, in tokens; no longer than the longest of the cases.
        subsets: of modalities, all of those that a batch brings.
        bound: on the difference at fp32; other precisions have the metric's.
    """

    cases: int
    measured: int = 0
    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    subsets: int
    bound: float


class Manifest(Schema):
    """What the bundle is.

    Attributes:
        format: version of the layout on disk; 1 is converted to 2 when it is read.
        name: whose model it is, for people.
        version: first twelve digits of the hash over all that stands here, files' names and hashes
            included, but for version and date; see `version_of`. Known from a trusted source, it
            shows whether a bundle is the one.
        license: of the weights, as the exporter worded it.
        width: D, the width of a projected token, with its marks, if it has any.
        metric: the task's own among `metrics`.
        metrics: of the eager model on the labelled cases of the test split.
        most_fall: points of the metric that a reduced build was allowed to lose; None: not said.
        trained_on: sha256 of the `dataset.json` that the model was trained on; empty: not said.
        measured_on: likewise of the one whose test split is meant above.
        builds: what can be run, one a runtime and precision; those in fp32 stand first.
        extent: None in bundles of format 1, which did not say.
        demo: the weights come from synthetic records; its predictions mean nothing.
    """

    format: Literal[1, 2]
    task: str
    name: str
    version: str
    created: str
    source_run: str
    license: str = "not stated"
    width: int = Field(gt=0)
    demo: bool
    files: dict[str, FileEntry]
    builds: tuple[Build, ...] = Field(min_length=1)
    extent: Extent | None = None
    metric: str = ""
    metrics: dict[str, float]
    most_fall: float | None = None
    trained_on: str = ""
    measured_on: str = ""
    software: dict[str, str]

    @property
    def embedding(self) -> int:
        """E, the width of the embedding: that of a token, unless the first build says another."""
        fusion = self.builds[0].graphs.get(FUSION)
        said = fusion.outputs.get("embedding") if fusion else None
        width = said.shape[-1] if said and said.shape else self.width
        return width if isinstance(width, int) else self.width


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle, also of an older format.

    Raises:
        BundleError: there is none, or it is not as above.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            "not a bundle",
            code="not_a_bundle",
            field=str(folder),
            accepted=f"a folder with a {MANIFEST}, as `python -m export` writes it",
        )
    data = read_json(path)
    found = data.get("format") if isinstance(data, dict) else None
    if type(found) is int and found == 1:
        data = _from_format_1(data)
    elif type(found) is not int or found != FORMAT:
        raise BundleError(
            "unknown bundle format",
            code="unknown_format",
            field=str(path),
            seen=found,
            accepted=f"format 1 or {FORMAT}; export the run again with this version",
        )
    elif (said := data.get("version")) != (version := version_of(data)):
        raise bad_bundle(path, "the manifest does not match its version", said, version)
    return Manifest.parse(data, BundleError, str(path))


def version_of(said: Mapping[str, Any]) -> str:
    """Return the version of what a manifest says; its layout in the file does not matter."""
    counted = {name: value for name, value in said.items() if name not in ("version", "created")}
    return hashlib.sha256(json.dumps(counted).encode()).hexdigest()[:12]


def _from_format_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an older manifest to today's format: it had one precision, of ONNX."""
    old = dict(data)
    taken = ("precision", "graphs", "parity")
    build = {name: old.pop(name) for name in taken if name in old}
    return old | {"builds": [{"runtime": "onnx", "bytes": 0, **build}]}


def read_json(path: Path) -> Any:
    """Read a file of a bundle.

    Raises:
        BundleError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise bad_bundle(path, f"cannot be read: {exc}") from exc


def check_builds(path: Path, manifest: Manifest, task: TaskSpec) -> None:
    """Check that builds have the task's graphs, and graphs the shapes that fit the bundle.

    Raises:
        BundleError: one does not; the first is named.
    """
    names = [build.name for build in manifest.builds]
    modalities = {*task.modalities, FUSION}
    for build in manifest.builds:
        if names.count(build.name) > 1:
            raise bad_bundle(
                path, f"two builds are named {build.name}", None, "one build of each name"
            )
        if set(build.graphs) != modalities:
            raise bad_bundle(
                path,
                f"the graphs of {build.name} do not match the task",
                ", ".join(sorted(build.graphs)),
                ", ".join(sorted(modalities)),
            )
        if not modalities.issuperset(build.whole):
            fault = f"{build.name} lists graphs as whole that it does not have"
            raise bad_bundle(path, fault, ", ".join(build.whole), ", ".join(sorted(modalities)))
        for name, graph in build.graphs.items():
            promised = _promised(name, manifest, task.label.outputs)
            for said, wanted in zip((graph.inputs, graph.outputs), promised, strict=True):
                named = not wanted or said.keys() == wanted.keys()
                if not named or not all(said[each].keeps(wanted[each]) for each in wanted):
                    fault = f"the {name} graph of {build.name} does not match the bundle"
                    raise bad_bundle(path, fault, _words(said), _words(wanted))


def bad_bundle(path: Path, fault: str, seen: Any = None, accepted: str = "") -> BundleError:
    """Return the error of a bundle that is damaged, or whose parts do not fit one another."""
    return BundleError(fault, code="bad_bundle", field=str(path), seen=seen, accepted=accepted)


@contextmanager
def as_bad_graph(source: str, fault: str) -> Iterator[None]:
    """Raise what a runtime raises as the error of a bad graph that names the file.

    Raises:
        BundleError: whatever was raised inside; the runtimes' own errors share no base.
    """
    try:
        yield
    except Exception as exc:
        raise BundleError(f"{fault}: {one_line(exc)}", code="bad_graph", field=source) from exc


def bad_graph(source: str, fault: str, seen: object, accepted: object) -> BundleError:
    """Return the error of a graph that is not what its manifest says."""
    return BundleError(
        f"does not match the manifest: {fault}",
        code="bad_graph",
        field=source,
        seen=str(seen),
        accepted=str(accepted),
    )


def _words(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {each.dtype} {list(each.shape)}" for name, each in tensors.items())


def _promised(
    name: str, manifest: Manifest, outputs: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what `lanistr.bundle` says of a graph's inputs, if they do, and outputs."""
    tokens = Tensor(dtype="float32", shape=("any", "any", manifest.width))
    if name != FUSION:
        return {}, {"tokens": tokens}
    return {"tokens": tokens, "mask": Tensor(dtype="bool", shape=("any", "any"))}, {
        "output": Tensor(dtype="float32", shape=("any", outputs)),
        "embedding": Tensor(dtype="float32", shape=("any", manifest.embedding)),
    }
