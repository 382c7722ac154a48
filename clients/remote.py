"""Scoring by a service over HTTP: some cases a request, a few requests on their way at a time."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from time import sleep
from typing import Protocol, TypeVar

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
from clients.patience import Patience
from clients.questions import Question
from clients.request import to_json
from clients.scoring import Record, in_order

AT_ONCE, CONNECTIONS = 32, 4
"""Cases of a request, and requests on their way at a time."""

TIMEOUT = 300.0
"""Seconds of a request: as long as a service takes by default to answer or say that it cannot."""

_LARGEST = 4_000_000
"""Bytes of a request, a single larger case aside; the service takes 20 million by default."""

_SMALLER = frozenset({400, 408, 413, 422, 504})
"""Statuses that a part of a list may not have: one case was wrong, or all together too much."""

T = TypeVar("T")


class Asks(Protocol):
    """A client that waits, see `clients.client.Client`."""

    retry_seconds: float

    def ask(self, question: Question[T]) -> T:
        """Put a question to the service."""
        ...


class Remote:
    """A scorer, see `clients.scoring`, that asks a service.

    All cases are asked of the version of the model that there is at first.

    Args:
        client: knows the service.
        task: name of the task.
        version: of the model; None: the newest.
        explain: as `Client.predict` has it.
        coverage: likewise.
        at_once: cases of a request at most.
        connections: requests on their way.
        timeout: seconds of a request.

    Raises:
        ClientError: the service does not say what the task is.
    """

    def __init__(
        self,
        client: Asks,
        task: str,
        *,
        version: str | None = None,
        explain: bool = False,
        coverage: float | None = None,
        at_once: int = AT_ONCE,
        connections: int = CONNECTIONS,
        timeout: float = TIMEOUT,
    ) -> None:
        for field, number in {"at_once": at_once, "connections": connections}.items():
            if number < 1:
                raise InvalidInput(field, f"is {number}", accepted="a number, 1 or more")
        self.target = client.ask(questions.target(task, version=version))
        self.explain, self.coverage = explain, coverage
        self._patience = partial(Patience, client.retry_seconds)
        self._at_once, self._connections = at_once, connections
        self._ask = client.ask
        self._question = partial(
            questions.predict_list,
            task,
            explain=explain,
            coverage=coverage,
            version=self.target.model.version,
            timeout=timeout,
        )

    def answers(self, records: Iterable[Record]) -> Iterator[Outcome]:
        """Yield what becomes of each record, see `Scorer`."""
        with ThreadPoolExecutor(self._connections) as pool:
            lists = in_order(
                lambda some: pool.submit(self._some, some), self._lists(records), self._connections
            )
            yield from chain.from_iterable(lists)

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

    def _some(self, cases: Sequence[bytes | InvalidInput]) -> list[Outcome]:
        sent = [each for each in cases if isinstance(each, bytes)]
        return questions.in_place(cases, self._asked(sent) if sent else ())

    def _asked(self, cases: Sequence[bytes]) -> list[Outcome]:
        """Return what becomes of cases; where a list is refused, of each half by itself."""
        try:
            return self._settled(cases)
        except (InvalidRequest, ServerError, UnreadableAnswer) as error:
            if error.status not in _SMALLER or _of_all(error):
                raise
            if len(cases) > 1:
                half = len(cases) // 2
                return self._asked(cases[:half]) + self._asked(cases[half:])
            if isinstance(error, ServerError):  # it may be answered another time
                raise
            return [error]

    def _settled(self, cases: Sequence[bytes]) -> list[Outcome]:
        """Return what becomes of cases, after asking for those again that it was too busy for."""
        found: list[Outcome] = list(self._ask(self._question(cases)))
        patience = self._patience()
        while busy := [i for i, each in enumerate(found) if isinstance(each, TooBusy)]:
            refusal = found[busy[0]]
            assert isinstance(refusal, TooBusy)
            if (pause := patience.pause(refusal.retry_after)) is None:
                raise refusal
            sleep(pause)
            again = self._ask(self._question([cases[i] for i in busy]))
            for i, each in zip(busy, again, strict=True):
                found[i] = each
        return found


def _of_all(error: ClientError) -> bool:
    """Whether a refusal is of the question and not of a case."""
    return isinstance(error, ProblemError) and error.code == "bad_parameter"
