"""The two clients: `Client` waits, `AsyncClient` is awaited. Everything else they share.

Neither repeats a request: what to do about a `TooBusy` or a `TimedOut` is the caller's to say.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from clients import request as requests
from clients.answers import Embedding, Prediction, Readiness, TaskSummary
from clients.document import Document
from clients.errors import InvalidInput, ProblemError
from clients.exchange import naming_failures, read, read_batch
from clients.parts import Image, Tabular, Text, Timeseries
from clients.request import Request

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 30.0
DEFAULT_CONNECT_TIMEOUT = 5.0

T = TypeVar("T")


class _Base:
    """What both clients are told: where the service is and how long to wait for it."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = _service_url(url)
        self._connect_timeout = _positive(connect_timeout, "connect_timeout")
        self._open(base_url=self.url, timeout=self._timeout(timeout), headers=headers)

    def _open(self, **options: Any) -> None:
        raise NotImplementedError

    def _timeout(self, seconds: float) -> httpx.Timeout:
        return httpx.Timeout(_positive(seconds, "timeout"), connect=self._connect_timeout)

    def _arguments(self, request: Request, patience: float | None) -> dict[str, Any]:
        arguments = request.arguments()
        if patience is not None:
            arguments["timeout"] = self._timeout(patience)
        return arguments


class Client(_Base):
    """A connection to a LANISTR service, as a context manager; threads may share one.

    Args:
        url: where the service is, with its path prefix if it has one.
        timeout: longest silence of the service, in seconds, before a request is given up.
        connect_timeout: longest wait for a connection, in seconds.
        headers: sent with every request, such as the one that carries an API key.

    Raises:
        InvalidInput: the URL is not one, or a timeout is not positive.
    """

    def _open(self, **options: Any) -> None:
        self._http = httpx.Client(**options)

    def predict(
        self,
        task: str,
        *,
        id: str | None = None,
        text: Text | None = None,
        image: Image | None = None,
        tabular: Tabular | None = None,
        timeseries: Timeseries | None = None,
        explain: bool = False,
        coverage: float | None = None,
        timeout: float | None = None,
    ) -> Prediction:
        """Return the prediction for one case. A part given as None is missing and is not sent.

        Args:
            task: name of the task, as `tasks` lists it.
            id: the caller's own name for the case; comes back in the answer.
            text: a note, or a list of notes, oldest first.
            image: a path to a picture or its bytes, or a list of them.
            tabular: values by field name; a value that is None is missing.
            timeseries: rows, each with ``hours`` since the start of the case and the values
                measured then (a number, a string, or a mapping of ``value`` and ``unit``), or a
                path to a .csv or .json file of such rows.
            explain: whether to ask for each part's contribution.
            coverage: the share of cases, between 0 and 1, for which the answer's prediction set
                is to hold the truth; None leaves it to the service.
            timeout: seconds, in place of the client's own.

        Raises:
            ClientError: see the tree in `clients.errors`.
        """
        return self._ask(
            requests.predict(
                task,
                id=id,
                text=text,
                image=image,
                tabular=tabular,
                timeseries=timeseries,
                explain=explain,
                coverage=coverage,
            ),
            Prediction.read,
            timeout,
        )

    def predict_many(
        self,
        task: str,
        cases: Iterable[Mapping[str, Any]],
        *,
        explain: bool = False,
        coverage: float | None = None,
        at_once: int = 32,
        timeout: float | None = None,
    ) -> Iterator[Prediction | ProblemError]:
        """Yield for each case its prediction, or the problem with it; in order, as they come.

        Args:
            task: name of the task.
            cases: each a mapping with some of the parts that `predict` takes, under these names,
                and ``id``; a series must be rows, not a file of CSV. They are taken as they are
                needed, so that a generator of any length will do.
            explain: as `predict` has it.
            coverage: likewise.
            at_once: how many cases go into one request.
            timeout: seconds a request, in place of the client's own.

        Raises:
            ClientError: what is wrong with a whole request, see the tree in `clients.errors`.
        """
        options: dict[str, Any] = {"explain": explain, "coverage": coverage}
        for first, some in _portions(cases, at_once):
            request = requests.batch(task, some, first=first, **options)
            yield from self._ask(request, read_batch, timeout)

    def embed(
        self,
        task: str,
        *,
        id: str | None = None,
        text: Text | None = None,
        image: Image | None = None,
        tabular: Tabular | None = None,
        timeseries: Timeseries | None = None,
        timeout: float | None = None,
    ) -> Embedding:
        """Return one case as a point; the arguments are those of `predict`.

        Raises:
            ClientError: see the tree in `clients.errors`.
        """
        request = requests.embed(
            task, id=id, text=text, image=image, tabular=tabular, timeseries=timeseries
        )
        return self._ask(request, Embedding.read, timeout)

    def tasks(self) -> tuple[TaskSummary, ...]:
        """Return the tasks that the service can predict. Raises `ClientError`."""
        return self._ask(requests.tasks(), TaskSummary.read_all)

    def task(self, name: str) -> dict[str, Any]:
        """Return a task's fields, units, ranges and model card. Raises `ClientError`."""
        return self._ask(requests.task(name), _detail)

    def health(self) -> str:
        """Return ``ok`` from a service that lives. Raises `ClientError` from one that does not."""
        return self._ask(requests.health(), _status)

    def ready(self) -> Readiness:
        """Return whether the models are loaded. Raises `ClientError` if there is no telling."""
        return self._ask(requests.ready(), Readiness.read, also=(503,))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self,
        request: Request,
        shape: Callable[[Document], T],
        patience: float | None = None,
        also: tuple[int, ...] = (),
    ) -> T:
        with naming_failures(self.url, request):
            response = self._http.request(**self._arguments(request, patience))
        return read(response, shape, also=also)


