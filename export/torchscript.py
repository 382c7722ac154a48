"""TorchScript graphs: the model's own operations, recorded as a real batch goes through them.

They are programs: read only those of a bundle that is trusted.
"""

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from export.graphs import GraphSource

_LEFT_OUT = (".debug_pkl", ".data/serialization_id")
"""Of an archive: where in whose files each operation comes from, and a hash over that."""


def export_torchscript(source: GraphSource, path: Path) -> None:
    """Write one graph, weights inside; the same model gives the same bytes.

    An axis that the recording took for fixed is not told by torch; it comes out in
    `export.parity`, which runs other sizes.
    """

    # Of a module torch records every module inside, each under a name that counts those which this
    # process recorded before. A function has none: its weights are constants.
    def compute(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return source.module(*inputs)

    with _without_warnings(), torch.no_grad():
        traced = torch.jit.trace(
            compute,
            tuple(source.inputs.values()),
            check_trace=False,
            _compilation_unit=torch.jit.CompilationUnit(),  # else names count here too
        )
        recorded = io.BytesIO()
        torch.jit.save(traced, recorded)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(recorded) as whole, zipfile.ZipFile(path, "w") as kept:
        for entry in whole.infolist():
            if not entry.filename.endswith(_LEFT_OUT):
                kept.writestr(entry, whole.read(entry))


def load_torchscript(data: bytes) -> torch.jit.ScriptModule:
    """Read a graph back, for the CPU."""
    with _without_warnings():
        return torch.jit.load(io.BytesIO(data), map_location="cpu").eval()


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # Deprecated in favour of torch.export, whose programs libtorch alone cannot load.
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        yield
