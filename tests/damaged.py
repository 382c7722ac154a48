"""Bundles that somebody has changed, and made to look whole again."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lanistr.manifest import MANIFEST


def change_manifest(folder: Path, **changes: Any) -> None:
    """Set keys of the manifest; None removes one."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


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
