"""Nobody waits longer than they asked to: past its deadline a request is dropped, with a 504.

What still waits in the queue is then never run. A deadline is until the answer begins; a stream
has one until its first line has come.
"""

import asyncio
import math
from contextlib import suppress

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lanistr.errors import InputError, LanistrError
from service.api.exchange import header
from service.api.problems import respond_to

HEADER = "X-Request-Timeout-Ms"
_NAME = HEADER.lower().encode()


class DeadlineError(LanistrError):
    """An answer would have come too late."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "no answer in time",
            code="deadline_exceeded",
            field=HEADER,
            seen=f"{1e3 * seconds:g} ms",
            accepted="a longer time-out, or a retry when the service is less busy",
        )


class Deadline:
    """ASGI middleware.

    Args:
        app: what answers.
        longest: seconds that a request may take; a client may ask for fewer.
    """

    def __init__(self, app: ASGIApp, longest: float) -> None:
        self.app = app
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on, if it ends in time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seconds = self._longest
        with suppress(InputError):  # `check_deadline` reports it, once the key is checked
            seconds = min(seconds, _asked(scope))
        deadline = asyncio.timeout(seconds)

        async def answer(message: Message) -> None:
            # It may have passed already, just when the client left; then there is none to lift.
            if message["type"] == "http.response.start" and not deadline.expired():
                deadline.reschedule(None)
            await send(message)

        try:
            async with deadline:
                await self.app(scope, receive, answer)
        except TimeoutError:
            if not deadline.expired():
                raise
            await respond_to(Request(scope), DeadlineError(seconds))(scope, receive, send)


async def check_deadline(request: Request) -> None:
    """Check that a request's deadline, if it has one, is a time; a dependency of every router.

    Raises:
        InputError: it is no number of milliseconds.
    """
    _asked(request.scope)


def _asked(scope: Scope) -> float:
    """Return how many seconds the client gives.

    Raises:
        InputError: it is no number of milliseconds.
    """
    said = header(scope, _NAME)
    if said is None:
        return math.inf
    if not (said.isascii() and said.isdecimal() and int(said[:12]) > 0):
        raise InputError(
            "not a number of milliseconds",
            code="bad_parameter",
            field=HEADER,
            seen=said,
            accepted="a whole number of milliseconds, above 0",
        )
    return int(said[:12]) / 1e3
