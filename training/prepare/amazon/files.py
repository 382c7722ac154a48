"""The raw files, and their lines as JSON objects."""

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lanistr.errors import DataError
from training.prepare.amazon.pictures import MANIFEST

ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
METADATA = "meta_"
"""A file whose name begins so is about products; every other holds reviews."""

LONGEST_LINE = 1 << 24
"""Bytes. The longest review has some 30,000; a line without end must not fill the memory."""

_NOT_RAW = (MANIFEST, ".problems.jsonl")


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The raw files of a data set, in the order in which they are read.

    Attributes:
        root: the folder that holds them all.
        reviews: files of reviews.
        metadata: files about products.
    """

    root: Path
    reviews: tuple[Path, ...]
    metadata: tuple[Path, ...]

    def name(self, path: Path) -> str:
        """Return how a file is called in messages and provenance: its path below the root."""
        return path.relative_to(self.root).as_posix()


def find_files(sources: Sequence[Path]) -> RawFiles:
    """Find the raw files that are named, or that stand in a folder that is named.

    Raises:
        DataError: a path leads nowhere, or there are no reviews.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            found += (
                each
                for each in source.iterdir()
                if each.name.endswith(ENDINGS)
                and not each.name.endswith(_NOT_RAW)
                and not each.name.startswith(".")
            )
        elif source.is_file():
            found.append(source)
        else:
            raise DataError(
                "no such file or folder",
                code="no_data",
                field="--source",
                seen=str(source),
                accepted="review files, or folders that contain them",
            )
    # A link keeps its own name, which tells what it is.
    paths = sorted({each.parent.resolve() / each.name for each in found})
    reviews = tuple(each for each in paths if not each.name.startswith(METADATA))
    metadata = tuple(each for each in paths if each.name.startswith(METADATA))
    if not reviews:
        raise DataError(
            "no reviews",
            code="no_data",
            field="--source",
            seen=", ".join(map(str, sources)),
            accepted="files such as Office_Products.json.gz (one JSON object per line; "
            + ", ".join(ENDINGS)
            + f"); files named {METADATA}... hold product metadata",
        )
    root = Path(os.path.commonpath([each.parent for each in paths]))
    return RawFiles(root, reviews, metadata)


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield each line's number, from 1, with its object, or with what is wrong with it.

    Blank lines hold nothing and are passed over.

    Raises:
        DataError: the file is cut off or not what its name says.
    """
    number = 0
    try:
        with _open(path) as lines:
            while line := lines.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    while (more := lines.readline(LONGEST_LINE)) and not more.endswith(b"\n"):
                        pass
                    yield number, f"a line of more than {LONGEST_LINE:,} bytes"
                elif not line.isspace():
                    yield number, _object(line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise DataError(
            f"the file is truncated or damaged after line {number:,}: {exc}",
            code="damaged_file",
            field=str(path),
            accepted="a complete file; download it again",
        ) from exc


def _open(path: Path) -> io.BufferedReader:
    if path.suffix != ".gz":
        return path.open("rb")
    return io.BufferedReader(cast(io.RawIOBase, gzip.open(path)), 1 << 20)


def _object(line: bytes) -> dict[str, Any] | str:
    """Decode a line, or say why it cannot be."""
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError) as exc:
        return f"not JSON: {exc}"
    return record if isinstance(record, dict) else "not a JSON object"
