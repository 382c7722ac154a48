"""Pictures that the columns of a table name."""

from pathlib import Path
from typing import Any

from PIL import Image

from lanistr.errors import InputError
from lanistr.issues import IssueLog
from lanistr.preprocess.image import ImageOptions, ImagePreprocessor
from training.prepare.lazy import Lazy
from training.prepare.table.files import NamedFiles, find_below
from training.prepare.table.parts import CaseName, PartReader, Setting
from training.prepare.table.rows import Row

_LARGEST = 200_000_000
"""Bytes of a file."""


class ImageReader(PartReader):
    """Finds and decodes each picture once; what cannot be decoded is reported and left out."""

    def __init__(self, setting: Setting) -> None:
        source = setting.source.image
        assert source is not None
        self._setting = setting
        self._separator = source.separator
        folder = find_below(setting.files, source.folder, source.outside, "source.image.folder")
        self._files = NamedFiles(folder, source.outside)
        self._decoder = ImagePreprocessor(ImageOptions(max_pixels=setting.max_pixels))
        self.columns = source.columns

    def read(self, row: Row, case: CaseName) -> Any:
        """Return the paths of the pictures that can be decoded, up to the most pixels of a case."""
        paths: list[str] = []
        pixels = 0
        for column in self.columns:
            for named in self._named(self._setting.missing.value(row, column)):
                try:
                    path = self._check(named)
                    with Image.open(path) as header:
                        together = pixels + header.width * header.height
                    self._refuse_too_many(together)
                except InputError as exc:
                    row.lose_value(self._setting.problems, column, exc, seen=named)
                else:
                    paths.append(str(path))
                    pixels = together
        return paths or None

    def restore(self, kept: Any, position: int) -> Any:
        """Return the pictures, to be read when they are looked at."""
        if kept is None:
            return None
        return Lazy(lambda: (Path(path).read_bytes() for path in kept))

    def provenance(self) -> dict[str, Any]:
        """Count and hash the pictures."""
        return {"pictures": self._files.provenance()}

    def _named(self, value: Any) -> list[Any]:
        if value is None:
            return []
        if isinstance(value, list):
            return [each for each in value if each is not None]
        if self._separator and isinstance(value, str):
            return [each.strip() for each in value.split(self._separator) if each.strip()]
        return [value]

    def _refuse_too_many(self, together: int) -> None:
        if together > self._setting.max_pixels:
            raise InputError(
                f"{together:,} pixels together with the images before it",
                code="image_too_large",
                accepted=f"at most {self._setting.max_pixels:,} in all images of a case",
            )

    def _check(self, named: Any) -> Path:
        path, data = self._files.read(named, _LARGEST)
        if data[128:132] == b"DICM":
            raise InputError(
                "a DICOM file", code="not_an_image", accepted="an image: export it as PNG or JPEG"
            )
        self._decoder.decode(data, "", IssueLog(), roughly=True)
        return path
