"""What frozen encoders make of the rows of a data set: encoded once, then read every epoch.

    DATA/encoded/KEY/
      about.json          where it came from, and the sha256 of the other files
      MODALITY.f16        the tokens of all rows one after another, W float16 numbers each
      MODALITY.rows.npy   the rows of the modality's table that are here, ascending
      MODALITY.ends.npy   where each row's tokens end, in tokens

The key is a hash of weights, data and cases, so that a run with another seed finds what an earlier
one wrote, and one with other weights does not. Files that are not as they were written are made
anew.
"""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lanistr import __version__
from lanistr.batch import Arrays
from lanistr.errors import DataError
from lanistr.leftovers import swept_draft
from lanistr.modalities import Modality
from lanistr.model.checkpoint import weights
from lanistr.model.encoder import Encoder
from lanistr.model.lanistr import Lanistr
from training.data.loader import load_rows
from training.data.sampler import in_order
from training.data.store import Dataset, data_hash, file_hash

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 64


class EncodedStore:
    """The tokens of the rows of some cases, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self._tokens: dict[Modality, NDArray[np.float16]] = {}
        self._rows: dict[Modality, NDArray[np.int64]] = {}
        self._ends: dict[Modality, NDArray[np.int64]] = {}
        for name, width in about["widths"].items():
            modality = Modality(name)
            self._rows[modality] = np.load(folder / f"{name}.rows.npy")
            self._ends[modality] = np.load(folder / f"{name}.ends.npy")
            shape = (int(self._ends[modality][-1]), int(width))
            self._tokens[modality] = np.memmap(
                folder / f"{name}.f16", dtype=np.float16, mode="r", shape=shape
            )

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """Travel to another process by name, not as a copy of the arrays."""
        return type(self), (self.folder,)

    def __contains__(self, modality: object) -> bool:
        return modality in self._tokens

    def arrays(self, modality: Modality, row: int) -> Arrays:
        """Return `encoded` (N, W) float16 of one row of a modality's table."""
        rows, ends = self._rows[modality], self._ends[modality]
        place = int(np.searchsorted(rows, row))
        assert rows[place] == row, f"{modality} row {row} was not encoded"
        start = ends[place - 1] if place else 0
        return {"encoded": self._tokens[modality][start : ends[place]]}


def encode_once(
    model: Lanistr,
    dataset: Dataset,
    positions: NDArray[np.int64],
    *,
    device: torch.device,
    dtype: torch.dtype,
    workers: int = 0,
) -> Path:
    """Return the folder of what the encoders make of the cases; encode them if nobody has before.

    Every file is read once to compare its hash, which takes a second a gigabyte or so.

    Args:
        model: on the device, its encoders frozen.
        dataset: where the cases stand.
        positions: the cases.
        device: to encode on.
        dtype: of numbers to encode in, bf16 or float32.
        workers: processes that read rows ahead.

    Raises:
        DataError: an encoder yields what float16 cannot hold, or the disk takes no more.
    """
    key = _key(model, dataset, positions, device, dtype)
    folder = dataset.folder / "encoded" / key
    if not _whole(folder):
        with swept_draft(folder) as draft:
            widths: dict[str, int] = {}
            for modality in dataset.task.modalities:
                rows = np.unique(dataset.references(modality, positions))
                if len(rows):
                    encoder = model.encoder(modality)
                    widths[modality] = encoder.width
                    _encode(encoder, dataset, modality, rows, draft, device, dtype, workers)
            about = {
                "data": str(dataset.folder),
                "cases": len(positions),
                "widths": widths,
                "hashes": {path.name: file_hash(path) for path in sorted(draft.iterdir())},
            }
            (draft / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return folder


def _whole(folder: Path) -> bool:
    """Whether a folder holds what was encoded before, as it was written."""
    if not folder.is_dir():
        return False
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        damaged = [n for n, each in about["hashes"].items() if file_hash(folder / n) != each]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
        damaged = [str(exc)]
    if damaged:
        log.warning("%s is damaged and will be encoded again: %s", folder, ", ".join(damaged))
    return not damaged


@torch.inference_mode()
def _encode(
    encoder: Encoder,
    dataset: Dataset,
    modality: Modality,
    rows: NDArray[np.int64],
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    workers: int,
) -> None:
    assert not encoder.training, "a frozen encoder is in evaluation mode"
    chunks = in_order(rows, _ROWS_AT_ONCE)
    lengths: list[int] = []
    with (folder / f"{modality}.f16").open("wb") as out:
        loaded = load_rows(dataset, modality, chunks, workers=workers)
        for arrays in tqdm(
            loaded, desc=f"encoding {modality}", total=len(chunks), leave=False, disable=None
        ):
            moved = {name: array.to(device) for name, array in arrays.items()}
            with torch.autocast(device.type, dtype, enabled=dtype == torch.bfloat16):
                tokens_RNW = encoder(**moved)
            real_RN = encoder.token_mask(**moved)
            for row, tokens_NW in enumerate(tokens_RNW.half()):
                kept = tokens_NW if real_RN is None else tokens_NW[real_RN[row]]
                if not bool(kept.isfinite().all()):
                    raise DataError(
                        f"the {modality} encoder's outputs are too large for float16",
                        accepted="--set cache_features=false",
                    )
                lengths.append(len(kept))
                out.write(kept.cpu().numpy().tobytes())
    np.save(folder / f"{modality}.rows.npy", rows)
    np.save(folder / f"{modality}.ends.npy", np.cumsum(lengths))


def _key(
    model: Lanistr,
    dataset: Dataset,
    positions: NDArray[np.int64],
    device: torch.device,
    dtype: torch.dtype,
) -> str:
    # Another version may encode otherwise.
    digest = hashlib.sha256(f"{data_hash(dataset)} {device.type} {dtype} {__version__}".encode())
    digest.update(positions.tobytes())
    digest.update(
        model.config.model_dump_json(
            exclude={"head", "unimodal", "simmmm", "summary", "fusion"}
        ).encode()
    )
    for name, tensor in sorted(weights(model.encoders).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:24]
