"""The exported model on disk: everything that serving needs, and the proof that it is whole.

    manifest.json       what is described below
    task.json           the task, as in tasks/*.yaml
    preprocessing.json  fitted preprocessing state, with tokenizer.json beside it
    arrays.json         how the arrays are made, told for readers that have none of this code
    calibration.json    temperature and conformal scores
    proof.npz           inputs made by chance for every graph, and what the model makes of them
    MODEL_CARD.md       for people
    onnx/PRECISION/*.onnx, torchscript/fp32/*.pt
                        one encoder a modality, ending in its projection; fusion with the head

An encoder takes the arrays of `lanistr.batch` with R rows and returns `tokens` (R, N, D) float32.
Fusion takes `tokens` (B, N, D) float32 and `mask` (B, N) bool, true for a token that is there, and
returns `output` (B, C), the head's, and `embedding` (B, D), both float32. Several rows of one case
are averaged before fusion; modalities stand in canonical order. TorchScript graphs take their
inputs in the manifest's order.

arrays.json tells readers that have none of this code how the arrays of a row are made, by modality
and array (`docs/consumer.py` is such a reader). Values must be clean: a number in its field's unit
and range, a word as the task spells it, nothing (or null) where one is missing.

    text        token_ids   what to put in the place of parts of tokenizer.json, which then makes
                            the ids of a note as it came; attention_mask is 1 for each
    image       pixels      of a picture turned upright, in RGB, the share `bleed` of its width is
                            cut off on either side, and of its height above and below; of what is
                            left, the largest centred square is resized to `size`
    tabular     numbers     columns. A column shows `missing` where the field `of` has no value;
                categories  else, with `codes`, the word's code, or `other`; with `buckets`, `first`
                            and the word's CRC-32 (of UTF-8) modulo `buckets`; else the number,
                            or log(1 + number) with `log`, less `mean`, divided by `std`
    timeseries  steps       from which hour, to before which, each row of `values` goes
                start       what holds before the first measurement, by variable
                sums        variables that, in a step that lacks them and has all their parts, are
                            the sum of the numbers that the parts' words are
                values      columns, of the last value in the step, or with `carried` of the last
                            one so far

Nothing in a bundle is run when it is read, and nothing outside it is: graphs bring their weights
inside, arrays are read without pickle. TorchScript is a program; load it of people you trust.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lanistr.calibration import Calibration
from lanistr.draft import draft_folder
from lanistr.errors import BundleError
from lanistr.preprocess import STATE_FILE, Preprocessor
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

FORMAT: Literal[2] = 2
MANIFEST, TASK, ARRAYS, CALIBRATION, CARD, PROOF = (
    "manifest.json",
    "task.json",
    "arrays.json",
    "calibration.json",
    "MODEL_CARD.md",
    "proof.npz",
)
FUSION = "fusion"

Runtime = Literal["onnx", "torchscript"]
Precision = Literal["fp32", "int8", "fp16", "bf16"]


class FileEntry(Schema):
    """Size and hash of a file of the bundle."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Tensor(Schema):
    """An input or output of a graph; an axis is a size or the name of a dynamic one."""

    dtype: str
    shape: tuple[int | str, ...]


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
        bytes: of the files.
        graphs: by modality, and `fusion`.
        parity: largest difference of each graph's output from the eager model's, as a share of the
            output's largest value where that is above 1; on real cases, see `Extent`.
        proof: the same on the inputs in proof.npz.
        metrics: on the labelled cases of the test split.
        fall: points of the task's metric lost against the eager model, on the same cases: 1 is a
            hundredth of a share such as AUROC, or one per cent of an error such as RMSE.
            None: not measured (bundles of format 1).
    """

    runtime: Runtime
    precision: Precision
    bytes: int = Field(ge=0)
    graphs: dict[str, Graph]
    parity: dict[str, float]
    proof: dict[str, float] = {}
    metrics: dict[str, float] = {}
    fall: float | None = None

    @property
    def name(self) -> str:
        """Runtime and precision, as in `onnx fp32`."""
        return f"{self.runtime} {self.precision}"


class Extent(Schema):
    """What graphs and model were compared on.

    Attributes:
        cases: real ones, of the test split.
        batch_sizes: B.
        lengths: of the notes, in tokens; no longer than the longest of the cases.
        subsets: of modalities, all of those that a batch brings.
        bound: on the difference at fp32; other precisions have the metric's.
    """

    cases: int
    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    subsets: int
    bound: float


class Manifest(Schema):
    """What the bundle is.

    Attributes:
        format: version of this layout.
        name: whose model it is, for people.
        version: first twelve digits of the hash over all files' hashes.
        license: of the weights, in the words of who exported them.
        width: D, the width of a projected token.
        metric: the task's own among `metrics`.
        metrics: of the eager model on the labelled cases of the test split.
        builds: what can be run; the first is fp32's.
        extent: None in bundles of format 1, which did not say.
        demo: the weights come from synthetic records; its predictions mean nothing.
    """

    format: Literal[2]
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
    software: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and checked."""

    folder: Path
    manifest: Manifest
    task: TaskSpec
    preprocessor: Preprocessor
    calibration: Calibration

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a bundle; every file that its manifest names is hashed.

        Raises:
            BundleError: a file is missing or changed, the format is unknown, or parts do not fit.
        """
        manifest = _read_manifest(folder)
        _verify(folder, manifest)
        task = TaskSpec.parse(_read_json(folder / TASK), BundleError, str(folder / TASK))
        if task.name != manifest.task:
            raise BundleError(
                "the task does not fit the manifest",
                code="bad_bundle",
                field=str(folder / TASK),
                seen=task.name,
                accepted=manifest.task,
            )
        wanted = {*task.modalities, FUSION}
        for build in manifest.builds:
            if set(build.graphs) != wanted:
                raise BundleError(
                    f"the graphs of {build.name} do not fit the task",
                    code="bad_bundle",
                    field=str(folder / MANIFEST),
                    seen=", ".join(sorted(build.graphs)),
                    accepted=", ".join(sorted(wanted)),
                )
        calibration = Calibration.parse(
            _read_json(folder / CALIBRATION), BundleError, str(folder / CALIBRATION)
        )
        return cls(folder, manifest, task, Preprocessor.load(folder, task), calibration)

    def build(self, runtime: Runtime, *wishes: Precision) -> Build:
        """Return the graphs for a runtime in the first of the precisions that the bundle has.

        Raises:
            BundleError: it has none of them.
        """
        found = {each.precision: each for each in self.manifest.builds if each.runtime == runtime}
        for wish in wishes:
            if wish in found:
                return found[wish]
        raise BundleError(
            "the bundle has no such graphs",
            code="no_build",
            field=str(self.folder),
            seen=f"{runtime} {' or '.join(wishes)}",
            accepted=", ".join(each.name for each in self.manifest.builds),
        )

    def read(self, file: str) -> bytes:
        """Return a file of the manifest, checked once more: what is run is what was hashed.

        Raises:
            BundleError: the file changed since the bundle was opened.
        """
        return _read(self.folder / file, self.manifest.files[file])

    def proof(self) -> dict[str, NDArray[Any]]:
        """Return inputs and outputs of every graph: `GRAPH/inputs/NAME`, `GRAPH/outputs/NAME`.

        Raises:
            BundleError: the bundle has none, or one that is no plain arrays.
        """
        path = self.folder / PROOF
        if PROOF not in self.manifest.files:
            raise BundleError(
                "the bundle brings nothing to try its graphs with",
                code="no_proof",
                field=str(path),
                accepted="a bundle of format 2; export the run again with this version",
            )
        try:
            with np.load(io.BytesIO(self.read(PROOF)), allow_pickle=False) as arrays:
                return dict(arrays)
        except (ValueError, OSError, zipfile.BadZipFile) as exc:
            raise BundleError(f"cannot be read: {exc}", code="bad_bundle", field=str(path)) from exc

    def card(self) -> str:
        """Return the model card, Markdown."""
        return (self.folder / CARD).read_text(encoding="utf-8")


def write_bundle(
    folder: Path,
    fill: Callable[[Path], None],
    describe: Callable[[], Mapping[str, Any]],
) -> Bundle:
    """Write a bundle as a whole or not at all.

    Args:
        folder: where it is to stand; an older bundle there is replaced.
        fill: writes every file but the manifest into the folder that it is given.
        describe: returns the manifest's fields, once every file is written; version, date and
            hashes are added here.

    Raises:
        BundleError: `folder` holds something that is not a bundle.
    """
    replaceable = (folder / MANIFEST).is_file() or not folder.exists()
    if not replaceable and not (folder.is_dir() and not any(folder.iterdir())):
        raise BundleError(
            "the folder holds other files",
            code="not_a_bundle",
            field=str(folder),
            accepted="a new folder, an empty one, or an older bundle to be replaced",
        )
    with draft_folder(folder) as draft:
        fill(draft)
        files = {
            path.relative_to(draft).as_posix(): FileEntry(
                bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
            )
            for path in sorted(draft.rglob("*"))
            if path.is_file()
        }
        total = hashlib.sha256("".join(files[name].sha256 for name in files).encode())
        manifest = Manifest(
            format=FORMAT,
            version=total.hexdigest()[:12],
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files=files,
            **describe(),
        )
        text = json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False)
        (draft / MANIFEST).write_text(text + "\n", encoding="utf-8")
        bundle = Bundle.open(draft)  # what was written must be readable before it replaces anything
    return Bundle(folder, bundle.manifest, bundle.task, bundle.preprocessor, bundle.calibration)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            "not a bundle",
            code="not_a_bundle",
            field=str(folder),
            accepted=f"a folder with a {MANIFEST}, as `python -m export` writes it",
        )
    data = _read_json(path)
    found = data.get("format") if isinstance(data, dict) else None
    if found == 1:
        data = _from_format_1(data)
    elif found != FORMAT:
        raise BundleError(
            "unknown bundle format",
            code="unknown_format",
            field=str(path),
            seen=found,
            accepted=f"format 1 or {FORMAT}; export the run again with this version",
        )
    return Manifest.parse(data, BundleError, str(path))


def _from_format_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an older manifest in the words of today: it had one precision, of ONNX."""
    old = dict(data)
    taken = ("precision", "graphs", "parity")
    build = {name: old.pop(name) for name in taken if name in old}
    return old | {"format": FORMAT, "builds": [{"runtime": "onnx", "bytes": 0, **build}]}


