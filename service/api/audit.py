"""No answer of a model leaves before it is on record, where there is an audit log."""

from hashlib import sha256
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.exchange import Exchange, Said, exchange_of
from service.api.problems import respond_to
from service.audit import AuditLog, AuditUnavailableError


class Audit:
    """ASGI middleware. Recorded is every POST to a task that is served, if its key allows it.

    Of a stream, its beginning is recorded, without cases, then each piece: `put_on_record`.

    Args:
        app: what answers.
        log: where it is recorded.
    """

    def __init__(self, app: ASGIApp, log: AuditLog) -> None:
        self.app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on, and put it on record before its answer leaves."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        exchange = exchange_of(request)
        digest = sha256()
        whole, refused, status = False, False, 0

        async def read() -> Message:
            nonlocal whole
            message = await receive()
            if message["type"] == "http.request":
                digest.update(message.get("body", b""))
                whole = not message.get("more_body", False)
            return message

        async def put() -> None:
            await self._log.write(_line(exchange, status, digest.hexdigest() if whole else None))

        async def answer(message: Message) -> None:
            nonlocal refused, status
            if message["type"] == "http.response.start" and exchange.task is not None:
                status = message["status"]
                try:
                    await put()
                except AuditUnavailableError as exc:
                    refused = True
                    await respond_to(request, exc)(scope, receive, send)
            if not refused:
                await send(message)

        exchange.record = put
        await self.app(scope, read, answer)


def _line(exchange: Exchange, status: int, input_sha256: str | None) -> dict[str, Any]:
    return {
        "request": exchange.id,
        "key": exchange.key,
        "task": exchange.task,
        "version": exchange.version,
        "status": status,
        "code": exchange.code,
        "input_sha256": input_sha256,
        "cases": [{"index": index, **_case(said)} for index, said in exchange.said.items()],
    }


def _case(said: Said) -> dict[str, Any]:
    issues = [
        {"code": each["code"], "field": each["field"], "action": each["action"]}
        for each in said["issues"]
    ]
    if "code" in said:
        return {"code": said["code"], "issues": issues}
    if "embedding" in said:
        point = np.asarray(said["embedding"], "<f4").tobytes()
        output: Any = {"embedding_sha256": sha256(point).hexdigest()}
    else:
        output = said["prediction"]
    return {"code": "ok", "used": said["modalities"]["used"], "output": output, "issues": issues}
