"""Everything that goes wrong, as application/problem+json.

One table says which status a code has. Whatever is raised on the way of a request ends here.
Source: RFC 9457.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lanistr.errors import LanistrError, shorten, unknown_name
from lanistr.issues import InputIssue
from service.api import schemas
from service.api.exchange import exchange_of
from service.api.keys import NoKeyError, TooFastError
from service.engine.admission import TooBusyError
from service.engine.predictor import UnusableRecordError
from service.engine.remote import RunnerLostError
from service.logs import place_of

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[str, tuple[int, str]] = {
    # the request cannot be read
    "not_json": (400, "The body is not valid JSON"),
    "not_a_form": (400, "The body is not a valid form"),
    "not_http": (400, "The request is not valid HTTP"),
    # who asks
    "no_key": (401, "An API key is required"),
    "unknown_key": (401, "The API key is unknown"),
    "out_of_scope": (403, "The API key does not give access to this"),
    # there is no such thing
    "not_found": (404, "There is no such address"),
    "unknown_task": (404, "There is no such task"),
    "unknown_version": (404, "There is no such version"),
    "method_not_allowed": (405, "The method is not allowed"),
    # over a limit
    "body_too_slow": (408, "The body took too long to arrive"),
    "headers_too_slow": (408, "The headers took too long to arrive"),
    "body_too_large": (413, "The body is too large"),
    "image_too_large": (413, "The image has too many pixels"),
    "too_deep": (413, "The JSON is nested too deep"),
    "too_long": (413, "A text is too long"),
    "too_many": (413, "Too many items"),
    "too_many_hours": (413, "The time series is too long"),
    "too_many_tokens": (413, "The record is too large for the model"),
    "unsupported_media_type": (415, "The media type is not supported"),
    # read, but not usable
    "abstained": (422, "The record lacks modalities that the task requires"),
    "bad_parameter": (422, "A parameter is invalid"),
    "broken_image": (422, "The image is damaged"),
    "not_an_image": (422, "The file is not an image"),
    "not_base64": (422, "The image is not valid base64"),
    "not_csv": (422, "The time series is not valid CSV"),
    "not_finite": (422, "A number is not finite"),
    "not_text": (422, "The text is not valid Unicode"),
    "nothing_present": (422, "The record is empty"),
    "nothing_usable": (422, "Nothing in the record can be used"),
    "repeated_field": (422, "A field was sent more than once"),
    "too_far": (422, "A value is too far from the training data"),
    "unknown_field": (422, "A field is unknown"),
    "unknown_unit": (422, "A unit is unknown"),
    "wrong_type": (422, "A value has the wrong type"),
    # later, or less
    "rate_limited": (429, "The key's rate limit is exceeded"),
    "headers_too_large": (431, "The headers are too large"),
    # ours
    "internal": (500, "The service failed"),
    "audit_unavailable": (503, "The audit log cannot be written"),
    "deadline_exceeded": (504, "There was no answer in time"),
    "runner_lost": (503, "The model's process is being restarted"),
    "too_busy": (503, "Too many requests are waiting"),
}
"""Status and title by code."""

IN_DOCUMENT: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "A problem",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
"""For the OpenAPI document, where FastAPI would promise its own form of errors."""

OPEN_PROTOCOL = "/v2"
"""Below it a problem has what the Open Inference Protocol asks of it: its words under `error`."""

_BITS = 53
"""Of a whole number that every reader of JSON takes as it is."""

_LEFT = 499
"""The client went away; nobody reads the answer. nginx's number, for the log."""

_log = logging.getLogger(__name__)


class ClientLeftError(Exception):
    """The client closed the connection before its answer was ready."""


def install(app: FastAPI) -> None:
    """Let every error of an application end as a problem."""
    app.add_exception_handler(LanistrError, _known)
    app.add_exception_handler(UnusableRecordError, _known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientLeftError, _left)
    app.add_middleware(_Unexpected)


def to_issues(issues: Iterable[InputIssue]) -> list[schemas.Issue]:
    """Return issues as they stand in an answer."""
    return [
        {
            "code": each.code,
            "field": each.field,
            "seen": _seen(each.seen),
            "action": each.action,
            "detail": each.detail,
        }
        for each in issues
    ]


