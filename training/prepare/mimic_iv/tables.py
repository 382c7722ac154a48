"""A CSV file of any size, as it comes or packed by gzip, read block by block."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
import polars as pl
from isal import igzip_lib, igzip_threaded
from tqdm import tqdm

from lanistr.errors import DataError, unknown_name

ROW = "row"
"""Column with the number of each record in its file, from 1, without the header."""

ROW_TYPE = pl.UInt32()

TIME = pl.Datetime("us")

ItemT = TypeVar("ItemT")

Report = Callable[..., None]
"""`Problems.add`, or what passes on to it."""

BLOCK = 16 << 20
"""Bytes that are parsed at once; more are no faster."""

_LONGEST_RECORD = 32 << 20
"""Bytes of a record, at most: further away, no closing quotation mark is looked for."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The library's stub calls its exception an instance.
_DAMAGED: tuple[Any, ...] = (EOFError, OSError, igzip_lib.IsalError)


def read_blocks(
    path: Path, columns: Mapping[str, pl.DataType], report: Report
) -> Iterator[pl.DataFrame]:
    """Yield the records of a file, some hundred thousand at a time.

    Memory does not grow with the file. Another thread parses the next records while the caller
    works on these, and one more unpacks what comes then, if the file is packed.

    Args:
        path: CSV with a header, plain or, as its name ends in .gz, packed.
        columns: those wanted, with their types: whole numbers, numbers, text or times.
        report: takes cells that are not of their type; they count as missing.

    Yields:
        `ROW` and the wanted columns; an empty cell is null, as is one that a short record lacks.

    Raises:
        DataError: the file is empty, damaged, no CSV or lacks a column; or too many problems.
    """
    with _open(path) as file:
        header = file.readline().removeprefix(_BYTE_ORDER_MARK)
        names = _names(header, path)
        for name in columns:
            if name not in names:
                raise DataError(
                    f"the file has no column {name!r}",
                    code="missing_column",
                    field=str(path),
                    seen=", ".join(names),
                    accepted=unknown_name(name, names),
                )
        bar = tqdm(desc=path.name, unit=" records", unit_scale=True, disable=None, leave=False)
        with bar:
            for frame, legible in _made_ahead(_frames(file, names, columns, path)):
                if not legible:
                    _tell_lost_letters(frame, columns, path, report)
                yield typed(frame, columns, path, report).select(ROW, *columns)
                bar.update(frame.height)


def read_table(path: Path, columns: Mapping[str, pl.DataType], report: Report) -> pl.DataFrame:
    """Return the records of a file that fits into memory; see `read_blocks`."""
    empty = pl.DataFrame(schema={ROW: ROW_TYPE, **columns})
    return pl.concat([empty, *read_blocks(path, columns, report)])


def column_names(path: Path) -> list[str]:
    """Return the names in a file's header.

    Raises:
        DataError: the file is empty or damaged.
    """
    with _open(path) as file:
        return _names(file.readline(), path)


