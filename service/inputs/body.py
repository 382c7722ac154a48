"""The body of a request, whole or line by line, read no further than the limit."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from lanistr.errors import InputError


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """Return the body.

    Args:
        request: whose body has not been read.
        most: bytes.
        seconds: how long the whole body may take.

    Raises:
        InputError: the body is larger, by its Content-Length or as it comes, or too slow.
        ClientDisconnect: the client left before the end.
    """
    declared = int(request.headers.get("content-length", 0))
    if declared > most:
        raise _too_large(f"{declared:,} bytes", most)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise _too_large(f"at least {len(body):,} bytes", most)
    except TimeoutError:
        raise InputError(
            "the body took too long to arrive",
            code="body_too_slow",
            field="body",
            seen=f"{len(body):,} bytes",
            accepted=f"the whole body within {seconds:g} s",
        ) from None
    return bytes(body)


async def lines(receive: Receive, most: int, seconds: float) -> AsyncIterator[bytes | InputError]:
    """Yield the lines of a body as they arrive; blank ones are passed over.

    Of a line that is too long the error is yielded in its place. What has arrived and is not asked
    for yet is held back by the server, so that a fast sender waits.

    Args:
        receive: of a request whose body has not been read.
        most: bytes of a line.
        seconds: how long nothing may arrive.

    Raises:
        InputError: nothing arrives.
        ClientDisconnect: the client left before the end.
    """
    line, too_long, more = bytearray(), False, True
    while more:
        message = await _next(receive, seconds)
        more = message.get("more_body", False)
        pieces = message.get("body", b"").split(b"\n")
        for k, piece in enumerate(pieces):
            line += piece
            if len(line) > most:
                too_long = True
                line.clear()  # and what else comes of it
            if k + 1 == len(pieces) and more:
                break  # goes on in the next message
            if too_long:
                yield _too_large(f"a line of more than {most:,} bytes", most)
            elif line.strip():
                yield bytes(line)
            line, too_long = bytearray(), False


async def _next(receive: Receive, seconds: float) -> Message:
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
    except TimeoutError:
        raise InputError(
            "no more lines arrived",
            code="body_too_slow",
            field="body",
            seen=f"nothing for {seconds:g} s",
            accepted="more lines, blank lines in the meantime, or the end of the body",
        ) from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def _too_large(seen: str, most: int) -> InputError:
    return InputError(
        "too large",
        code="body_too_large",
        field="body",
        seen=seen,
        accepted=f"at most {most:,} bytes",
    )
