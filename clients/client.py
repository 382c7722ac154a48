"""The two clients: `Client` waits, `AsyncClient` is awaited. Everything else they share.

Their methods are the functions of `clients.questions`, put to the service.
"""

import asyncio
import inspect
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, update_wrapper
from numbers import Real
from types import TracebackType
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeVar

import httpx

from clients import questions
from clients.columns import Named
from clients.errors import ClientError, InvalidInput
from clients.exchange import naming_failures, read, retry_after, without_user
from clients.parts import FilePath
from clients.patience import Patience
from clients.questions import Question, Some, in_place
from clients.reading import AS_USUAL, Reading
from clients.remote import AT_ONCE, CONNECTIONS, Remote
from clients.remote import TIMEOUT as SCORE_TIMEOUT
from clients.scoring import Scored, score

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 30.0
DEFAULT_CONNECT_TIMEOUT = 5.0
DEFAULT_RETRY_SECONDS = 30.0

T = TypeVar("T")
P = ParamSpec("P")


class _Base:
    """Settings of both clients: where the service is and how long to wait for it."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        retry_seconds: float = DEFAULT_RETRY_SECONDS,
        connections: int = 100,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "url": url, "timeout": timeout, "connect_timeout": connect_timeout,
            "retry_seconds": retry_seconds, "connections": connections, "headers": headers,
        }  # fmt: skip
        address = _service_url(url)
        self.url = without_user(httpx.URL(address))
        self._connect_timeout = _positive(connect_timeout, "connect_timeout")
        if not (_is_number(retry_seconds) and 0 <= retry_seconds < math.inf):
            raise InvalidInput(
                "retry_seconds", f"is {retry_seconds}", accepted="a number of seconds, 0 or more"
            )
        self.retry_seconds = retry_seconds
        for name, value in (headers or {}).items():
            if not all(isinstance(each, str) for each in (name, value)):
                raise InvalidInput(f"headers.{name}", f"is {type(value).__name__}", accepted="text")
            if not all(each.isascii() and each.isprintable() for each in (name, value)):
                raise InvalidInput(f"headers.{name}", "has characters other than printable ASCII")
        if not (isinstance(connections, int) and connections > 0):
            raise InvalidInput("connections", f"is {connections!r}", accepted="a number, 1 or more")
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._open = partial(
            self._connections,
            base_url=address,
            timeout=self._timeout(timeout),
            limits=limits,
            headers=headers,
        )
        with _naming_surroundings():
            self._http, self._process = self._open(), os.getpid()

    _connections: ClassVar[Callable[..., Any]]

    def _own(self) -> Any:
        """Return connections of this process: two that read from one get each other's answers."""
        if self._process != os.getpid() and not self._http.is_closed:
            self._http, self._process = self._open(), os.getpid()
        return self._http

    def _timeout(self, seconds: float) -> httpx.Timeout:
        return httpx.Timeout(_positive(seconds, "timeout"), connect=self._connect_timeout)

    def _arguments(self, question: Question[Any]) -> dict[str, Any]:
        arguments = question.request.arguments()
        if question.timeout is not None:
            arguments["timeout"] = self._timeout(question.timeout)
        return arguments


class _Asking(Generic[T]):
    """How far a question has come.

    Attributes:
        question: what is to be sent.
        answers: the last of them is that of the whole, if there is nothing to wait for any more.
    """

    def __init__(self, question: Question[T], retry_seconds: float) -> None:
        self.question = question
        self.answers: list[T] = []
        self._patience = Patience(retry_seconds)

    def pause_after(self, response: httpx.Response) -> float | None:
        """Take a response; return how long to wait before the question is sent, None: no more.

        Raises:
            ClientError: it is of no use.
        """
        question = self.question
        busy = response.status_code in (429, 503) and response.status_code not in question.also
        if busy and (pause := self._patience.pause(retry_after(response))) is not None:
            return pause
        self.answers.append(read(response, question.shape, also=question.also))
        rest = question.rest(self.answers[-1])
        if rest is None:
            return None
        self.question = rest
        return self._patience.pause(None)

    @contextmanager
    def keeping_answers(self) -> Iterator[None]:
        """Pass over what goes wrong when a part is asked again: the other answers are not lost."""
        try:
            yield
        except ClientError:
            if not self.answers:
                raise


