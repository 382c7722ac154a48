"""A table file of any accepted format, told by its first bytes, read row by row."""

import gzip
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from training.prepare.problems import Problems
from training.prepare.table.columns import TextFormat
from training.prepare.table.delimited import Delimited
from training.prepare.table.jsonlines import JsonLines
from training.prepare.table.parquet import ParquetTable
from training.prepare.table.rows import Row, stop
from training.prepare.table.textfile import BROKEN, TextFile

ACCEPTED = "CSV, JSON lines (either may be .gz) or Parquet"

_NO_TABLES = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
    b"BZh": "bzip2: unpack it first",
    b"\xfd7zXZ\x00": "xz: unpack it first",
    b"(\xb5/\xfd": "Zstandard: unpack it first",
    b"SQLite format 3\x00": "a database: export the table as CSV",
    b"%PDF": "a PDF",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_JSON_ENDINGS = (".json", ".jsonl", ".ndjson")


class Table(Protocol):
    """A table that can be read from the start as often as wanted."""

    def find(self, wanted: Collection[str] = ()) -> Collection[str]:
        """Return the names of the columns in order.

        Where only the rows name them (JSON lines), they are read until all those wanted were met,
        and without any, no row is.
        """
        ...

    def rows(self) -> Iterator[Row]:
        """Yield the rows; those that are no rows are reported and passed over.

        Raises:
            DataError: the rest of the file cannot be made sense of, or there are no rows.
        """
        ...


def open_table(path: Path, form: TextFormat, problems: Problems, name: str = "") -> Table:
    """Open a table.

    Args:
        path: of the file.
        form: says delimiter and encoding.
        problems: takes what is wrong with rows.
        name: what to call the file; its path by default.

    Raises:
        DataError: there is no such file, or it is none of these formats.
    """
    name = name or str(path)
    head = _head(path, name, problems)
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if head[:4] == b"PAR1":
        return ParquetTable(path, name, problems)
    if ending in (".parquet", ".pq"):
        raise stop(
            problems, "not_parquet", "not Parquet, unlike its name", file=name, seen=head,
            accepted=ACCEPTED,
        )  # fmt: skip
    file = TextFile(path, name, form.encoding, problems)
    _refuse_other_encoding(head, file)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if ending in _JSON_ENDINGS or (start[:1] == b"{" and ending not in (".csv", ".tsv")):
        if start[:1] == b"[":
            raise stop(
                problems, "not_json_lines", "one JSON list", file=name, seen=head,
                accepted="JSON lines: one object per line, without brackets and separating commas",
            )  # fmt: skip
        return JsonLines(file)
    return Delimited(file, form.delimiter)


def _head(path: Path, name: str, problems: Problems) -> bytes:
    """Return the first bytes of a file, unpacked, after refusing what is no table."""
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.is_file())
        raise stop(
            problems, "a_folder", "a folder, not a file", file=name,
            accepted=f"{ACCEPTED}; in the folder: {', '.join(inside[:8]) or 'no files'}",
        )  # fmt: skip
    if not path.exists():
        raise stop(problems, "no_such_file", "no such file", file=name, accepted=ACCEPTED)
    if not path.is_file():
        raise stop(problems, "not_a_file", "not a regular file", file=name, accepted=ACCEPTED)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as exc:
        raise stop(
            problems, "cannot_read", f"cannot be read: {exc.strerror}", file=name,
            accepted="a readable file",
        ) from exc  # fmt: skip
    if head[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as packed:
                head = packed.read(64)
        except BROKEN as exc:
            raise stop(
                problems, "cut_off", f"the compressed file is damaged: {exc}", file=name, row=1,
                accepted="the complete file; copy it again",
            ) from exc  # fmt: skip
    elif path.name.lower().endswith(".gz"):
        raise stop(
            problems, "not_gzip", "not gzip, unlike its name", file=name, seen=head,
            accepted="a compressed file, or a name without .gz",
        )  # fmt: skip
    for magic, what in _NO_TABLES.items():
        if head.startswith(magic):
            raise stop(problems, "not_a_table", f"not a table but {what}", file=name,
                       accepted=ACCEPTED)  # fmt: skip
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise stop(problems, "empty_file", "the file is empty", file=name, accepted=ACCEPTED)
    return head


def _refuse_other_encoding(head: bytes, file: TextFile) -> None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") and file.encoding != "utf-16":
        raise stop(
            file.problems,
            "utf16",
            "the file is in UTF-16, as spreadsheets write 'Unicode text'",
            file=file.name,
            seen=head[:8],
            accepted="UTF-8; or, in `source`, encoding: utf-16",
        )
