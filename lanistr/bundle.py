"""The exported model on disk: everything that serving needs, and the proof that it is whole.

    manifest.json       what `lanistr.manifest` describes
    task.json           the task, as in tasks/*.yaml
    preprocessing.json  fitted preprocessing state, with tokenizer.json beside it
    arrays.json         how the arrays are made, for readers without this code
    calibration.json    temperature and conformal scores
    proof.npz           inputs made by chance for every graph, and what the model makes of them
    MODEL_CARD.md       for people
    onnx/PRECISION/*.onnx, torchscript/fp32/*.pt
                        one encoder a modality, ending in its projection; fusion with the head

An encoder takes the arrays of `lanistr.batch` with R rows and returns `tokens` (R, N, D) float32.
Fusion takes `tokens` (B, N, D) float32 and `mask` (B, N) bool, true for a token that is there, and
returns `output` (B, C), the head's, and `embedding` (B, E), both float32. Several rows of one case
are averaged before fusion; where the manifest gives the axis N of an encoder's tokens a name in
place of a number, rows differ in it and stand one behind the other, without padding. Modalities
stand in canonical order. TorchScript graphs take their inputs in the manifest's order.

arrays.json tells readers without this code how the arrays of a row are made, by modality
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
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lanistr.calibration import Calibration
from lanistr.draft import draft_folder
from lanistr.errors import BundleError
from lanistr.jsonfile import write_json
from lanistr.manifest import (
    FORMAT,
    MANIFEST,
    Build,
    FileEntry,
    Manifest,
    Precision,
    Runtime,
    bad_bundle,
    check_builds,
    read_json,
    read_manifest,
    version_of,
)
from lanistr.preprocess import Preprocessor
from lanistr.preprocess.base import STATE_FILE
from lanistr.tasks import TaskSpec

TASK, ARRAYS, CALIBRATION = "task.json", "arrays.json", "calibration.json"
CARD, PROOF = "MODEL_CARD.md", "proof.npz"

_NOBODYS = (".DS_Store", ".nfs")
"""Prefixes of names of files that operating systems leave in folders, and that may be lost."""

_LARGEST_PROOF = 256 << 20
"""Bytes of a proof unpacked: many times those of the paper's sizes."""


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
        manifest = read_manifest(folder)
        try:
            _verify(folder, manifest)
        except OSError as exc:  # a name too long for any file, one that may not be read
            raise bad_bundle(
                folder, f"cannot be read: {exc.strerror}", exc.filename, "a readable file"
            ) from exc
        for name in (ARRAYS, PROOF) if manifest.format == FORMAT else ():
            if name not in manifest.files:
                raise BundleError(
                    "the bundle is missing a file", code="missing_file", field=str(folder / name)
                )
        task = TaskSpec.parse(read_json(folder / TASK), BundleError, str(folder / TASK))
        if task.name != manifest.task:
            fault = "the task does not match the manifest"
            raise bad_bundle(folder / TASK, fault, task.name, manifest.task)
        check_builds(folder / MANIFEST, manifest, task)
        calibration = Calibration.parse(
            read_json(folder / CALIBRATION), BundleError, str(folder / CALIBRATION)
        )
        if not calibration.decision.fits(task.label):
            fault = "the decision does not fit the label"
            seen = calibration.decision.model_dump_json()
            accepted = f"a weight for each of {len(task.label.classes)} classes, or a cut between"
            raise bad_bundle(folder / CALIBRATION, fault, seen, accepted)
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
            "the bundle has no such build",
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
        path, entry = self.folder / file, self.manifest.files[file]
        _require(path)
        data = path.read_bytes()
        _compare(path, entry, len(data), hashlib.sha256(data).hexdigest())
        return data

    @contextmanager
    def unchanged(self, file: str) -> Iterator[Path]:
        """Give the path of a file of the manifest, for something that reads it by itself.

        Unlike with `read`, nothing of it is kept in memory. It is hashed before the block, and once
        more behind it if it then looks like another: by size, times, or place on the disk.

        Raises:
            BundleError: the file changed since the bundle was opened, or until the block ended.
        """
        path, entry = self.folder / file, self.manifest.files[file]
        before = _state(path)
        _check(path, entry)
        try:
            yield path
        finally:  # of a file that is half written, the block may complain in its own way
            if _state(path) != before:
                _check(path, entry)

    def proof(self) -> dict[str, NDArray[Any]]:
        """Return inputs and outputs of every graph: `GRAPH/inputs/NAME`, `GRAPH/outputs/NAME`.

        Raises:
            BundleError: the bundle has none, or not just the arrays that its graphs take and
                return.
        """
        if PROOF not in self.manifest.files:
            raise BundleError(
                "the bundle has no inputs to check its graphs with",
                code="no_proof",
                field=str(self.folder / PROOF),
                accepted="a bundle of format 2; export the run again with this version",
            )
        arrays = _load_arrays(self.folder / PROOF, self.read(PROOF))
        promised = {
            f"{name}/{side}/{each}": tensor
            for build in self.manifest.builds
            for name, graph in build.graphs.items()
            for side, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs))
            for each, tensor in tensors.items()
        }
        for key in sorted(promised.keys() | arrays.keys()):
            tensor, array = promised.get(key), arrays.get(key)
            if tensor is None or array is None or not tensor.fits(array):
                raise bad_bundle(
                    self.folder / PROOF,
                    f"does not match the inputs and outputs of the graphs: {key}",
                    None if array is None else f"{array.dtype} {list(array.shape)}",
                    "nothing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}",
                )
        return arrays

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
    place = folder.resolve()  # "." too, and what a link leads to
    with draft_folder(place, check=lambda: check_replaceable(folder)) as draft:
        fill(draft)
        files = {
            path.relative_to(draft).as_posix(): FileEntry(
                bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
            )
            for path in sorted(draft.rglob("*"))
            if path.is_file()
        }
        manifest = Manifest(
            format=FORMAT,
            version="",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files=files,
            **describe(),
        )
        said = manifest.model_dump(mode="json")
        write_json(draft / MANIFEST, said | {"version": version_of(said)})
        bundle = Bundle.open(draft)  # what was written must be readable before it replaces anything
    return Bundle(folder, bundle.manifest, bundle.task, bundle.preprocessor, bundle.calibration)


