"""JSON lines: one object a line; what stands in an object within it is a column `outer.inner`."""

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from training.prepare.table.rows import Row, placed, spread, stop
from training.prepare.table.textfile import BROKEN, UNDECODED, TextFile


class JsonLines:
    """A file of JSON objects; a cell is what JSON holds."""

    def __init__(self, file: TextFile) -> None:
        self._file = file

    def find(self, wanted: Collection[str] = ()) -> Collection[str]:
        """Return the columns of the first rows, down to where all those wanted were met."""
        found: dict[str, None] = {}
        lacking = set(wanted)
        for _, text in self._lines() if lacking else ():
            with suppress(ValueError, RecursionError):  # reported when the rows are read
                cells = json.loads(text)
                if isinstance(cells, dict):
                    cells = spread(cells)
                    found.update(dict.fromkeys(cells))
                    lacking -= cells.keys()
            if not lacking:
                break
        return tuple(found)

    def rows(self) -> Iterator[Row]:
        """Yield the objects; a line that is none is reported and passed over."""
        file, number = self._file, 0
        for line, text in self._lines():
            if not text.strip():
                continue
            number += 1
            if "\x00" in text:
                raise file.nul_byte(number, line, "", text)
            if UNDECODED.search(text):
                raise file.undecoded(number, line, "", text)
            try:
                cells = json.loads(text, object_pairs_hook=_object)
                if isinstance(cells, dict):
                    cells = spread(cells)
                if "\\u" in text:
                    json.dumps(cells, ensure_ascii=False).encode()  # half a character has no bytes
            except _RepeatedKeyError as exc:
                self._pass_over("repeated_key", "a key appears twice", number, line, str(exc), text)
            except UnicodeEncodeError:
                self._pass_over("not_unicode", "an unpaired surrogate", number, line, "", text)
            except (ValueError, RecursionError) as exc:
                self._pass_over("not_json", f"not JSON: {exc}", number, line, "", text)
            else:
                if isinstance(cells, dict):
                    yield Row(file.name, number, line, cells)
                else:
                    self._pass_over("not_an_object", "not an object", number, line, "", text)
        if not number:
            raise stop(file.problems, "no_rows", "no rows", file=file.name,
                       accepted="at least one object")  # fmt: skip

    def _lines(self) -> Iterator[tuple[int, str]]:
        line = 0
        with self._file.open() as text:
            while True:
                try:
                    found = text.readline()
                except BROKEN as exc:
                    raise self._file.cut_off(exc, line) from exc
                except UnicodeError as exc:
                    raise self._file.undecoded(line + 1, line + 1, "", str(exc)) from exc
                if not found:
                    return
                line += 1
                yield line, found

    def _pass_over(
        self, code: str, message: str, number: int, line: int, column: str, seen: str
    ) -> None:
        self._file.problems.add(
            code,
            placed(f"{message}; the row was left out", line),
            file=self._file.name,
            row=number,
            column=column,
            seen=seen.strip(),
        )


class _RepeatedKeyError(Exception):
    """A key of an object stands twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(key)
        found[key] = value
    return found
