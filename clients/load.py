"""What a service takes: so many clients that each send the next request when the last is answered.

One process sends them all, and Python takes its share of the machine: docs/clients.md says how
much. Cases are made ready before, and of an answer nothing is looked at but whether it is one.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

from clients import questions
from clients.client import AsyncClient, Client
from clients.columns import Columns, Named
from clients.document import Document
from clients.errors import ClientError, InvalidInput, ProblemError
from clients.parts import FilePath
from clients.questions import Question
from clients.reading import AS_USUAL, Reading
from clients.request import Request, segment, to_json
from clients.tables import open_table

_CASES = 256
"""Of a table that are sent, again and again."""

_log = logging.getLogger(__name__)


@dataclass
class Load:
    """The outcome of a load.

    Attributes:
        seconds: from the first request to the last answer.
        latencies: seconds of each answer.
        statuses: of each answer, in the same order; 0 where none came.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses.count(200) / self.seconds

    def percentile(self, share: float) -> float:
        """Return the latency, in seconds, that so many per cent of the answers keep to.

        Between two answers it lies as far from the one to the other as the share does.
        """
        ordered = sorted(self.latencies)
        place = share / 100 * (len(ordered) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        return low + (high - low) * (place - math.floor(place))


@dataclass
class Sent(Load):
    """A load, and what came other than answers.

    Attributes:
        failures: how often which, by status and code, or the name of the error.
        failure: the last of them.
    """

    failures: Counter[str] = field(default_factory=Counter)
    failure: ClientError | None = None


def cases_of(
    client: Client,
    task: str,
    input: FilePath | None = None,
    columns: Named | None = None,
    reading: Reading = AS_USUAL,
) -> list[bytes]:
    """Return cases as they are sent: the first of a table, or the task's own examples.

    Args:
        client: knows the service.
        task: name of the task.
        input: a table as `Client.score` takes it; None: the examples.
        columns: likewise.
        reading: likewise.

    Rows that cannot be sent are left out, with a line in the log.

    Raises:
        ClientError: the table cannot be read, or no row of it be sent; or there are no examples.
    """
    if input is None:
        examples = client.ask(Question(questions.task(task).request, _examples))
        if not examples:
            raise InvalidInput("input", f"{task} has no examples", accepted="a table of cases")
        return examples
    table = open_table(input, reading.encoding)
    target = client.ask(questions.target(task))
    found = Columns.of_table(table, Path(input), target, columns, reading)
    cases: list[bytes] = []
    left: list[InvalidInput] = []
    for row in islice(table.read(0, found.wanted), _CASES):
        try:
            if isinstance(row, InvalidInput):
                raise row
            cases.append(to_json(found.record(row)))
        except InvalidInput as error:
            left.append(error)
    if not cases:
        if left:
            raise left[0]
        raise InvalidInput("input", f"{input} has no rows", accepted="at least one row")
    if left:
        _log.warning("rows that cannot be sent: %d; the first: %s", len(left), left[0])
    return cases


async def load(
    open_client: Callable[[], AsyncClient],
    task: str,
    cases: Sequence[bytes],
    *,
    concurrency: int,
    seconds: float,
) -> Sent:
    """Send cases in turn for so long; wait for the last answers.

    Args:
        open_client: returns one that asks once.
        task: name of the task.
        cases: JSON.
        concurrency: clients that send at a time.
        seconds: after which none sends another; each sends at least one case.

    Raises:
        InvalidInput: no client, or no time.
    """
    for name, number in {"concurrency": concurrency, "seconds": seconds}.items():
        if not 0 < number < math.inf:
            raise InvalidInput(name, f"is {number}", accepted="more than 0")
    path, sent, numbers = f"/predict/{segment(task)}", Sent(), count()

    async def send(client: AsyncClient) -> None:
        while True:
            begun = time.perf_counter()
            request = Request("POST", path, content=cases[next(numbers) % len(cases)])
            status = 200
            try:
                await client.ask(Question(request, _unread))
            except ClientError as error:
                status, kind = 0, type(error).__name__
                if isinstance(error, ProblemError):
                    status, kind = error.status, f"{error.status} {error.code}"
                sent.failures[kind] += 1
                sent.failure = error
            sent.statuses.append(status)
            answered = time.perf_counter()
            sent.latencies.append(answered - begun)
            if answered >= started + seconds:
                return

    async with AsyncExitStack() as stack:
        # One each: httpx looks through all connections of a client for every request.
        senders = [await stack.enter_async_context(open_client()) for _ in range(concurrency)]
        started = time.perf_counter()
        await asyncio.gather(*map(send, senders))
    sent.seconds = time.perf_counter() - started
    return sent


def _examples(document: Document) -> list[bytes]:
    return [to_json(each.document("record").raw) for each in document.documents("examples")]


def _unread(document: Document) -> Any:
    return None