def of_error(name: str, error: Exception) -> schemas.Problem:
    """Return the problem that an error of a record is; a fault of ours is logged.

    Args:
        name: id of the request.
        error: whatever was raised on the way of a record.
    """
    if isinstance(error, UnusableRecordError):
        return _of(name, error.error, error.issues)
    if isinstance(error, LanistrError):
        return _of(name, error)
    _log.error("request %s: %s", name, place_of(error))
    detail = "this is a fault of the service, described in its log under the request ID"
    return describe(name, "internal", detail)


def respond_to(request: Request, error: Exception) -> Response:
    """Answer with the problem that an error is."""
    exchange = exchange_of(request)
    problem = of_error(exchange.id, error)
    if isinstance(error, UnusableRecordError):  # of a list, each case keeps its own for itself
        exchange.said[0] = problem
    return respond(request, problem, _headers_of(error))


def _headers_of(error: Exception) -> Mapping[str, str]:
    """Return what stands in the head of an answer to an error."""
    if isinstance(error, TooBusyError | TooFastError | RunnerLostError):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, NoKeyError):
        unknown = ', error="invalid_token"' if error.code == "unknown_key" else ""
        return {"WWW-Authenticate": f'Bearer realm="lanistr"{unknown}'}
    return {}


def respond(
    request: Request, problem: schemas.Problem, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with a problem."""
    exchange_of(request).code = problem["code"] if problem["code"] in STATUS else "other"
    said: Mapping[str, Any] = problem
    if f"{request.scope['path']}/".startswith(f"{OPEN_PROTOCOL}/"):
        place = f"{problem['field']}: " if problem["field"] else ""
        said = {**problem, "error": place + problem["detail"]}
    return Response(schemas.encode(said), problem["status"], headers, MEDIA_TYPE)


def _of(name: str, error: LanistrError, issues: Iterable[InputIssue] = ()) -> schemas.Problem:
    return describe(
        name,
        error.code,
        error.message,
        field=error.field,
        seen=error.seen,
        accepted=error.accepted,
        issues=issues,
    )


def describe(
    name: str,
    code: str,
    detail: str,
    *,
    field: str = "",
    seen: Any = None,
    accepted: str = "",
    issues: Iterable[InputIssue] = (),
) -> schemas.Problem:
    """Describe a problem; one that the table does not know is an unusable request."""
    status, title = STATUS.get(code, (422, "The request cannot be processed"))
    return {
        "type": f"urn:lanistr:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "field": _unicode(field) or None,
        "seen": _seen(seen),
        "accepted": accepted or None,
        "request_id": name,
        "issues": to_issues(issues),
    }


def _seen(value: Any) -> Any:
    """Make a value fit for JSON, which has no NaN, no infinity, and few know of longer numbers."""
    short = shorten(value)
    if isinstance(short, float):
        return short if math.isfinite(short) else str(short)
    if isinstance(short, str):
        return _unicode(short)
    return str(short) if isinstance(short, int) and short.bit_length() > _BITS else short


def _unicode(text: str) -> str:
    """Return a text without halves of surrogates, which JSON can name and nothing can encode."""
    return text.encode(errors="replace").decode()


# ---- what is raised on the way ------------------------------------------------------------------


async def _known(request: Request, error: Exception) -> Response:
    return respond_to(request, error)


async def _http(request: Request, error: Exception) -> Response:
    """Starlette's own: no such address, wrong method."""
    assert isinstance(error, HTTPException)
    name, path = exchange_of(request).id, request.url.path
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        problem = describe(
            name,
            "method_not_allowed",
            f"{path} does not accept {request.method}",
            seen=request.method,
            accepted=allowed,
        )
        return respond(request, problem, error.headers)
    assert error.status_code == HTTPStatus.NOT_FOUND, error
    paths = request.app.openapi()["paths"]
    nearest = unknown_name(path, [*paths, "/docs", "/openapi.json"])
    problem = describe(name, "not_found", "no such address", seen=path, accepted=nearest)
    return respond(request, problem)


async def _left(request: Request, error: Exception) -> Response:
    exchange_of(request).code = "client_left"
    return Response(status_code=_LEFT)


class _Unexpected:
    """ASGI middleware around everything else: a fault of ours is logged without its payload."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except Exception as exc:
            answered = respond_to(Request(scope), exc)
            if started:
                raise
            await answered(scope, receive, send)