# ---- from a question to a method ----------------------------------------------------------------


def _told(method: Callable[..., Any], ask: Callable[..., Any], answer: Any) -> None:
    """Give a method the help of a question: its arguments and words, and what is answered."""
    update_wrapper(method, ask)
    asked = inspect.signature(ask)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = asked.replace(  # type: ignore[attr-defined]
        parameters=[itself, *asked.parameters.values()], return_annotation=answer
    )


def _answer_of(ask: Callable[..., Any]) -> Any:
    return inspect.signature(ask).return_annotation.__args__[0]


def _waited(ask: Callable[P, Question[T]]) -> Callable[Concatenate["Client", P], T]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.ask(ask(*args, **kwargs))

    _told(method, ask, _answer_of(ask))
    return method


def _awaited(
    ask: Callable[P, Question[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        # In a thread: pictures are read from disk, and a slow disk must not hold up the event loop.
        return await self.ask(await asyncio.to_thread(ask, *args, **kwargs))

    _told(method, ask, _answer_of(ask))
    return method


def _each_waited(
    ask: Callable[P, Iterator[Callable[[], Some[T]]]],
) -> Callable[Concatenate["Client", P], Iterator[T | InvalidInput]]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T | InvalidInput]:
        for make in ask(*args, **kwargs):
            some = make()
            yield from in_place(some.cases, self.ask(some.question) if some.question else ())

    _told(method, ask, Iterator)
    return method


def _each_awaited(
    ask: Callable[P, Iterator[Callable[[], Some[T]]]],
) -> Callable[Concatenate["AsyncClient", P], AsyncIterator[T | InvalidInput]]:
    async def method(
        self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[T | InvalidInput]:
        for make in ask(*args, **kwargs):
            some = await asyncio.to_thread(make)
            answers = await self.ask(some.question) if some.question else ()
            for each in in_place(some.cases, answers):
                yield each

    _told(method, ask, AsyncIterator)
    return method


# ---- the clients --------------------------------------------------------------------------------


class Client(_Base):
    """A connection to a LANISTR service, as a context manager; threads may share one.

    So may processes that are forked, each of which opens connections of its own.

    Args:
        url: where the service is, with its path prefix if it has one.
        timeout: longest silence of the service, in seconds, before a request is given up; an answer
            that comes in pieces may take longer.
        connect_timeout: longest wait for a connection, in seconds.
        retry_seconds: how long, over all pauses, a request that gets 429 or 503 is repeated, no
            sooner than the service asks, and cases of a list that do; 0: they are not. No other
            request is repeated as it was.
        connections: how many there are at most; a request that has none waits for one.
        headers: sent with every request, such as the one that carries an API key.

    Raises:
        InvalidInput: the URL is not one, a timeout is not positive, or the environment names a
            proxy or certificates that cannot be used.
    """

    _connections = httpx.Client

    def ask(self, question: Question[T]) -> T:
        """Put a question to the service. Raises `ClientError`."""
        asking = _Asking(question, self.retry_seconds)
        while True:
            pause = None
            with asking.keeping_answers():
                with naming_failures(self.url, asking.question.request):
                    response = self._own().request(**self._arguments(asking.question))
                pause = asking.pause_after(response)
            if pause is None:
                return asking.answers[-1]
            time.sleep(pause)

    predict = _waited(questions.predict)
    predict_many = _each_waited(questions.predict_many)
    predict_list = _waited(questions.predict_list)
    embed = _waited(questions.embed)
    tasks = _waited(questions.tasks)
    task = _waited(questions.task)
    health = _waited(questions.health)
    ready = _waited(questions.ready)

    def score(
        self,
        task: str,
        input: FilePath,
        output: FilePath,
        *,
        columns: Named | None = None,
        reading: Reading = AS_USUAL,
        explain: bool = False,
        coverage: float | None = None,
        version: str | None = None,
        at_once: int = AT_ONCE,
        connections: int = CONNECTIONS,
        timeout: float = SCORE_TIMEOUT,
        progress: bool | None = None,
    ) -> Scored:
        """Score a table of cases of any length: a row of predictions a row, in order.

        What cannot be predicted has an ``error`` in its row. When it is interrupted, the same call
        goes on where it was; when it is complete, the same call does nothing.

        Args:
            task: name of the task.
            input: .csv, .jsonl (either may be .gz) or .parquet, with columns ``id``, ``text``,
                ``image`` (paths, from the table's folder, or bytes), ``timeseries`` (a list of
                rows, or JSON of one), and a column a field of the table row.
            output: the table to be, of any of these formats, not packed.
            columns: column by part (``text``) or field (``tabular.age``), where they have other
                names; of notes and pictures several.
            reading: how the table is read: decimal mark, encoding, words for a missing value, and
                the folder of pictures.
            explain: whether to ask for each part's contribution.
            coverage: as `predict` has it.
            version: of the model; None: the newest that there is when it begins.
            at_once: cases of a request at most.
            connections: requests on their way at a time.
            timeout: longest silence of the service, in seconds, before a request is given up.
            progress: whether a bar is shown; None: on a terminal.

        Raises:
            ClientError: what is no one row's fault. The rows before it are kept.
        """
        remote = Remote(
            partial(AsyncClient, **self._options),
            self.ask(questions.target(task, version=version)),
            explain=explain,
            coverage=coverage,
            at_once=at_once,
            connections=connections,
            timeout=timeout,
        )
        return score(remote, input, output, columns=columns, reading=reading, progress=progress)

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


class AsyncClient(_Base):
    """The same to be awaited: the arguments, methods and errors of `Client`, without `score`.

    It belongs to the event loop in which it is first asked, of which each `asyncio.run` makes a new
    one, and is to be closed there.
    """

    _connections = httpx.AsyncClient

    async def ask(self, question: Question[T]) -> T:
        """Put a question to the service. Raises `ClientError`."""
        asking = _Asking(question, self.retry_seconds)
        while True:
            pause = None
            with asking.keeping_answers():
                with naming_failures(self.url, asking.question.request):
                    response = await self._own().request(**self._arguments(asking.question))
                pause = asking.pause_after(response)
            if pause is None:
                return asking.answers[-1]
            await asyncio.sleep(pause)

    predict = _awaited(questions.predict)
    predict_many = _each_awaited(questions.predict_many)
    predict_list = _awaited(questions.predict_list)
    embed = _awaited(questions.embed)
    tasks = _awaited(questions.tasks)
    task = _awaited(questions.task)
    health = _awaited(questions.health)
    ready = _awaited(questions.ready)

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


def _is_number(value: object) -> bool:
    return isinstance(value, Real)


def _service_url(url: str) -> str:
    if not isinstance(url, str):
        raise InvalidInput("url", f"is {url!r}", accepted=f"such as {DEFAULT_URL}")
    shown = url.rpartition("@")[2]  # without a password
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidInput("url", f"{shown!r} is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput("url", f"{shown!r} is not a URL", accepted=f"such as {DEFAULT_URL}")
    return url.rstrip("/")


@contextmanager
def _naming_surroundings() -> Iterator[None]:
    """Say which of the environment's variables, which httpx reads, cannot be used."""
    try:
        yield
    except OSError as error:
        seen = f"{os.environ.get('SSL_CERT_FILE')}: {error.strerror or error}"
        raise InvalidInput(
            "SSL_CERT_FILE", seen, accepted="a readable file of certificates"
        ) from error
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        field = "ALL_PROXY, HTTP_PROXY or HTTPS_PROXY"
        raise InvalidInput(field, str(error), accepted="such as http://proxy:3128") from error


def _positive(seconds: float, field: str) -> float:
    if not (_is_number(seconds) and 0 < seconds < math.inf):
        raise InvalidInput(field, f"is {seconds}", accepted="a number of seconds, more than 0")
    return seconds