def check_replaceable(folder: Path) -> None:
    """Check that a bundle may be written in a folder: nothing but an older one is lost by it.

    Raises:
        BundleError: the folder holds anything else.
    """
    found = folder.rglob("*") if folder.is_dir() else [folder] * folder.exists()
    others = {
        each.relative_to(folder).as_posix()
        for each in found
        if (each.is_symlink() or not each.is_dir()) and not each.name.startswith(_NOBODYS)
    }
    if others and (folder / MANIFEST).is_file():
        with suppress(BundleError):
            said = read_json(folder / MANIFEST)
            if isinstance(said, dict) and "format" in said and isinstance(said.get("files"), dict):
                others -= {MANIFEST, *said["files"]}
    if others:
        raise BundleError(
            "the folder contains other files",
            code="not_a_bundle",
            field=str(folder),
            seen=min(others),
            accepted="a new folder, an empty one, or an older bundle to replace",
        )


def _load_arrays(path: Path, data: bytes) -> dict[str, NDArray[Any]]:
    """Unpack arrays, but not more of them than a proof has."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            unpacked = sum(each.file_size for each in packed.infolist())
        if unpacked > _LARGEST_PROOF:
            raise bad_bundle(
                path, "too large", f"{unpacked:,} bytes", f"at most {_LARGEST_PROOF:,} bytes"
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = dict(archive)
    except BundleError:
        raise
    except Exception as exc:  # numpy, zipfile and zlib raise what they like
        raise bad_bundle(path, f"cannot be read: {exc}") from exc
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy hands out the bytes of other members
            raise bad_bundle(path, f"not an array: {name}", None, "only NumPy arrays")
    return arrays


def _verify(folder: Path, manifest: Manifest) -> None:
    graphs = {g.file for build in manifest.builds for g in build.graphs.values()}
    named = {TASK, STATE_FILE, CALIBRATION, CARD, *graphs}
    # What starts with a dot is the file system's business (.DS_Store) and is never read.
    found = [path for path in folder.rglob("[!.]*") if path.is_file() or _is_link_to_folder(path)]
    inside = (path.relative_to(folder) for path in found)
    held = {path.as_posix() for path in inside if not path.parts[0].startswith(".")}
    folders = {str(each) for name in manifest.files for each in PurePosixPath(name).parents}
    for name in sorted((named | held) - {MANIFEST} - folders - set(manifest.files)):
        raise bad_bundle(folder / name, "the manifest has no hash for this file")
    for name, entry in manifest.files.items():
        pure = PurePosixPath(name)
        path = folder / name
        steps = (folder / step for step in (pure, *pure.parents[:-1]))
        outside = pure.is_absolute() or ".." in pure.parts or "\\" in name
        if outside or any(step.is_symlink() for step in steps):
            raise bad_bundle(
                folder / MANIFEST,
                "a bundle's files must be inside its folder",
                name,
                "a relative path without '..', not a link",
            )
        _check(path, entry)


def _is_link_to_folder(path: Path) -> bool:
    return path.is_symlink() and path.is_dir()


def _check(path: Path, entry: FileEntry) -> None:
    """Check that a file is the one that the manifest names."""
    _require(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        _compare(path, entry, file.tell(), digest)


def _require(path: Path) -> None:
    if not path.is_file():
        raise BundleError("the bundle is missing a file", code="missing_file", field=str(path))


def _compare(path: Path, entry: FileEntry, size: int, digest: str) -> None:
    if (size, digest) != (entry.bytes, entry.sha256):
        raise BundleError(
            "the file does not match the manifest",
            code="hash_mismatch",
            field=str(path),
            seen=f"{size} bytes, sha256 {digest[:12]}…",
            accepted=f"{entry.bytes} bytes, sha256 {entry.sha256[:12]}…",
        )


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is written to or replaced; None: there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
