"""The other end of an exchange: what it sends, and whether it is still there."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from service.api.problems import ClientLeftError
from service.inputs.body import read_body
from service.settings import Settings

T = TypeVar("T")

LEFT = "left"
"""Key, in the state of an exchange, of the event that the server sets when the client leaves."""


async def receive_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        InputError: it is too large or too slow.
        ClientLeftError: the client left before its end.
    """
    settings: Settings = request.app.state.settings
    try:
        return await read_body(request, settings.body_bytes, settings.body_seconds)
    except ClientDisconnect:
        raise ClientLeftError from None


def leaving_of(scope: Scope) -> Callable[[], Awaitable[object]]:
    """Return what waits until the client leaves, also while its body is not read.

    With a server that sets no such event, it waits for ever.
    """
    left: asyncio.Event = scope["state"].get(LEFT) or asyncio.Event()
    return left.wait


async def while_connected(
    leaves: Callable[[], Awaitable[object]], work: Coroutine[Any, Any, T]
) -> T:
    """Wait for the work, or drop it when the client leaves.

    Args:
        leaves: waits until it does: `leaving_of` an exchange, or its `receive` once its body is
            read.
        work: what to do meanwhile.

    Raises:
        ClientLeftError: the client left.
    """
    working = asyncio.current_task()
    assert working is not None
    left = done = False

    def leave(_: object) -> None:
        nonlocal left
        if not done:  # it may leave just when the work is done, and this be called after
            left = True
            working.cancel()

    leaving = asyncio.ensure_future(leaves())
    leaving.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not left:
            raise
        raise ClientLeftError from None
    finally:
        done = True
        if left:  # also if the work noticed it itself in the same moment
            working.uncancel()
        leaving.remove_done_callback(leave)
        leaving.cancel()