def _verify(folder: Path, manifest: Manifest) -> None:
    graphs = {g.file for build in manifest.builds for g in build.graphs.values()}
    named = {TASK, STATE_FILE, CALIBRATION, CARD, *graphs}
    # What starts with a dot is the file system's business (.DS_Store) and is never read.
    inside = (path.relative_to(folder) for path in folder.rglob("[!.]*") if path.is_file())
    held = {path.as_posix() for path in inside if not path.parts[0].startswith(".")}
    for name in sorted((named | held) - {MANIFEST} - set(manifest.files)):
        raise BundleError(
            "the manifest has no hash of this file", code="bad_bundle", field=str(folder / name)
        )
    for name, entry in manifest.files.items():
        pure = PurePosixPath(name)
        path = folder / name
        steps = (folder / step for step in (pure, *pure.parents[:-1]))
        outside = pure.is_absolute() or ".." in pure.parts or "\\" in name
        if outside or any(step.is_symlink() for step in steps):
            raise BundleError(
                "a bundle's files stand inside it",
                code="bad_bundle",
                field=str(folder / MANIFEST),
                seen=name,
                accepted="a relative path without '..', not a link",
            )
        _read(path, entry)


def _read(path: Path, entry: FileEntry) -> bytes:
    """Return a file's bytes, which must be those that the manifest names."""
    if not path.is_file():
        raise BundleError("the bundle lacks a file", code="missing_file", field=str(path))
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise BundleError(
            "the file is not what its manifest says",
            code="hash_mismatch",
            field=str(path),
            seen=f"{len(data)} bytes, sha256 {digest[:12]}…",
            accepted=f"{entry.bytes} bytes, sha256 {entry.sha256[:12]}…",
        )
    return data


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BundleError(f"cannot be read: {exc}", code="bad_bundle", field=str(path)) from exc
