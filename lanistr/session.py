"""ONNX graphs of a bundle on onnxruntime, checked against the manifest before they are run."""

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from lanistr.manifest import Graph, Tensor, as_bad_graph, bad_graph

_DTYPES = {"float": "float32", "double": "float64", "float16": "float16"}
"""ONNX names of types for which numpy has others."""

_WEIGHTS_BESIDE = "session.model_external_initializers_file_folder_path"
_SILENT = 4  # what it would print stands in the errors that it raises


def open_session(
    model: bytes | Path, graph: Graph, source: str, options: Any, providers: Sequence[Any]
) -> Any:
    """Load a graph.

    Args:
        model: its file, or the bytes of it, which take as much memory again meanwhile. Weights
            stand inside, and nothing else is read.
        graph: what the manifest says of it.
        source: the file, for errors.
        options: `onnxruntime.SessionOptions` to load it with.
        providers: of onnxruntime, with their options or without; the first that is there is taken.

    Raises:
        BundleError: onnxruntime cannot load it, or it is not what the manifest says.
    """
    options.log_severity_level = _SILENT
    # A graph may ask for weights in another file, by default beside its own or in the working
    # directory. Nothing stands below the null device; paths out of it onnxruntime itself refuses.
    options.add_session_config_entry(_WEIGHTS_BESIDE, os.devnull)
    with as_bad_graph(source, "onnxruntime cannot load it"):
        session = onnxruntime.InferenceSession(model, options, providers=list(providers))
    # Else it keeps the bytes for as long as it lives, to begin again on the CPU if a GPU fails.
    session.disable_fallback()
    session._model_bytes = None
    _return_memory()
    _compare(source, graph.inputs, {each.name: each for each in session.get_inputs()})
    _compare(source, graph.outputs, {each.name: each for each in session.get_outputs()})
    return session


def _return_memory() -> None:
    """Give freed memory back: loading a graph takes twice its size, and glibc keeps half."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _compare(source: str, said: Mapping[str, Tensor], found: Mapping[str, Any]) -> None:
    """Check inputs or outputs against the manifest; the names of open axes do not matter."""
    if set(said) != set(found):
        raise bad_graph(source, "names", ", ".join(sorted(found)), ", ".join(sorted(said)))
    for name, tensor in said.items():
        kind = found[name].type.removeprefix("tensor(").removesuffix(")")
        shape = found[name].shape
        same = _sizes(shape) == _sizes(tensor.shape)
        if _DTYPES.get(kind, kind) != tensor.dtype or not same:
            accepted = f"{name} {tensor.dtype} {list(tensor.shape)}"
            raise bad_graph(source, "shapes", f"{name} {kind} {shape}", accepted)


def _sizes(shape: Sequence[int | str | None]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]
