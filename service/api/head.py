"""HEAD is answered wherever GET is: monitors and balancers ask so whether a service is there.

Source: RFC 9110, sections 9.1 and 9.3.2.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class Head:
    """ASGI middleware: an answer is found as for GET; the server leaves its body away."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on."""
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)
