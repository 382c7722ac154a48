"""Everything that goes wrong, as application/problem+json.

One table says which status a code has. Whatever is raised on the way of a request ends here.
Source: RFC 9457.
"""

import logging
import math
import traceback
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lanistr.errors import LanistrError, shorten, unknown_name
from lanistr.issues import InputIssue
from service.api import schemas
from service.api.access import request_id
from service.api.options import Options, accepted
from service.engine.predictor import UnusableRecordError
from service.engine.scheduler import TooBusyError

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[str, tuple[int, str]] = {
    # the request cannot be read
    "not_json": (400, "The body is not JSON"),
    "not_a_form": (400, "The body is not a form"),
    # there is no such thing
    "not_found": (404, "Nothing is served here"),
    "unknown_task": (404, "No such task is served"),
    "unknown_version": (404, "No such version is served"),
    "method_not_allowed": (405, "The method is not allowed here"),
    # over a limit
    "body_too_slow": (408, "The body took too long to arrive"),
    "body_too_large": (413, "The body is too large"),
    "image_too_large": (413, "The image has too many pixels"),
    "too_deep": (413, "The JSON is nested too deep"),
    "too_long": (413, "A text is too long"),
    "too_many": (413, "The record has too many parts of a kind"),
    "unsupported_media_type": (415, "The media type is not read here"),
    # read, but not usable
    "bad_parameter": (422, "A query parameter is not usable"),
    "broken_image": (422, "The image is broken"),
    "not_an_image": (422, "This is not an image"),
    "not_base64": (422, "This is not base64"),
    "not_csv": (422, "This is not CSV"),
    "not_finite": (422, "A number is not finite"),
    "not_text": (422, "This is not text"),
    "nothing_present": (422, "The record has no part"),
    "nothing_usable": (422, "Nothing usable is left of the record"),
    "repeated_field": (422, "A field was sent more than once"),
    "unknown_field": (422, "A field is not known"),
    "unknown_unit": (422, "A unit is not known"),
    "wrong_type": (422, "A value has the wrong type"),
    # ours
    "internal": (500, "The service failed"),
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

_LEFT = 499
"""The client went away; nobody reads the answer. nginx's number, for the log."""

_log = logging.getLogger(__name__)


class ClientLeftError(Exception):
    """The client closed the connection before its answer was ready."""


def install(app: FastAPI) -> None:
    """Let every error of an application end as a problem."""
    app.add_exception_handler(LanistrError, _usage)
    app.add_exception_handler(UnusableRecordError, _unusable)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientLeftError, _left)
    app.add_middleware(_Unexpected)


def to_issues(issues: Iterable[InputIssue]) -> list[schemas.Issue]:
    """Return issues as they stand in an answer."""
    return [
        schemas.Issue(
            code=each.code,
            field=each.field,
            seen=_seen(each.seen),
            action=each.action,
            detail=each.detail,
        )
        for each in issues
    ]


def respond(
    request: Request,
    code: str,
    detail: str,
    *,
    field: str = "",
    seen: Any = None,
    accepted: str = "",
    issues: Iterable[InputIssue] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with a problem; one that the table does not know is an unusable request."""
    status, title = STATUS.get(code, (422, "The request is not usable"))
    problem = schemas.Problem(
        type=f"urn:lanistr:problem:{code}",
        title=title,
        status=status,
        code=code,
        detail=detail,
        field=field or None,
        seen=_seen(seen),
        accepted=accepted or None,
        request_id=request_id(request),
        issues=to_issues(issues),
    )
    return Response(problem.json_bytes(), status, headers, MEDIA_TYPE)


def _seen(value: Any) -> Any:
    """Make a value fit for JSON, which has no NaN and no infinity."""
    short = shorten(value)
    return str(short) if isinstance(short, float) and not math.isfinite(short) else short


# ---- what is raised on the way ------------------------------------------------------------------


async def _usage(request: Request, error: Exception) -> Response:
    assert isinstance(error, LanistrError)
    wait = {"Retry-After": str(error.retry_after)} if isinstance(error, TooBusyError) else None
    return _of(request, error, headers=wait)


async def _unusable(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnusableRecordError)
    return _of(request, error.error, issues=error.issues)


def _of(request: Request, error: LanistrError, **more: Any) -> Response:
    return respond(
        request,
        error.code,
        error.message,
        field=error.field,
        seen=error.seen,
        accepted=error.accepted,
        **more,
    )


async def _parameters(request: Request, error: Exception) -> Response:
    """Only query parameters are declared to FastAPI; bodies are read by `service.inputs`."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    unknown = first["type"] == "extra_forbidden"
    return respond(
        request,
        "bad_parameter",
        "unknown query parameter" if unknown else first["msg"],
        field=name,
        seen=name if unknown else first["input"],
        accepted=unknown_name(name, Options.model_fields) if unknown else accepted(name),
    )


async def _http(request: Request, error: Exception) -> Response:
    """Starlette's own: no such address, wrong method."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return respond(
            request,
            "method_not_allowed",
            f"{request.url.path} does not take {request.method}",
            seen=request.method,
            accepted=allowed,
            headers=error.headers,
        )
    assert error.status_code == HTTPStatus.NOT_FOUND, error
    paths = request.app.openapi()["paths"]
    path = request.url.path
    nearest = unknown_name(path, [*paths, "/docs", "/openapi.json"])
    return respond(request, "not_found", "no such address", seen=path, accepted=nearest)


async def _left(request: Request, error: Exception) -> Response:
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
            request = Request(scope)
            # The message of an exception may quote what was sent; its type and place do not.
            frames = traceback.extract_tb(exc.__traceback__)
            places = " < ".join(f"{each.filename}:{each.lineno}" for each in reversed(frames))
            _log.error("request %s: %s at %s", request_id(request), type(exc).__name__, places)
            if started:
                raise
            detail = "this is a fault of the service; its log says more under the request's id"
            await respond(request, "internal", detail)(scope, receive, send)
