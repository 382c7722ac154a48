"""CSV: any of , ; tab | between cells, quotes as RFC 4180 has them."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import IO

from training.prepare.table.rows import Row, placed, stop
from training.prepare.table.textfile import BROKEN, UNDECODED, TextFile

DELIMITERS = (",", ";", "\t", "|")
_LONGEST_CELL = 20_000_000
"""Characters. A longer one is a quote that was never closed."""


_LONGEST_HEADER = 64
"""Lines. More are a quote that was never closed."""

_BLANK = re.compile(r"[\s,;|]*")
"""A line that names nothing, above the one that does."""

_SAID = re.compile(r'"?sep=([,;\t|])"?[\r\n]*')
"""Excel's first line, which tells the delimiter and is no part of the table."""


class Delimited:
    """A CSV file; every cell is text."""

    def __init__(self, file: TextFile, delimiter: str | None) -> None:
        csv.field_size_limit(_LONGEST_CELL)  # a note may be longer than csv's own 131,072
        self._file = file
        head = self._head()
        said = _SAID.fullmatch(head)
        self._passed = 1 if said else 0
        self._delimiter = delimiter or (said[1] if said else self._find_delimiter(head))
        self._header: list[str] = []
        header = next(self._records(), None)
        self._header = self._names(header[1] if header else [])
        self._columns = tuple(name for name in self._header if name)

    def find(self, wanted: Collection[str] = ()) -> Collection[str]:
        """Return the columns that have a name."""
        return self._columns

    def rows(self) -> Iterator[Row]:
        """Yield the rows; one of another width than the header is reported and passed over."""
        file, names, number = self._file, self._header, 0
        records = self._records()
        next(records)
        for line, cells in records:
            number += 1
            if len(cells) > len(names) and not any(cell.strip() for cell in cells[len(names) :]):
                cells = cells[: len(names)]  # commas at the end of the line, nothing between them
            if len(cells) != len(names):
                file.problems.add(
                    "ragged_row",
                    placed(
                        f"{len(cells)} cells, but the header has {len(names)}: a delimiter in "
                        "unquoted text, or a truncated line; the row was left out",
                        line,
                    ),
                    file=file.name,
                    row=number,
                    column=names[-1] if len(cells) > len(names) else names[len(cells)],
                    seen=self._delimiter.join(cells),
                )
                continue
            yield Row(
                file.name,
                number,
                line,
                {name: cell for name, cell in zip(names, cells, strict=True) if name},
            )
        if not number:
            raise stop(
                file.problems, "header_only", "a header and no rows", file=file.name,
                accepted="at least one row",
            )  # fmt: skip

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line where each record begins, and its cells; the header first."""
        count, line = 0, 1 + self._passed
        with self._file.open() as text:
            for _ in range(self._passed):
                next(text)
            reader = csv.reader(text, delimiter=self._delimiter, strict=True)
            while True:
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as exc:
                    last = reader.line_num + self._passed
                    raise self._not_csv(exc, count, line, last) from None
                except BROKEN as exc:
                    raise self._file.cut_off(exc, count - 1) from exc
                except UnicodeError as exc:
                    raise self._file.undecoded(count, line, "", str(exc)) from exc
                if any(cells) if count else not all(map(_BLANK.fullmatch, cells)):
                    self._refuse_junk(cells, count, line)
                    yield line, cells
                    count += 1
                line = reader.line_num + self._passed + 1

    def _refuse_junk(self, cells: Sequence[str], number: int, line: int) -> None:
        for place, cell in enumerate(cells):
            if cell.isascii() and "\x00" not in cell:
                continue
            column = self._header[place] if place < len(self._header) else ""
            if "\x00" in cell:
                raise self._file.nul_byte(number, line, column, cell)
            if UNDECODED.search(cell):
                raise self._file.undecoded(number, line, column, cell)

    def _not_csv(self, exc: csv.Error, number: int, line: int, last: int) -> Exception:
        # A quote that is not closed runs on until the next one, in a later line.
        unclosed = last > line or "unexpected end" in str(exc)
        return stop(
            self._file.problems,
            "unclosed_quote" if unclosed else "bad_quote",
            f"line {line}: a quotation mark is opened in this row and not closed; it runs on to "
            f"line {last}"
            if unclosed
            else f"line {line}: not CSV: {exc}",
            file=self._file.name,
            row=number or None,
            accepted='quote a cell that contains quotation marks, and double them: "5"" nail"',
        )

    def _head(self) -> str:
        """Return Excel's first line where there is one, and else the header."""
        with self._file.open() as text:
            try:
                first = next(text, "")
                return first if _SAID.fullmatch(first) else _header(first, text)
            except UnicodeError as exc:
                raise self._file.undecoded(0, 1, "", str(exc)) from exc
            except BROKEN as exc:
                raise self._file.cut_off(exc, -1) from exc

    def _find_delimiter(self, head: str) -> str:
        """Take what stands most often in the header outside quotes."""
        outside = "".join(head.split('"')[::2])
        counts = {each: outside.count(each) for each in DELIMITERS}
        most = max(counts.values())
        best = [each for each, count in counts.items() if count == most]
        if most and len(best) > 1:
            raise stop(
                self._file.problems,
                "which_delimiter",
                "the header could be separated in more than one way",
                file=self._file.name,
                seen=head.strip(),
                accepted="in `source`, delimiter: " + " or ".join(repr(each) for each in best),
            )
        return best[0]

    def _names(self, header: Sequence[str]) -> list[str]:
        names = [name.strip() for name in header]
        for name in names:
            if name and names.count(name) > 1:
                raise stop(
                    self._file.problems,
                    "repeated_column",
                    "two columns have the same name",
                    file=self._file.name,
                    column=name,
                    accepted="a unique name for each column",
                )
        return names


def _header(first: str, text: IO[str]) -> str:
    """Return the first line that names anything, with those over which a name in quotes runs on."""
    lines: list[str] = []
    marks = 0
    for line in chain([first], text):
        if lines or not _BLANK.fullmatch(line):
            lines.append(line)
            marks += line.count('"')
            if not marks % 2:
                return "".join(lines)
            if len(lines) == _LONGEST_HEADER:
                break
    return lines[0] if lines else ""
