"""The folder of pictures and its manifest: which address was fetched into which file, or why not.

    manifest.jsonl      one JSON object a line, see `Entry`; of several for one address, the last
    ab/abcd....jpg      pictures, named by the sha256 of their address

`amazon-images` makes it and goes on with it, `amazon` reads it.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from PIL import Image
from pydantic import Field
from tqdm import tqdm

from lanistr.errors import DataError, InputError
from lanistr.issues import IssueLog
from lanistr.preprocess.image import ImageOptions, ImagePreprocessor
from lanistr.schema import Schema
from training.data.store import file_hash
from training.prepare.problems import Problems

MANIFEST = "manifest.jsonl"
_RECENT = 64
"""Pictures kept in memory: the reviews of a product follow each other."""


class Entry(Schema):
    """What became of one address.

    Attributes:
        url: the address.
        status: whether its picture is kept.
        file: of the picture, below the folder; None if failed.
        sha256: of the file's bytes.
        bytes: its size.
        reason: short name of why it failed, such as `http_404`; empty if kept.
        detail: the same in words.
        final: whether trying again would change nothing.
        tries: how often it was asked for in vain; None if kept.
    """

    url: str
    status: Literal["kept", "failed"]
    file: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    reason: str = ""
    detail: str = ""
    final: bool = True
    tries: int | None = Field(default=None, ge=1)

    def line(self) -> str:
        """Return the entry as a line of the manifest."""
        return json.dumps(self.model_dump(), ensure_ascii=False) + "\n"

    def whole(self, folder: Path) -> bool:
        """Whether the picture's file is there as it was written."""
        if self.file is None:
            return False
        path = folder / self.file
        try:
            if path.stat().st_size != self.bytes:
                return False
            return file_hash(path) == self.sha256
        except FileNotFoundError:
            return False


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Return the entries by address.

    A last line without its end was being written when the run was killed, and does not count.

    Raises:
        DataError: there is no manifest, or a line is none of its own.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            "not a folder of images",
            code="no_data",
            field=str(folder),
            accepted=f"a folder with {MANIFEST}, as written by `python -m training.prepare"
            " amazon-images`",
        )
    entries: dict[str, Entry] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            source = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except ValueError as exc:
                raise DataError(
                    f"not JSON: {exc}", code="damaged_manifest", field=source, seen=line
                ) from exc
            entry = Entry.parse(record, DataError, source)
            if entry.file is not None and not _below(entry.file):
                raise DataError(
                    "leads out of the folder",
                    code="damaged_manifest",
                    field=source,
                    seen=entry.file,
                    accepted="a path inside the folder of images",
                )
            entries[entry.url] = entry
    return entries


class Manifest:
    """The manifest while pictures are fetched: every answer is written down at once.

    Within `with`, lines are added at the end; when it is left, by whatever way, the whole is
    written anew, one line an address in their order: equal answers make equal manifests.
    """

    def __init__(self, folder: Path, *, forget_failures: bool = False) -> None:
        """Go on with a folder, or begin one.

        Args:
            folder: of pictures; made if it is not there.
            forget_failures: whether to ask again for what failed for good.
        """
        self.folder = folder
        self._forget = forget_failures
        self.entries = read_manifest(folder) if (folder / MANIFEST).exists() else {}
        self._asked: set[str] = set()

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_whole()  # a last line that was cut off would spoil the next
        self._lines = (self.folder / MANIFEST).open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._write_whole()

    def kept(self, url: str) -> bool:
        """Whether an address has given a picture."""
        entry = self.entries.get(url)
        return entry is not None and entry.status == "kept"

    def settled(self, url: str) -> bool:
        """Whether there is nothing to fetch: the picture is there whole, or failed for good."""
        entry = self.entries.get(url)
        if entry is None:
            return False
        if entry.status == "kept":
            return entry.whole(self.folder)
        return entry.final and (not self._forget or url in self._asked)

    def keep(self, url: str, data: bytes, kind: str) -> None:
        """Write a picture and its line."""
        name = hashlib.sha256(url.encode()).hexdigest()[:40]
        file = f"{name[:2]}/{name}.{kind.lower().replace('jpeg', 'jpg')}"
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        half = path.with_name(f".{path.name}.part")
        half.write_bytes(data)
        half.replace(path)
        self._add(
            Entry(
                url=url,
                status="kept",
                file=file,
                sha256=hashlib.sha256(data).hexdigest(),
                bytes=len(data),
            )
        )

    def fail(self, url: str, reason: str, detail: str, final: bool, tries: int) -> None:
        """Write down why there is no picture."""
        self._add(
            Entry(url=url, status="failed", reason=reason, detail=detail, final=final, tries=tries)
        )

    def _add(self, entry: Entry) -> None:
        self._lines.write(entry.line())
        self._lines.flush()
        self.entries[entry.url] = entry
        self._asked.add(entry.url)

    def _write_whole(self) -> None:
        path = self.folder / MANIFEST
        half = path.with_name(f".{MANIFEST}.part")
        with half.open("w", encoding="utf-8") as lines:
            lines.writelines(self.entries[url].line() for url in sorted(self.entries))
        half.replace(path)


