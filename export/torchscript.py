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

from export.graphs import GraphSource


def export_torchscript(source: GraphSource, path: Path) -> None:
    """Write one graph, weights inside.

    An axis that the recording took for fixed is not told by torch; it comes out in
    `export.parity`, which runs other sizes.
    """
    with _without_warnings(), torch.no_grad():
        traced = torch.jit.trace(source.module, tuple(source.inputs.values()), check_trace=False)
        recorded = io.BytesIO()
        torch.jit.save(traced, recorded)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(recorded) as whole, zipfile.ZipFile(path, "w") as kept:
        for entry in whole.infolist():
            # Where in whose files each operation comes from is nobody's business.
            if not entry.filename.endswith(".debug_pkl"):
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
        # It looks at every attribute of a module, transformers' old ones too.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