class AsyncClient(_Base):
    """The same to be awaited: the arguments, methods and errors of `Client`."""

    def _open(self, **options: Any) -> None:
        self._http = httpx.AsyncClient(**options)

    async def predict(
        self,
        task: str,
        *,
        id: str | None = None,
        text: Text | None = None,
        image: Image | None = None,
        tabular: Tabular | None = None,
        timeseries: Timeseries | None = None,
        explain: bool = False,
        coverage: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the connection; cancelling works too
    ) -> Prediction:
        """Return the prediction for one case, as `Client.predict` does."""
        # In a thread: pictures are read from disk, and a slow disk must not hold up the event loop.
        request = await asyncio.to_thread(
            requests.predict,
            task,
            id=id,
            text=text,
            image=image,
            tabular=tabular,
            timeseries=timeseries,
            explain=explain,
            coverage=coverage,
        )
        return await self._ask(request, Prediction.read, timeout)

    async def predict_many(
        self,
        task: str,
        cases: Iterable[Mapping[str, Any]],
        *,
        explain: bool = False,
        coverage: float | None = None,
        at_once: int = 32,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> AsyncIterator[Prediction | ProblemError]:
        """Yield for each case its prediction or its problem, as `Client.predict_many` does."""
        options: dict[str, Any] = {"explain": explain, "coverage": coverage}
        for first, some in _portions(cases, at_once):
            request = await asyncio.to_thread(requests.batch, task, some, first=first, **options)
            for each in await self._ask(request, read_batch, timeout):
                yield each

    async def embed(
        self,
        task: str,
        *,
        id: str | None = None,
        text: Text | None = None,
        image: Image | None = None,
        tabular: Tabular | None = None,
        timeseries: Timeseries | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> Embedding:
        """Return one case as a point, as `Client.embed` does."""
        request = await asyncio.to_thread(
            requests.embed,
            task,
            id=id,
            text=text,
            image=image,
            tabular=tabular,
            timeseries=timeseries,
        )
        return await self._ask(request, Embedding.read, timeout)

    async def tasks(self) -> tuple[TaskSummary, ...]:
        """Return the tasks that the service can predict. Raises `ClientError`."""
        return await self._ask(requests.tasks(), TaskSummary.read_all)

    async def task(self, name: str) -> dict[str, Any]:
        """Return a task's fields, units, ranges and model card. Raises `ClientError`."""
        return await self._ask(requests.task(name), _detail)

    async def health(self) -> str:
        """Return ``ok`` from a service that lives. Raises `ClientError` from one that does not."""
        return await self._ask(requests.health(), _status)

    async def ready(self) -> Readiness:
        """Return whether the models are loaded. Raises `ClientError` if there is no telling."""
        return await self._ask(requests.ready(), Readiness.read, also=(503,))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _ask(
        self,
        request: Request,
        shape: Callable[[Document], T],
        patience: float | None = None,
        also: tuple[int, ...] = (),
    ) -> T:
        with naming_failures(self.url, request):
            response = await self._http.request(**self._arguments(request, patience))
        return read(response, shape, also=also)


def _portions(
    cases: Iterable[Mapping[str, Any]], size: int
) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """Yield the cases some at a time, each time with the number of the first."""
    if size < 1:
        raise InvalidInput("at_once", f"is {size}", accepted="a number of cases, 1 or more")
    waiting, first = iter(cases), 0
    while some := list(islice(waiting, size)):
        yield first, some
        first += len(some)


def _service_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidInput("url", f"{url!r} is not one: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput("url", f"{url!r} is not one", accepted=f"such as {DEFAULT_URL}")
    return url.rstrip("/")


def _positive(seconds: float, field: str) -> float:
    if not 0 < seconds < math.inf:
        raise InvalidInput(field, f"is {seconds}", accepted="seconds, more than 0")
    return seconds


def _detail(document: Document) -> dict[str, Any]:
    return document.raw


def _status(document: Document) -> str:
    return document.text("status")
