"""The other end of an exchange: what it sends, and whether it is still there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from service.api.problems import ClientLeftError
from service.inputs.body import read_body
from service.settings import Settings

T = TypeVar("T")


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


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Wait for the work, or drop it when the client leaves.

    Args:
        receive: of an exchange whose body is read: only leaving is left to it.
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

    leaving = asyncio.ensure_future(receive())
    leaving.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not left:
            raise
        working.uncancel()
        raise ClientLeftError from None
    finally:
        done = True
        leaving.remove_done_callback(leave)
        leaving.cancel()
