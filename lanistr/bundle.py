"""The exported model on disk: everything that serving needs, and the proof that it is whole.

    manifest.json       what is described below
    task.json           the task, as in tasks/*.yaml
    preprocessing.json  fitted preprocessing state, with tokenizer.json beside it
    calibration.json    temperature and conformal scores
    MODEL_CARD.md       for people
    onnx/*.onnx         one encoder a modality, ending in its projection; fusion with the head

An encoder takes the arrays of `lanistr.batch` with R rows and returns `tokens` (R, N, D) float32.
Fusion takes `tokens` (B, N, D) float32 and `mask` (B, N) bool, true for a token that is there, and
returns `output` (B, C), the head's, and `embedding` (B, D), both float32. Several rows of one case
are averaged before fusion; modalities stand in canonical order.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from pydantic import Field

from lanistr.calibration import Calibration
from lanistr.draft import draft_folder
from lanistr.errors import BundleError
from lanistr.modalities import Modality
from lanistr.preprocess import STATE_FILE, Preprocessor
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

FORMAT: Literal[1] = 1
MANIFEST, TASK, CALIBRATION, CARD = (
    "manifest.json",
    "task.json",
    "calibration.json",
    "MODEL_CARD.md",
)
FUSION = "fusion"


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


class Manifest(Schema):
    """What the bundle is.

    Attributes:
        format: version of this layout.
        name: whose model it is, for people.
        version: first twelve digits of the hash over all files' hashes.
        width: D, the width of a projected token.
        graphs: by modality, and `fusion`.
        parity: largest difference of each graph's output from the eager model's, as measured.
        metrics: on the test split.
        demo: the weights come from synthetic records; its predictions mean nothing.
    """

    format: Literal[1]
    task: str
    name: str
    version: str
    created: str
    source_run: str
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    width: int = Field(gt=0)
    demo: bool
    files: dict[str, FileEntry]
    graphs: dict[str, Graph]
    parity: dict[str, float]
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
        if set(manifest.graphs) != wanted:
            raise BundleError(
                "the graphs do not fit the task",
                code="bad_bundle",
                field=str(folder / MANIFEST),
                seen=", ".join(sorted(manifest.graphs)),
                accepted=", ".join(sorted(wanted)),
            )
        calibration = Calibration.parse(
            _read_json(folder / CALIBRATION), BundleError, str(folder / CALIBRATION)
        )
        return cls(folder, manifest, task, Preprocessor.load(folder, task), calibration)

    def graph(self, name: Modality | Literal["fusion"]) -> bytes:
        """Return a graph's file, checked once more: what is run is what was hashed.

        Raises:
            BundleError: the file changed since the bundle was opened.
        """
        file = self.manifest.graphs[name].file
        return _read(self.folder / file, self.manifest.files[file])

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
    if found != FORMAT:
        raise BundleError(
            "unknown bundle format",
            code="unknown_format",
            field=str(path),
            seen=found,
            accepted=f"format {FORMAT}; export the run again with this version",
        )
    return Manifest.parse(data, BundleError, str(path))


def _verify(folder: Path, manifest: Manifest) -> None:
    named = {TASK, STATE_FILE, CALIBRATION, CARD, *(g.file for g in manifest.graphs.values())}
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