def check_picture(data: bytes, name: str) -> str:
    """Decode a picture and return its format, such as `JPEG`.

    Raises:
        InputError: Pillow cannot decode it, or it has too many pixels.
    """
    ImagePreprocessor(ImageOptions()).decode(data, name, IssueLog(), roughly=True)
    with Image.open(io.BytesIO(data)) as picture:
        return str(picture.format)


class Pictures:
    """The pictures that reviews can bring."""

    def __init__(self, folder: Path | None, files: Mapping[str, str]) -> None:
        self._folder = folder
        self._files = files
        self._of_product: dict[str, str] = {}
        self._read = lru_cache(_RECENT)(self._read_file)

    @classmethod
    def open(cls, folder: Path | None, problems: Problems, most: int) -> Self:
        """Check every picture of a folder once.

        A picture that is gone, changed or does not decode is a problem, and missing.

        Args:
            folder: of pictures; None: there are none.
            problems: takes them.
            most: the largest number that the run goes on with.

        Raises:
            DataError: the folder is none of pictures, or there are too many problems.
        """
        files: dict[str, str] = {}
        if folder is None:
            return cls(folder, files)
        kept = [each for each in read_manifest(folder).values() if each.status == "kept"]
        for entry in tqdm(kept, desc="checking", unit=" pictures", disable=None):
            wrong = _what_is_wrong(entry, folder)
            if wrong is None:
                assert entry.file is not None
                files[entry.url] = entry.file
            else:
                problems.add(
                    "unreadable_picture",
                    wrong,
                    file=folder / (entry.file or MANIFEST),
                    column="image",
                    seen=entry.url,
                )
            if problems.counts["unreadable_picture"] > most:
                raise DataError(
                    "too many images that cannot be read",
                    code="too_many_problems",
                    field=str(folder),
                    seen=entry.url,
                    accepted=f"at most {most} (--most-problems); amazon-images downloads them "
                    "again",
                )
        return cls(folder, files)

    def __len__(self) -> int:
        return len(self._files)

    def name_products(self, products: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Take each product's addresses, the best first; the first that has a picture counts."""
        for product, addresses in products:
            for address in addresses:
                if address in self._files:
                    self._of_product.setdefault(product, self._files[address])
                    break

    def find(self, product: str, own: str | None) -> str | None:
        """Return the file of a review's picture: the product's, else the reviewer's own."""
        return self._of_product.get(product) or (self._files.get(own) if own else None)

    def read(self, file: str) -> bytes:
        """Return the bytes of a file that `find` returned."""
        return self._read(file)

    def _read_file(self, file: str) -> bytes:
        assert self._folder is not None
        return (self._folder / file).read_bytes()


def _what_is_wrong(entry: Entry, folder: Path) -> str | None:
    if not entry.whole(folder):
        return "the image is missing or was changed; download it again"
    assert entry.file is not None
    try:
        check_picture((folder / entry.file).read_bytes(), entry.file)
    except InputError as exc:
        return f"{exc.message}; accepted: {exc.accepted}"
    return None


def _below(file: str) -> bool:
    path = Path(file)
    return not path.is_absolute() and ".." not in path.parts
