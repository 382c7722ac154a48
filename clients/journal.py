"""What was answered so far, beside the table that it will be.

``scored.parquet.partial`` has on its first line what was asked, then a line a row, in order. It
grows with every answer, so that an interrupted run goes on where it was: a last line that was cut
off is dropped. In the end the table is written from it beside its place and put there as a whole,
and ``scored.parquet.json`` says what it was made of.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

from clients.errors import InvalidInput
from clients.tables import Column, find_writer, to_text

_AS_JSON = "backslashreplace"
"""How half a character of Unicode is written, which a column may be called: JSON escapes it so."""


class Journal:
    """The answers of one table, as a context manager.

    Args:
        output: where the table is to be.
        question: what is asked, plain JSON values; answers to another are not taken for it.
        columns: of the table.

    Attributes:
        about: what is written beside a table that is complete; None: it is not yet.
        done: rows that are answered.
        counts: of them, by ``status``.

    Raises:
        InvalidInput: something stands there that does not belong to this question, or another
            process is at it, or it cannot be written.
    """

    def __init__(
        self, output: Path, question: Mapping[str, Any], columns: Sequence[Column]
    ) -> None:
        self._write_table = find_writer(output)
        self._output, self._question, self._columns = output, question, columns
        self._place = _beside(output, ".partial")
        self._notes = _beside(output, ".json")
        self._status = [column.name for column in columns].index("status")
        self.about: Mapping[str, Any] | None = None
        self.done = 0
        self.counts: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self._output.exists():
            self.about = self._made_of()
            return self
        with _writing(self._place):
            self._file: IO[bytes] = self._place.open("a+b")
        try:
            _lock(self._file, self._place)
            with _writing(self._place):
                self._resume()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        if self.about is None:
            self._close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Put down the outcome of the next row, by name of the column."""
        cells = [row.get(column.name) for column in self._columns]
        with _writing(self._place):
            # A message may quote what is no Unicode.
            self._file.write(to_text(cells).encode(errors="replace") + b"\n")
            self._file.flush()
        self._count(cells)

    def finish(self, more: Mapping[str, Any]) -> None:
        """Write the table, and beside it what was asked, how it went, and more."""
        draft = self._output.with_name(f".{self._output.name}.draft")
        about = {**self._question, "rows": {"all": self.done, **self.counts}, **more}
        try:
            with _writing(draft):
                self._write_table(draft, self._columns, self._rows())
                _fsync(draft)
            with _writing(self._notes):
                text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
                self._notes.write_text(text, encoding="utf-8", errors=_AS_JSON)
            with _writing(self._output):
                draft.replace(self._output)
        finally:
            draft.unlink(missing_ok=True)
        self._file.close()
        self._place.unlink(missing_ok=True)
        self.about = about

    def _close(self) -> None:
        with suppress(OSError):  # it retries what could not be written, which was reported
            self._file.close()

    def _made_of(self) -> Mapping[str, Any]:
        """Return what the table that stands there was made of."""
        try:
            about = _object(self._notes.read_bytes())
        except (OSError, ValueError):
            seen = f"{self._output} exists, but {self._notes.name} does not say how it was made"
            raise InvalidInput("output", seen, accepted="another name for the output") from None
        self._refuse_other(about, self._output)
        self._place.unlink(missing_ok=True)  # left by one that was stopped at the very end
        return about

    def _resume(self) -> None:
        """Count the rows that are there, and drop what follows the last whole one."""
        self._file.seek(0)
        first, ours = self._file.readline(), to_text(self._question).encode(errors=_AS_JSON) + b"\n"
        if first != ours and ours.startswith(first):  # not even that was written to its end
            self._file.truncate(0)
            self._file.write(ours)
            self._file.flush()
            return
        try:
            asked = _object(first)
        except ValueError:
            raise InvalidInput(
                "output",
                f"{self._place} exists and was not written by this command",
                accepted="another name for the output; or remove that file",
            ) from None
        self._refuse_other(asked, self._place)
        end = len(first)
        for line in self._file:
            try:
                cells = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:  # never finished: what lost its power leaves all sorts of bytes
                cells = None
            if cells is None:
                break
            end += len(line)
            self._count(cells)
        self._file.truncate(end)

    def _count(self, cells: Sequence[Any]) -> None:
        self.done += 1
        status = cells[self._status]
        self.counts[status] = self.counts.get(status, 0) + 1

    def _rows(self) -> Iterator[Sequence[Any]]:
        self._file.seek(0)
        self._file.readline()
        for line in self._file:
            yield json.loads(line)

    def _refuse_other(self, found: Mapping[str, Any], place: Path) -> None:
        for name, wanted in self._question.items():
            if found.get(name) != wanted:
                was, now = to_text(found.get(name)), to_text(wanted)
                raise InvalidInput(
                    "output",
                    f"{place} was made with other {name}: {was}, now {now}",
                    accepted=f"the same {name}, another name for the output, or remove that file",
                )


def _object(text: bytes) -> Mapping[str, Any]:
    """Return the JSON object that a text is. Raises `ValueError`."""
    found: object = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _beside(output: Path, ending: str) -> Path:
    return output.with_name(output.name + ending)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say of a path that cannot be written why."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInput("output", f"cannot write {path}: {reason}") from error


def _lock(file: IO[bytes], place: Path) -> None:
    """Keep a second process away, where the system can."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InvalidInput("output", f"another process is using {place}") from None


def _fsync(path: Path) -> None:
    """Have the system write a file to the disk now."""
    with path.open("rb") as file:
        os.fsync(file)
