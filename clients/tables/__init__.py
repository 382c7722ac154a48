"""Tables of cases on disk: CSV, JSON lines or Parquet, read and written a row at a time.

A table is looked through once when it is opened, for its columns and the number of its rows; no
more than a few rows are held at any time, of Parquet a page (`clients.tables.parquet`). Parquet
needs pyarrow, the others nothing.
"""

import csv
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from clients.errors import InvalidInput
from clients.parts import FilePath
from clients.tables import delimited, jsonlines
from clients.tables.table import Column, Row, Table, Writer, to_text, unreadable

__all__ = [
    "ACCEPTED",
    "ENDINGS",
    "READABLE",
    "Column",
    "Row",
    "Table",
    "find_writer",
    "open_table",
    "to_text",
]

T = TypeVar("T")

ACCEPTED = ".csv, .jsonl, .ndjson or .parquet"
READABLE = f"{ACCEPTED}; text also compressed, such as .csv.gz"


def open_table(path: FilePath, encoding: str = "utf-8") -> Table:
    """Look through a table and return it.

    Args:
        path: of the file; its name says what it is.
        encoding: of CSV and JSON lines, whose byte-order mark is passed over.

    Raises:
        InvalidInput: there is no such file, or it cannot be read.
    """
    path = Path(path)
    open_as = _of(path, "input", _READERS, READABLE)
    try:
        return open_as(path, "utf-8-sig" if encoding == "utf-8" else encoding)
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
    except (EOFError, zlib.error) as error:
        raise unreadable(path, f"the compressed file is damaged: {error}") from None
    except UnicodeError as error:  # of UTF-16 without its mark no UnicodeDecodeError
        accepted = "text in UTF-8; or name the encoding: cp1252 (Windows), latin-1 or utf-16"
        raise unreadable(path, str(error), accepted) from None
    except csv.Error as error:
        raise unreadable(path, f"not CSV: {error}") from None


def find_writer(path: FilePath) -> Writer:
    """Return what writes a table of the format that the path's name says.

    Raises:
        InvalidInput: none does.
    """
    return _of(Path(path), "output", _WRITERS, ACCEPTED)()


def _parquet(path: Path, encoding: str) -> Table:
    table: Table = _parquet_module("input").ParquetTable(path)
    return table


def _parquet_module(field: str) -> Any:
    try:
        from clients.tables import parquet
    except ModuleNotFoundError:
        accepted = "pip install pyarrow; or use CSV or JSON lines"
        raise InvalidInput(field, "Parquet needs pyarrow", accepted=accepted) from None
    return parquet


def _parquet_writer() -> Writer:
    write: Writer = _parquet_module("output").write
    return write


_READERS: Mapping[str, Callable[[Path, str], Table]] = {
    ".csv": delimited.CsvTable,
    ".csv.gz": delimited.CsvTable,
    ".jsonl": jsonlines.JsonTable,
    ".jsonl.gz": jsonlines.JsonTable,
    ".ndjson": jsonlines.JsonTable,
    ".ndjson.gz": jsonlines.JsonTable,
    ".parquet": _parquet,
}

_WRITERS: Mapping[str, Callable[[], Writer]] = {
    ".csv": lambda: delimited.write,
    ".jsonl": lambda: jsonlines.write,
    ".ndjson": lambda: jsonlines.write,
    ".parquet": _parquet_writer,
}


ENDINGS = tuple(_READERS)
"""Of files that are tables."""


def _of(path: Path, field: str, formats: Mapping[str, T], accepted: str) -> T:
    suffixes = path.suffixes[-2:] if path.suffix.lower() == ".gz" else [path.suffix]
    ending = "".join(suffixes).lower()
    if ending not in formats:
        raise InvalidInput(
            field, f"cannot tell the format of {path} from its name", accepted=accepted
        )
    return formats[ending]
