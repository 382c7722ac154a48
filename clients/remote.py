"""Scoring by a service over HTTP: some cases a request, a few requests on their way at a time.

They are awaited, in a thread of their own: what is awaited can be broken off at once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, closing
from functools import partial
from typing import Protocol, TypeVar

from anyio.from_thread import start_blocking_portal

from clients import questions
from clients.errors import (
    ClientError,
    InvalidInput,
    InvalidRequest,
    ProblemError,
    ServerError,
    TooBusy,
    UnreadableAnswer,
)
from clients.outcome import Outcome
from clients.questions import Question
from clients.request import to_json
from clients.scoring import Record, in_order
from clients.target import Target

AT_ONCE, CONNECTIONS = 32, 4
"""Cases of a request, and requests on their way at a time."""

TIMEOUT = 300.0
"""Seconds of silence: as long as a service takes by default to answer or say that it cannot."""

_LARGEST = 4_000_000
"""Bytes of a request, a single larger case aside; the service takes 20 million by default."""

_SMALLER = frozenset({400, 408, 413, 422, 504})
"""Statuses that a part of a list may not have: one case was wrong, or all together too much."""

T = TypeVar("T")


class Asks(Protocol):
    """A client that is awaited, see `clients.client.AsyncClient`."""

    async def ask(self, question: Question[T]) -> T:
        """Put a question to the service."""
        ...


class Remote:
    """A scorer, see `clients.scoring`, that asks a service.

    Args:
        open_client: returns one that knows the service.
        target: the task, and the version of the model that all cases are asked of.
        explain: as `Client.predict` has it.
        coverage: likewise.
        at_once: cases of a request at most.
        connections: requests on their way.
        timeout: longest silence in seconds.

    Raises:
        InvalidInput: a number is less than 1.
    """

    def __init__(
        self,
        open_client: Callable[[], AbstractAsyncContextManager[Asks]],
        target: Target,
        *,
        explain: bool = False,
        coverage: float | None = None,
        at_once: int = AT_ONCE,
        connections: int = CONNECTIONS,
        timeout: float = TIMEOUT,
    ) -> None:
        for field, number in {"at_once": at_once, "connections": connections}.items():
            if number < 1:
                raise InvalidInput(field, f"is {number}", accepted="a number, 1 or more")
        self.target, self.explain, self.coverage = target, explain, coverage
        self._open = open_client
        self._at_once, self._connections = at_once, connections
        self._question = partial(
            questions.predict_list,
            target.task,
            explain=explain,
            coverage=coverage,
            version=target.model.version,
            timeout=timeout,
        )

    def answers(self, records: Iterable[Record]) -> Iterator[Outcome]:
        """Yield the outcome of each record, see `Scorer`."""
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(self._open()) as client,
            closing(
                in_order(
                    partial(portal.start_task_soon, self._some, client),
                    self._lists(records),
                    self._connections,
                )
            ) as lists,
        ):
            for each in lists:
                yield from each

    def _lists(self, records: Iterable[Record]) -> Iterator[list[bytes | InvalidInput]]:
        """Yield so many encoded cases as go into one request."""
        some: list[bytes | InvalidInput] = []
        size = 0
        for record in records:
            each = record if isinstance(record, InvalidInput) else to_json(record)
            length = 0 if isinstance(each, InvalidInput) else len(each)
            if some and (len(some) == self._at_once or size + length > _LARGEST):
                yield some
                some, size = [], 0
            some.append(each)
            size += length
        if some:
            yield some

    async def _some(self, client: Asks, cases: Sequence[bytes | InvalidInput]) -> list[Outcome]:
        sent = [each for each in cases if isinstance(each, bytes)]
        return questions.in_place(cases, await self._asked(client, sent) if sent else ())

    async def _asked(self, client: Asks, cases: Sequence[bytes]) -> list[Outcome]:
        """Return the outcomes of cases; where a list is refused, each half is asked by itself."""
        try:
            return await self._settled(client, cases)
        except (InvalidRequest, ServerError, UnreadableAnswer) as error:
            if error.status not in _SMALLER or _of_all(error):
                raise
            if len(cases) > 1:
                half = len(cases) // 2
                first = await self._asked(client, cases[:half])
                return first + await self._asked(client, cases[half:])
            if isinstance(error, ServerError):  # it may be answered another time
                raise
            return [error]

    async def _settled(self, client: Asks, cases: Sequence[bytes]) -> list[Outcome]:
        """Return the outcomes of cases, asking again about those it was too busy for."""
        found: list[Outcome] = list(await client.ask(self._question(cases)))
        for each in found:
            if isinstance(each, TooBusy):
                raise each
        return found


def _of_all(error: ClientError) -> bool:
    """Whether a refusal is of the question and not of a case."""
    return isinstance(error, ProblemError) and error.code == "bad_parameter"
