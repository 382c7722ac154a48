"""How the rows of a modality stand in its Arrow table.

Most modalities are stored as the arrays that the model takes. Pictures are stored as JPEG, a
little larger than the model's square, which leaves room for augmentation and keeps a data set of
X-rays small. Shrinking and compressing once more costs a few grey values against what the service
sees of the same picture: up to 8 of 255 on synthetic pictures, 25 of 255 at the edges of X-rays cut
to 48 pixels.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from lanistr.batch import Arrays
from lanistr.issues import IssueLog
from lanistr.preprocess.base import ArraySpec, ModalityPreprocessor
from lanistr.preprocess.image import ImagePreprocessor
from lanistr.sample import paths_of
from lanistr.schema import Schema

MARGIN = 256 / 224
"""A stored picture's shorter side, as a multiple of the model's (Source: ImageNet practice)."""


class Augmentation(Schema):
    """How pictures vary from one look to the next in training.

    Attributes:
        crop: least share of the centred square's side that is looked at, at a place by chance.
        flip: chance of a mirror image. Not for X-rays, whose left and right mean something.
    """

    crop: float = Field(default=1.0, gt=0, le=1)
    flip: float = Field(default=0.0, ge=0, le=1)


class Codec(Protocol):
    """Writes a part into table rows and reads a table row back."""

    schema: pa.Schema

    def write(self, part: Any, log: IssueLog) -> Sequence[Mapping[str, Any]]:
        """Preprocess a part of a `Sample` as far as it can be done once."""
        ...

    def read(self, record: Mapping[str, Any], rng: np.random.Generator | None = None) -> Arrays:
        """Return the arrays of one row, as they are or, with `rng`, varied."""
        ...


class ArrayCodec:
    """Stores arrays flat, whole numbers in the narrowest type that holds them."""

    def __init__(self, preprocessor: ModalityPreprocessor[Any, Any]) -> None:
        self._apply = preprocessor.apply
        self._layout = preprocessor.layout()
        self.schema = pa.schema(
            [(name, pa.list_(_stored(spec))) for name, spec in self._layout.items()]
        )

    def write(self, part: Any, log: IssueLog) -> Sequence[Mapping[str, Any]]:
        """Preprocess fully."""
        return [
            {name: array.reshape(-1) for name, array in row.items()}
            for row in self._apply(part, log)
        ]

    def read(self, record: Mapping[str, Any], rng: np.random.Generator | None = None) -> Arrays:
        """Restore types and shapes; arrays do not vary."""
        return {
            name: np.asarray(record[name].values, dtype=spec.dtype).reshape(spec.shape)
            for name, spec in self._layout.items()
        }


class PictureCodec:
    """Stores pictures as JPEG, shrunk so that the shorter side keeps a margin for cropping."""

    schema = pa.schema([("jpeg", pa.binary())])

    def __init__(self, preprocessor: ImagePreprocessor, augmentation: Augmentation) -> None:
        self._preprocessor = preprocessor
        self._augmentation = augmentation

    def write(self, part: Sequence[bytes], log: IssueLog) -> Sequence[Mapping[str, Any]]:
        """Decode, shrink, encode what is not too large to be served."""
        self._preprocessor.refuse_too_large(part)
        records: list[Mapping[str, Any]] = []
        for data, path in zip(part, paths_of(part, "image"), strict=True):
            picture = self._preprocessor.decode(data, path, log)
            target = round(self._preprocessor.options.size * MARGIN)
            shorter = min(picture.size)
            # A long strip is cut to four times its width: only the square is ever looked at.
            picture = _cut(picture, 4 * shorter)
            if shorter > target:
                size = [max(round(side * target / shorter), 1) for side in picture.size]
                picture = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=92)
            records.append({"jpeg": out.getvalue()})
        return records

    def read(self, record: Mapping[str, Any], rng: np.random.Generator | None = None) -> Arrays:
        """Decode and take the centred square; with `rng`, a part of it or its mirror image."""
        with Image.open(io.BytesIO(record["jpeg"].as_py())) as picture:
            rgb = picture.convert("RGB")
        if rng is None:
            return {"pixels": self._preprocessor.pixels(rgb)}
        zoom = rng.uniform(self._augmentation.crop, 1.0)
        place = (rng.random(), rng.random())
        pixels = self._preprocessor.pixels(rgb, zoom, place)
        if rng.random() < self._augmentation.flip:
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        return {"pixels": pixels}


def codec(
    preprocessor: ModalityPreprocessor[Any, Any], augmentation: Augmentation | None = None
) -> Codec:
    """Return the codec of a modality."""
    if isinstance(preprocessor, ImagePreprocessor):
        return PictureCodec(preprocessor, augmentation or Augmentation())
    return ArrayCodec(preprocessor)


def _cut(picture: Image.Image, longest: int) -> Image.Image:
    """Cut the middle out of a picture that is longer than `longest`."""
    width, height = min(picture.width, longest), min(picture.height, longest)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _stored(spec: ArraySpec) -> pa.DataType:
    if not spec.limit:
        return pa.float32()
    return next(
        kind
        for kind, bits in ((pa.uint8(), 8), (pa.uint16(), 16), (pa.uint32(), 32))
        if spec.limit <= 2**bits
    )
