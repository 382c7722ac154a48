"""The body of a request, read no further than the limit."""

import asyncio

from starlette.requests import Request

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
                    raise _too_large(f"{len(body):,} bytes and more", most)
    except TimeoutError:
        raise InputError(
            "the body took too long to arrive",
            code="body_too_slow",
            field="body",
            seen=f"{len(body):,} bytes",
            accepted=f"the whole body within {seconds:g} s",
        ) from None
    return bytes(body)


def _too_large(seen: str, most: int) -> InputError:
    return InputError(
        "the body is too large",
        code="body_too_large",
        field="body",
        seen=seen,
        accepted=f"at most {most:,} bytes",
    )
