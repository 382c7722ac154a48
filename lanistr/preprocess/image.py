"""Images: encoded pictures become square 8-bit RGB pixels, one row a picture."""

import base64
import binascii
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile
from pydantic import Field

from lanistr.batch import Arrays
from lanistr.errors import BundleError, InputError
from lanistr.issues import Action, IssueLog
from lanistr.modalities import Modality
from lanistr.preprocess.base import STATE_FILE, ArraySpec, ModalityPreprocessor
from lanistr.sample import Items, paths_of
from lanistr.schema import Schema
from lanistr.tasks import TaskSpec

Pictures = tuple[bytes, ...]

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_ACCEPTED = "an encoded image: " + ", ".join(FORMATS)
DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)

# `ImageOptions.max_pixels` is checked from the header before anything is decoded; Pillow's own
# guard would only warn, and from every thread.
Image.MAX_IMAGE_PIXELS = None


class ImageOptions(Schema):
    """How pictures are cut and scaled.

    Attributes:
        size: side S of the square that the model sees, in pixels.
        crop: share of the shorter side that the centred square covers.
        max_pixels: a case whose pictures have more together is refused before any is decoded.
    """

    size: int = Field(default=224, ge=8, le=2048)
    crop: float = Field(default=1.0, gt=0, le=1)
    max_pixels: int = Field(default=40_000_000, ge=1)


