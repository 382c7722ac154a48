"""A file of text, compressed or not, and what may be wrong with it before it is read as a table."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from training.prepare.problems import Problems
from training.prepare.table.rows import stop

UNDECODED = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is not in the encoding."""

BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a compressed file raises where it is cut off or damaged."""


@dataclass(frozen=True)
class TextFile:
    """A file of text, compressed or not.

    Attributes:
        path: where it is.
        name: as the user called it.
        encoding: of the text; a byte-order mark is passed over.
        problems: takes what is wrong.
    """

    path: Path
    name: str
    encoding: str
    problems: Problems

    @contextmanager
    def open(self) -> Iterator[IO[str]]:
        """Open the text; what is not in its encoding comes as lone surrogates, see `undecoded`."""
        with self.path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            stream: Any = gzip.GzipFile(fileobj=file) if packed else file
            with io.TextIOWrapper(
                stream,
                encoding="utf-8-sig" if self.encoding == "utf-8" else self.encoding,
                errors="strict" if self.encoding == "utf-16" else "surrogateescape",
                newline="",
            ) as text:
                yield text

    def cut_off(self, exc: Exception, row: int) -> Exception:
        """Return the error for a compressed file that breaks off after so many rows."""
        return stop(
            self.problems,
            "cut_off",
            f"the compressed file is damaged: {exc}",
            file=self.name,
            row=row + 1,
            accepted="the complete file; copy it again",
        )

    def undecoded(self, row: int, line: int, column: str, text: str) -> Exception:
        """Return the error for text that is not in the encoding."""
        raw = text.encode("utf-8", "surrogateescape")
        return stop(
            self.problems,
            "not_utf8" if self.encoding == "utf-8" else "wrong_encoding",
            f"line {line}: not text in {self.encoding}",
            file=self.name,
            row=row or None,
            column=column,
            seen=raw.decode("utf-8", "backslashreplace"),
            accepted="UTF-8; or give the encoding in `source`: encoding: cp1252 (Windows), "
            "latin-1 or utf-16",
        )

    def nul_byte(self, row: int, line: int, column: str, text: str) -> Exception:
        """Return the error for a NUL byte, which no text has."""
        return stop(
            self.problems,
            "nul_byte",
            f"line {line}: a NUL byte: the file is damaged, or in UTF-16",
            file=self.name,
            row=row or None,
            column=column,
            seen=text.replace("\x00", "\\x00"),
            accepted="text; or, in `source`, encoding: utf-16",
        )