def typed(
    frame: pl.DataFrame, columns: Mapping[str, pl.DataType], path: Path, report: Report
) -> pl.DataFrame:
    """Turn text columns into their types; what is not of its type is reported and becomes null.

    Args:
        frame: a block of `path` with its `ROW`, or some of its records.
        columns: the types of those columns that are to have one.
        path: the file that the records are of.
        report: takes the cells that are not of their type.
    """
    wrong = {name: kind for name, kind in columns.items() if frame.schema[name] != kind}
    if not wrong:
        return frame
    cast = frame.with_columns(_cast(name, kind) for name, kind in wrong.items())
    for name in wrong:
        lost = frame.filter(frame[name].is_not_null() & cast[name].is_null())
        for row, seen in lost.select(ROW, name).iter_rows():
            report(
                "wrong_type",
                f"not {_KINDS[columns[name].base_type()]}",
                file=path.name,
                row=row,
                column=name,
                seen=seen,
            )
    return cast


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, and say which it is where it turns out to be damaged."""
    packed = path.suffix == ".gz"
    try:
        with igzip_threaded.open(path, "rb", threads=1) if packed else path.open("rb") as file:
            yield file
    except _DAMAGED as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise DataError(
            f"the file is damaged: {exc}",
            code="damaged_file",
            field=str(path),
            accepted="a complete file; compare it with the SHA256SUMS that came with it",
        ) from exc


def _names(header: bytes, path: Path) -> list[str]:
    text = header.decode("utf-8-sig", errors="replace").strip()
    if not text:
        raise DataError("the file is empty", code="empty_file", field=str(path))
    return next(csv.reader([text]))


def _whole_records(file: IO[bytes]) -> Iterator[bytes]:
    """Cut the file into pieces that end where a record ends.

    That is at the end of a line up to which the number of quotation marks is even: a mark within a
    quoted cell is doubled.

    Raises:
        _OpenQuoteError: no such line is near.
    """
    while block := file.read(BLOCK):
        block += file.readline()
        # Several times as fast as `block.count`, where marks are many.
        marks = int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord('"')))
        lines: list[bytes] = []
        while marks % 2:
            line = file.readline()
            lines.append(line)
            marks += line.count(b'"')
            if not line or sum(map(len, lines)) > _LONGEST_RECORD:
                raise _OpenQuoteError(block)
        yield b"".join((block, *lines)) if lines else block


class _OpenQuoteError(Exception):
    """A piece of the file opens a quotation mark, and nothing closes it."""

    def __init__(self, block: bytes) -> None:
        super().__init__()
        self.block = block


def _open_quote(block: bytes, before: int, path: Path) -> DataError:
    """Say which record has the last mark that opens, and how it begins."""
    number, marks, began = before, 0, b""
    for line in block.split(b"\n"):
        if marks % 2 == 0:
            number, began = number + 1, line
        marks += line.count(b'"')
    return DataError(
        f"record {number} opens a quotation mark that is not closed",
        code="open_quote",
        field=str(path),
        seen=began.decode("utf-8", errors="replace"),
        accepted="a cell that both begins and ends with a quotation mark",
    )


def _made_ahead(items: Iterator[ItemT]) -> Iterator[ItemT]:
    """Yield the same items, each made by another thread while the caller works on the one before.

    What making one raises is raised in its place.
    """
    with ThreadPoolExecutor(1) as other:
        coming = other.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = other.submit(next, items, None)
            yield item


def _frames(
    file: IO[bytes], names: list[str], columns: Mapping[str, pl.DataType], path: Path
) -> Iterator[tuple[pl.DataFrame, bool]]:
    """Parse the file piece by piece; say of each whether its letters are UTF-8."""
    before = 0
    try:
        for block in _whole_records(file):
            frame, legible = _parse(block, names, columns, before, path)
            yield frame, legible
            before += frame.height
    except _OpenQuoteError as exc:
        raise _open_quote(exc.block, before, path) from None


def _parse(
    block: bytes, names: list[str], columns: Mapping[str, pl.DataType], before: int, path: Path
) -> tuple[pl.DataFrame, bool]:
    """Parse a block; where that fails, parse it as text, whatever its letters are."""

    def parse(
        types: Mapping[str, pl.DataType], encoding: Literal["utf8", "utf8-lossy"]
    ) -> pl.DataFrame:
        return pl.read_csv(
            block,
            has_header=False,
            # All of them: behind the last column that it is asked for, it looks for no more cells.
            schema={name: types.get(name, pl.String()) for name in names},
            encoding=encoding,
            missing_columns="insert",
            row_index_name=ROW,
            row_index_offset=before + 1,
        ).select(ROW, *columns)

    numbers = {name: kind for name, kind in columns.items() if kind.is_numeric()}
    try:
        return parse(numbers, "utf8"), True
    except pl.exceptions.PolarsError:
        pass
    try:
        frame = parse({}, "utf8-lossy")
    except pl.exceptions.PolarsError as exc:
        raise _misshapen(block, len(names), before, path, str(exc)) from exc
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return frame, False
    return frame, True


def _tell_lost_letters(
    frame: pl.DataFrame, columns: Mapping[str, pl.DataType], path: Path, report: Report
) -> None:
    for name in columns:
        for row, seen in frame.filter(pl.col(name).str.contains("\ufffd")).select(ROW, name).rows():
            report(
                "not_utf8",
                "characters that are not UTF-8, each replaced by \ufffd",
                file=path.name,
                row=row,
                column=name,
                seen=seen,
            )


def _misshapen(block: bytes, width: int, before: int, path: Path, said: str) -> DataError:
    """Say which record is no record, as far as it can be told."""
    lines = io.StringIO(block.decode("utf-8", errors="replace"), newline="")
    for number, cells in enumerate(csv.reader(lines), before + 1):
        if len(cells) > width:
            return DataError(
                f"record {number} has more cells than the header",
                code="ragged_row",
                field=str(path),
                seen=len(cells),
                accepted=f"{width} cells",
            )
    return DataError(
        f"records after number {before} cannot be read: {said.splitlines()[0]}",
        code="not_csv",
        field=str(path),
        accepted="CSV in UTF-8",
    )


_KINDS = {
    pl.Int64: "a whole number",
    pl.Float64: "a number",
    pl.Datetime: "a time such as 2130-02-04 02:27:27",
}


def _cast(name: str, kind: pl.DataType) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    if kind == TIME:
        date_alone = text.str.len_bytes() == len("2130-02-04")
        text = pl.when(date_alone).then(text + " 00:00:00").otherwise(text)
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False).alias(name)
    return text.cast(kind, strict=False).alias(name)
