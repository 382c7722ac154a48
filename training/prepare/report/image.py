"""How large pictures are, and what a few of them look like."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lanistr.preprocess.base import ModalityPreprocessor
from lanistr.preprocess.image import FORMATS
from training.prepare.report.part import PartSurvey, Records
from training.prepare.report.summaries import Numbers, Reservoir, Words

THUMBNAIL = 128
"""Longer side of a thumbnail, in pixels."""

_WAITING = 1024


class ImageSurvey(PartSurvey):
    """Counts pictures by size and format, and keeps a few."""

    alike = "leak"
    items = "images"
    signals = ("width", "height", "bytes")

    def __init__(self, preprocessor: ModalityPreprocessor[Any, Any]) -> None:
        self._summaries = {name: Numbers() for name in ("width", "height", "bytes", "pictures")}
        self._waiting: dict[str, list[int]] = {name: [] for name in self._summaries}
        self._formats = Words()
        self._kept: dict[int, tuple[str, bytes]] = {}
        self._reservoir = Reservoir(0, 0)
        self._last = np.full(len(self.signals), np.nan)

    def keep(self, count: int, seed: int) -> None:
        """Keep so many pictures, drawn with the seed, for `thumbnails`."""
        self._reservoir = Reservoir(count, seed)

    def add(self, part: Any, records: Records, case: str, split: int) -> None:
        """Read the pictures' headers; what is stored of each may be kept."""
        for data, record in zip(part, records, strict=True):
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                found = {"width": picture.width, "height": picture.height, "bytes": len(data)}
                self._formats.add(f"{picture.format} {picture.mode}")
            self._last = np.array([*found.values()], dtype=np.float64)
            for name, value in found.items():
                self._waiting[name].append(value)
            place = self._reservoir.place()
            if place is not None:
                self._kept[place] = (case, record["jpeg"])
        self._waiting["pictures"].append(len(records))
        if len(self._waiting["pictures"]) >= _WAITING:
            self._flush()

    def signal(self, records: Records) -> NDArray[np.float64]:
        """Return the size of the case's last picture."""
        return self._last

    def contents(self, part: Any, records: Records) -> Sequence[bytes]:
        """Compare what is stored: decoded, turned upright, shrunk, however it was encoded."""
        return [record["jpeg"] for record in records]

    def thumbnails(self) -> list[tuple[str, str]]:
        """Return the pictures that were kept: the case, and a JPEG as a data URL."""
        found = []
        for _, (case, jpeg) in sorted(self._kept.items()):
            with Image.open(io.BytesIO(jpeg)) as picture:
                small = picture.convert("RGB")
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=75)
            found.append(
                (case, f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}")
            )
        return found

    def report(self) -> dict[str, Any]:
        """Return the sizes."""
        self._flush()
        return {
            "width in pixels": self._summaries["width"].summary(),
            "height in pixels": self._summaries["height"].summary(),
            "bytes": self._summaries["bytes"].summary(),
            "images of a case": self._summaries["pictures"].summary(),
            "format": self._formats.summary(),
        }

    def _flush(self) -> None:
        for name, waiting in self._waiting.items():
            self._summaries[name].extend(np.array(waiting, dtype=np.float64))
            waiting.clear()
