"""Headers that keep a browser from misusing an answer.

A route that sets one of them itself is left alone: a page needs a policy of its own.

Source: the OWASP REST security and HTTP headers cheat sheets.
"""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""For every answer: data, which load nothing and stand in no frame."""

# Swagger and ReDoc start from a script in the page and style themselves as they go.
_DOCUMENTATION = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


_USUAL = _encoded(HEADERS)
_ITS_OWN = _encoded({**HEADERS, "Content-Security-Policy": _DOCUMENTATION})
_BY_PATH = {"/docs": _ITS_OWN, "/redoc": _ITS_OWN}
_NOT_STORED = _encoded({"Cache-Control": "no-store"})


class Security:
    """ASGI middleware that adds the headers; an answer in JSON is not to be stored either."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = dict(message["headers"])
                wanted = _BY_PATH.get(scope["path"], _USUAL)
                if b"json" in said.get(b"content-type", b""):
                    wanted = [*_NOT_STORED, *wanted]
                missing = [each for each in wanted if each[0] not in said]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        await self.app(scope, receive, answer)
