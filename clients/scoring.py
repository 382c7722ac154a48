"""A table of cases in, a table of predictions out: any length, interrupted as often as you like.

    table ─ columns ─ records ─ scorer ─ outcomes ─ journal ─ table

Who answers is up to the scorer: a service over HTTP (`clients.remote`), or an engine in the same
process (`service.score`). Whichever it is, rows, columns and answers are the same.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Protocol, TypeVar

from clients.columns import Columns, Named
from clients.errors import InvalidInput
from clients.journal import Journal
from clients.outcome import FAILED, Outcome, columns_of, row_of
from clients.parts import FilePath
from clients.progress import growing
from clients.reading import AS_USUAL, Reading
from clients.tables import Row, open_table
from clients.target import Target

Record = dict[str, Any] | InvalidInput
"""A case as the service takes it, or why there is none."""

_log = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")


class Scorer(Protocol):
    """Answers cases by one model.

    Attributes:
        target: the task and the model.
        explain: whether contributions are asked for.
        coverage: of sets and intervals; None: as the model has it.
    """

    target: Target
    explain: bool
    coverage: float | None

    def answers(self, records: Iterable[Record]) -> Iterator[Outcome]:
        """Yield the outcome of each record, in order; takes few of them ahead.

        Raises:
            ClientError: what is no one record's fault.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The outcome of scoring a table.

    Attributes:
        rows: of it.
        failed: of them, those with an error.
        before: of them, those that were there already.
        target: what answered.
        unused: columns that were not read, each with the name that it may have been meant for.
        absent: parts and fields that had no column.
    """

    rows: int
    failed: int
    before: int
    target: Target
    unused: dict[str, str]
    absent: list[str]


def score(
    scorer: Scorer,
    input: FilePath,
    output: FilePath,
    *,
    columns: Named | None = None,
    reading: Reading = AS_USUAL,
    progress: bool | None = None,
) -> Scored:
    """Score a table; what is there of its answers already is not asked again.

    Args:
        scorer: answers.
        input: a table, see `clients.tables`.
        output: the table to be, of the format that its name says.
        columns: see `clients.columns.Columns`.
        reading: how the table is read.
        progress: whether a bar is shown; None: on a terminal.

    Raises:
        ClientError: what is no one row's fault. The rows before it are kept.
    """
    input, output, target = Path(input), Path(output), scorer.target
    state = _state(input)  # before anything is read of it
    table = open_table(input, reading.encoding)
    found = Columns.of_table(table, input, target, columns, reading)
    _say(found, target)
    with input.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    question = {
        "input": {"sha256": digest, "rows": table.rows},
        "task": target.task,
        "model": dict(target.model.raw),
        "precision": target.precision,
        "reading": reading.told(),
        "columns": {place: list(names) for place, names in found.sources.items()},
        "explain": scorer.explain,
        "coverage": scorer.coverage,
    }
    with Journal(output, question, columns_of(target, scorer.explain)) as journal:
        before = table.rows if journal.about is not None else journal.done
        if journal.about is None:
            ids: deque[str | None] = deque()
            records = _records(table.read(journal.done, found.wanted), found, ids)
            with growing(table.rows, journal.done, progress) as grow:
                for outcome in scorer.answers(records):
                    _refuse_written(input, state)  # or a row of another table would be kept
                    journal.add(row_of(outcome, ids.popleft()))
                    grow()
            _refuse_written(input, state)
            journal.finish({"unused": found.unused, "absent": found.absent})
        assert journal.about is not None
        return Scored(
            rows=table.rows,
            failed=journal.about["rows"].get(FAILED, 0),
            before=before,
            target=target,
            unused=found.unused,
            absent=found.absent,
        )


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _refuse_written(path: Path, state: tuple[int, int, int] | None) -> None:
    """Refuse a table that is no longer what it was, see `_state`. Raises `InvalidInput`."""
    if _state(path) != state:
        seen = f"{path} was changed while it was being scored"
        raise InvalidInput(
            "input", seen, accepted="a complete file, with another name for the output"
        )


def _say(columns: Columns, target: Target) -> None:
    """Say what the user should know before the work begins."""
    if target.model.demo:
        _log.warning("DEMO MODEL: trained on synthetic records; its predictions mean nothing")
    if columns.unused:
        names = (
            f"{name} (did you mean {near}?)" if near else name
            for name, near in columns.unused.items()
        )
        _log.warning("columns not used: %s", ", ".join(names))
    if columns.absent:
        _log.warning("no column for: %s", ", ".join(columns.absent))


def in_order(
    ask: Callable[[T], Future[U]], waiting: Iterable[T], at_once: int
) -> Generator[U, None, None]:
    """Yield the outcome of each, in order, while those after it are on their way.

    Args:
        ask: starts one.
        waiting: taken as they are needed.
        at_once: how many are on their way at most.
    """
    coming: deque[Future[U]] = deque()
    try:
        for each in waiting:
            coming.append(ask(each))
            if len(coming) >= at_once:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        for left in coming:
            left.cancel()


def _records(rows: Iterable[Row], columns: Columns, ids: deque[str | None]) -> Iterator[Record]:
    """Yield the record of each row; add its name to those that wait for an answer."""
    for row in rows:
        if isinstance(row, InvalidInput):
            ids.append(None)
            yield row
            continue
        ids.append(columns.id(row))
        try:
            record: Record = columns.record(row)
        except InvalidInput as error:
            record = error
        yield record
