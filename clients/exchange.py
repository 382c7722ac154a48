"""From one exchange over HTTP to an answer or an error. No waiting here: both clients share it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn, TypeVar

import httpx

from clients.answers import Issue, Prediction
from clients.document import Document, MalformedError
from clients.errors import (
    ClientError,
    ConnectionFailed,
    InvalidInput,
    InvalidRequest,
    ProblemError,
    ServerError,
    TimedOut,
    TooBusy,
    UnreadableAnswer,
)
from clients.request import Request

_PROBLEM = "application/problem+json"
_EXCERPT = 200  # characters of a body that nobody could read

T = TypeVar("T")


@contextmanager
def naming_failures(url: str, request: Request) -> Iterator[None]:
    """Turn what is raised while sending into errors of the clients."""
    try:
        yield
    except httpx.TimeoutException as error:
        waits = error.request.extensions["timeout"]
        if isinstance(error, httpx.ConnectTimeout):
            message = f"no connection to {url} within {waits['connect']:g} s"
        else:
            message = f"no answer from {url} within {waits['read']:g} s"
        raise TimedOut(message, url=url, request_id=request.id) from error
    except httpx.ConnectError as error:
        message = f"service not reachable at {url}: {error}"
        raise ConnectionFailed(message, url=url, request_id=request.id, reached=False) from error
    except httpx.InvalidURL as error:  # httpx takes 65,536 characters
        words = {"task": request.path, **request.query}
        field = max(words, key=lambda each: len(words[each]))
        raise InvalidInput(field, f"cannot be part of a URL: {error}") from error
    except UnicodeError as error:  # of the name of a host, which nothing else checks
        raise InvalidInput("url", f"{url}, or a proxy's URL, is invalid: {error}") from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        message = f"connection to {url} was lost: {error or type(error).__name__}"
        raise ConnectionFailed(message, url=url, request_id=request.id, reached=True) from error
    except RuntimeError as error:  # httpx's of a closed client, asyncio's of another event loop
        hint = "a closed client cannot be used, nor an AsyncClient in another loop: open a new one"
        raise ClientError(f"{error}; {hint}") from error


def read(
    response: httpx.Response, shape: Callable[[Document], T], *, also: tuple[int, ...] = ()
) -> T:
    """Return the answer as `shape` reads it.

    Args:
        response: complete, its body read.
        shape: reads the answer's document.
        also: statuses outside 2xx under which an answer of that shape may come.

    Raises:
        ProblemError: the service answered with a problem.
        UnreadableAnswer: the body is not what the contract says.
    """
    try:
        document = _document(response)
        if response.is_success or (response.status_code in also and not _is_problem(response)):
            return shape(document)
        if response.is_error:
            raise _problem(response, document)
    except MalformedError as mismatch:
        raise _unreadable(response, str(mismatch)) from None
    raise _unreadable(response, "neither a result nor a problem")


def _document(response: httpx.Response) -> Document:
    try:
        body = json.loads(response.content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        kind = response.headers.get("Content-Type", "no content type")
        raise MalformedError(f"the body is not JSON ({kind})") from None
    if not isinstance(body, dict):
        raise MalformedError("the body is not a JSON object")
    return Document(body)


def read_batch(cases: int, document: Document) -> tuple[Prediction | ProblemError, ...]:
    """Read the answers to so many cases, each a prediction or a problem. Raises `MalformedError`.

    To be handed to `read`.
    """
    items = document.documents("items")
    if len(items) != cases:
        raise MalformedError(f"there are {len(items)} items, not {cases}")
    return tuple(map(read_item, items))


def read_item(item: Document) -> Prediction | ProblemError:
    """Read the outcome of one case of a list. Raises `MalformedError`."""
    if item.has("answer"):
        return Prediction.read(item.document("answer"))
    found = item.document("problem")
    return problem(found, int(found.number("status")))


def _problem(response: httpx.Response, document: Document) -> ProblemError:
    return problem(document, response.status_code, _request_id(response), retry_after(response))


def problem(
    document: Document, status: int, request_id: str = "", retry_after: float | None = None
) -> ProblemError:
    """Return the error that a problem is. Raises `MalformedError`."""
    kind: type[ProblemError]
    if status in (429, 503):
        kind = TooBusy
    elif status < 500:
        kind = InvalidRequest
    else:
        kind = ServerError
    issues = document.documents("issues") if document.has("issues") else []
    return kind(
        status=status,
        code=document.text("code"),
        detail=document.text("detail" if document.has("detail") else "title"),
        field=document.text("field") if document.has("field") else "",
        seen=document.raw.get("seen"),
        accepted=_words(document, "accepted"),
        request_id=document.text("request_id") if document.has("request_id") else request_id,
        issues=tuple(Issue.read(each) for each in issues),
        retry_after=retry_after,
        raw=document.raw,
    )


def _words(document: Document, name: str) -> str:
    # A list of names reads as well as a sentence.
    if isinstance(document.raw.get(name), list):
        return ", ".join(document.texts(name))
    return document.text(name) if document.has(name) else ""


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds to wait, None if the service named none that can be read.

    Source: RFC 9110, section 10.2.3: the header holds seconds or a date.
    """
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # whose time zone is out of range
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _is_problem(response: httpx.Response) -> bool:
    kind: str = response.headers.get("Content-Type", "")
    return kind.partition(";")[0].strip().lower() == _PROBLEM


def _request_id(response: httpx.Response) -> str:
    sent: str = response.request.headers.get("X-Request-ID", "")
    answered: str = response.headers.get("X-Request-ID", sent)
    return answered


def _unreadable(response: httpx.Response, mismatch: str) -> UnreadableAnswer:
    url = without_user(response.request.url)
    return UnreadableAnswer(
        f"{url} answered {response.status_code}, but not as a LANISTR service does: {mismatch}",
        status=response.status_code,
        request_id=_request_id(response),
        body=response.text[:_EXCERPT],
    )


def without_user(url: httpx.URL) -> str:
    """Return an address for messages, which end in logs: without the password in it."""
    return str(url.copy_with(userinfo=b""))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
