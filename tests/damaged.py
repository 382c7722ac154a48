"""Bundles that somebody has changed, and made to look whole again."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from lanistr.manifest import MANIFEST, version_of


def change_manifest(folder: Path, **changes: Any) -> None:
    """Set keys of the manifest, and its version; None removes one."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) | changes
    manifest = {k: v for k, v in manifest.items() if v is not None}
    if "version" not in changes:
        manifest["version"] = version_of(manifest)
    path.write_text(json.dumps(manifest))


def change_build(folder: Path, change: Callable[[dict[str, Any]], object], number: int = 0) -> None:
    """Change a build in the manifest."""
    builds = json.loads((folder / MANIFEST).read_text())["builds"]
    change(builds[number])
    change_manifest(folder, builds=builds)


def put(folder: Path, name: str, data: bytes) -> None:
    """Write a file, and its hash into the manifest."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(folder, files=files | {name: entry})


def to_format_1(folder: Path) -> None:
    """Write the manifest as older versions did: of one build."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (build, *_) = manifest.pop("builds")
    for name in ("extent", "metric", "license"):
        del manifest[name]
    older = manifest | {name: build[name] for name in ("precision", "graphs", "parity")}
    (folder / MANIFEST).write_text(json.dumps(older | {"format": 1}))


# ---- graphs -------------------------------------------------------------------------------------

OUTSIDE = (
    "../../secret.bin",
    "../../../secret.bin",
    "secret.bin",
    "./secret.bin",
    "a/../secret.bin",
)
"""Where the weights of a graph may stand, as seen from wherever onnxruntime may look from."""


def put_weights_outside(
    folder: Path, graph: str, location: str, places: list[Path], *, constant: bool = False
) -> None:
    """Take the largest weight out of a graph, and put it where it is looked for from each place.

    Args:
        folder: of the bundle; what comes to stand in it is in its manifest.
        graph: file of the bundle.
        location: of the weight, as the graph names it.
        places: folders.
        constant: a node of the graph holds the weight, not the list of its weights.
    """
    proto = onnx.load(folder / graph)
    largest = max(proto.graph.initializer, key=lambda each: len(each.raw_data))
    weights = numpy_helper.to_array(largest).tobytes()
    largest.ClearField("raw_data")
    largest.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(weights)))):
        entry = largest.external_data.add()
        entry.key, entry.value = key, value
    if constant:
        node = helper.make_node("Constant", [], [largest.name], value=largest)
        proto.graph.initializer.remove(largest)
        proto.graph.node.insert(0, node)
    put(folder, graph, proto.SerializeToString())
    for place in places:
        (place / "a").mkdir(parents=True, exist_ok=True)
        target = (place / location).resolve()
        if target.is_relative_to(folder):
            put(folder, target.relative_to(folder).as_posix(), weights)
        else:
            target.write_bytes(weights)
