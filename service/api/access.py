"""Every exchange gets an id and one line in the log: what was asked, what was answered, how long.

The line holds no query, no header and no body: they may be about a patient.
"""

import logging
import re
from time import perf_counter
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
_VALID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_log = logging.getLogger(__name__)


def request_id(request: Request) -> str:
    """Return the id of the exchange."""
    found: str = request.state.request_id
    return found


class Access:
    """ASGI middleware. An id that the client sent is kept if it is one, and sent back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(HEADER, "")
        name = sent if _VALID.fullmatch(sent) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = name
        started, status = perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            milliseconds = 1e3 * (perf_counter() - started)
            method, path = scope["method"], scope["path"]
            _log.info("%s %r %d %.1f ms request %s", method, path, status, milliseconds, name)
