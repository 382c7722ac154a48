"""Every exchange gets an id and one line in the log: what was asked, what was answered, how long.

The line holds no query, no header and no body: they may be about a patient.
"""

import logging
import re
import secrets
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import trace
from service.api.exchange import REFUSED, Exchange, header
from service.api.trace import Trace
from service.metrics import Metrics
from service.telemetry import hide_query

HEADER = "X-Request-ID"
_NAME, _TRACE = HEADER.lower().encode(), trace.HEADER.encode()
_VALID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_log = logging.getLogger(__name__)


class Access:
    """ASGI middleware. An id that the client sent is kept if it is one, and sent back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = header(scope, _NAME) or ""
        exchange = Exchange(
            sent if _VALID.fullmatch(sent) else secrets.token_hex(16),
            scope["app"].state.metrics,
            Trace.below([each.decode("latin-1") for n, each in scope["headers"] if n == _TRACE]),
        )
        scope.setdefault("state", {})["exchange"] = exchange
        if scope["query_string"]:
            hide_query()
        started, status = perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                exchange.count()  # not before: it is on record by now, if it must be
                said = [(_NAME, exchange.id.encode())]
                if exchange.trace is not None:
                    said.append((_TRACE, str(exchange.trace).encode()))
                message = {**message, "headers": [*message["headers"], *said]}
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            _tell(scope, exchange, status, perf_counter() - started)


def _tell(scope: Scope, exchange: Exchange, status: int, seconds: float) -> None:
    """Count the exchange and write its line, with the facts for `service.logs.JsonLines`."""
    if refused := scope["state"].get(REFUSED):  # what the application says then, nobody hears
        status, exchange.code = refused
    exchange.metrics.exchanged(exchange.task or "", status, exchange.code, exchange.parts, seconds)
    method, path, ms = scope["method"], scope["path"], round(1e3 * seconds, 1)
    facts = {"method": method, "path": path, "status": status, "ms": ms, "request": exchange.id}
    line = f"{method} {path!r} {status} {ms} ms request {exchange.id}"
    more = {
        "key": exchange.key,
        "code": None if exchange.code == "ok" else exchange.code,
        "trace": exchange.trace and exchange.trace.id,
    }
    for name, each in more.items():
        if each is not None:
            facts[name] = each
            line += f" {name} {each}"
    _log.info(line, extra={"facts": facts})


def record_rejection(metrics: Metrics, status: int, code: str) -> None:
    """Count and log an answer that was given before there was a request; no more is known of it."""
    metrics.exchanged("", status, code, "", 0.0)
    line = f"rejected before it became a request: {status} code {code}"
    _log.info(line, extra={"facts": {"status": status, "code": code}})