class ImagePreprocessor(ModalityPreprocessor[Pictures, ImageOptions]):
    """Decodes, turns upright, reduces to 8 bits, cuts the centred square, resizes."""

    modality = Modality.IMAGE

    def __init__(self, options: ImageOptions) -> None:
        self.options = options

    @staticmethod
    def read(value: Any, task: TaskSpec, log: IssueLog) -> Pictures | None:
        """Take bytes, base64 text or a data URL, or a list of them."""
        if value is None:
            return None
        items = value if isinstance(value, list | tuple) else [value]
        pictures: dict[str, bytes] = {}
        for i, item in enumerate(items):
            path = f"image[{i}]" if items is value else "image"
            if item is None:
                continue
            data = _decode_base64(item, path) if isinstance(item, str) else item
            if not isinstance(data, bytes):
                raise InputError(
                    "not an image",
                    code="wrong_type",
                    field=path,
                    seen=item,
                    accepted="base64 text or a data URL of " + _ACCEPTED,
                )
            if data:
                pictures[path] = data
            else:
                log.add("empty", path, item, Action.DROPPED, _ACCEPTED)
        return Items(pictures.values(), pictures) or None

    @classmethod
    def fit(cls, parts: Iterable[Pictures], task: TaskSpec, options: ImageOptions) -> Self:
        """Nothing is learned from pictures."""
        return cls(options)

    def apply(self, part: Pictures, log: IssueLog) -> tuple[Arrays, ...]:
        """Return each picture's central square."""
        self.refuse_too_large(part)
        return tuple(
            {"pixels": self.pixels(self._sized(self.decode(data, path, log), path, log))}
            for data, path in zip(part, paths_of(part, "image"), strict=True)
        )

    def refuse_too_large(self, part: Sequence[bytes]) -> None:
        """Read the headers of a case's pictures, and check their size against the limit.

        Raises:
            InputError: they have too many pixels, one or together, or one is no picture.
        """
        paths = paths_of(part, "image")
        headers = [self._open(data, path) for data, path in zip(part, paths, strict=True)]
        self._refuse_too_many(sum(each.width * each.height for each in headers), "image")

    def restrict(self, limits: Mapping[str, int]) -> None:
        """Take over a lower number of `pixels`."""
        most = min(self.options.max_pixels, limits.get("pixels", self.options.max_pixels))
        self.options = self.options.model_copy(update={"max_pixels": most})

    def _sized(self, picture: Image.Image, path: str, log: IssueLog) -> Image.Image:
        """Report a picture of which the square shows little, or more than there is."""
        short, long = sorted(picture.size)
        seen, side = f"{picture.width} x {picture.height} pixels", self.options.size
        if long > 2 * short:
            detail = f"only the middle {short / long:.0%} is used; better: a nearly square image"
            log.add("image_cut", path, seen, Action.CLIPPED, detail)
        if short * self.options.crop < side / 2:
            log.add("small_image", path, seen, Action.KEPT, f"{side} x {side} pixels")
        return picture

    def decode(
        self, data: bytes, path: str, log: IssueLog, *, roughly: bool = False
    ) -> Image.Image:
        """Decode one picture to upright 8-bit RGB.

        Args:
            data: the encoded picture.
            path: of the picture in its record.
            log: takes what was passed over.
            roughly: a JPEG may come out with an eighth of its sides. It is read to its end all the
                same, which is enough to know whether it can be decoded.

        Raises:
            InputError: not a picture, too many pixels, or broken.
        """
        picture = self._open(data, path)
        try:
            if getattr(picture, "is_animated", False):  # counting a TIFF's takes quadratic time
                log.add("first_frame", path, "more than one frame", Action.KEPT, "the first frame")
            if roughly:
                picture.draft(None, (1, 1))
            ImageOps.exif_transpose(picture, in_place=True)  # which loads it
            return _to_rgb(picture, path, log)
        except Exception as exc:  # as above: OSError, SyntaxError, struct.error, ...
            raise InputError(
                f"the image is broken: {exc}",
                code="broken_image",
                field=path,
                seen=f"{len(data)} bytes of {picture.format}",
                accepted="a complete " + _ACCEPTED.removeprefix("an encoded "),
            ) from exc

    def _open(self, data: bytes, path: str) -> Image.Image:
        """Read a picture's header, and check its size against the limit."""
        try:
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        except Exception as exc:  # Pillow's decoders raise whatever a hostile header provokes
            raise InputError(
                "not an image", code="not_an_image", field=path, seen=data, accepted=_ACCEPTED
            ) from exc
        self._refuse_too_many(picture.width * picture.height, path)
        return picture

    def _refuse_too_many(self, pixels: int, path: str) -> None:
        if pixels > self.options.max_pixels:
            raise InputError(
                "too many pixels",
                code="image_too_large",
                field=path,
                seen=f"{pixels:,} pixels",
                accepted=f"at most {self.options.max_pixels:,} pixels in all images of a case",
            )

    def pixels(
        self,
        picture: Image.Image,
        zoom: float = 1.0,
        place: tuple[float, float] = (0.5, 0.5),
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the centred square of an RGB picture, (3, S, S) uint8.

        Args:
            picture: of any size.
            zoom: share of the square's side to look at.
            place: where in the square, from (0, 0), left and top, to (1, 1).
        """
        # One resize of a box, rather than resize and crop: a picture of 1 x 1,000,000 pixels must
        # not grow on the way.
        side = min(picture.size) * self.options.crop
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        left, top = left + place[0] * (1 - zoom) * side, top + place[1] * (1 - zoom) * side
        side *= zoom
        size = self.options.size
        square = picture.resize(
            (size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
        )
        return np.ascontiguousarray(np.asarray(square, dtype=np.uint8).transpose(2, 0, 1))

    def dimensions(self) -> Mapping[str, Any]:
        """Side of the square."""
        return {"size": self.options.size}

    def layout(self) -> Mapping[str, ArraySpec]:
        """One square of pixels."""
        return {"pixels": ArraySpec("uint8", (3, self.options.size, self.options.size), 256)}

    def describe(self) -> dict[str, Any]:
        """Side of the square, and what is cut off before it is cut out, as a share of each side."""
        size, bleed = self.options.size, (1 - self.options.crop) / 2
        return {"pixels": {"size": [size, size], "bleed": bleed}, "resampling": "bicubic"}

    def save(self, folder: Path) -> dict[str, Any]:
        """Keep the options."""
        return self.options.model_dump()

    @classmethod
    def load(cls, state: Mapping[str, Any], task: TaskSpec, folder: Path) -> Self:
        """Restore the options."""
        source = str(folder / STATE_FILE)
        return cls(ImageOptions.parse(state, BundleError, source, within=(cls.modality,)))


def _decode_base64(text: str, path: str) -> bytes:
    head = DATA_URL.match(text)
    body = text[head.end() :] if head else text
    try:
        # Command-line tools break base64 into lines.
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InputError(
            "not base64",
            code="not_base64",
            field=path,
            seen=text,
            accepted="base64 text or a base64 data URL; URLs are not downloaded",
        ) from exc


def _to_rgb(picture: Image.Image, path: str, log: IssueLog) -> Image.Image:
    """Reduce any mode to 8-bit RGB; transparent pixels show white."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        # Pillow turns WhiteIsZero over for up to 8 bits only.
        negative = (
            isinstance(picture, TiffImageFile)
            and picture.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        )
        return _eight_bit(np.asarray(picture), path, log, negative=negative).convert("RGB")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] != 255:
            log.add(
                "transparent_image", path, picture.mode, Action.CONVERTED, "on a white background"
            )
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bit(
    grey: np.ndarray[Any, Any], path: str, log: IssueLog, *, negative: bool
) -> Image.Image:
    """Scale deep greyscale to 8 bits by the depth that its brightest pixel needs.

    Scanners store 10, 12 or 14 bits in 16; dividing by 65,535 would leave those pictures black.
    Floating-point pictures have no depth, nor have those that go below zero, as CT does: they are
    stretched from their least to their largest. In a negative, zero is white.
    """
    if not np.isfinite(grey).all():
        raise ValueError("pixels that are not finite")
    low, high = float(grey.min()), float(grey.max())
    if grey.dtype.kind == "f":
        depth = "floating-point"
    elif low < 0:
        depth = "signed"
    else:
        bits = next(bits for bits in (8, 10, 12, 14, 16, 32) if high < 2**bits)
        low, high, depth = 0.0, float(2**bits - 1), f"{bits}-bit"
    scaled = (np.clip(grey, low, high) - low) * (255.0 / (high - low or 1.0))
    scaled = 255.0 - scaled if negative else scaled
    log.add("deep_image", path, f"{depth} greyscale", Action.CONVERTED, "8-bit greyscale")
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
