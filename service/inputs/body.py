"""The body of a request, read no further than the limit."""

from starlette.requests import Request

from lanistr.errors import InputError


async def read_body(request: Request, most: int) -> bytes:
    """Return the body.

    Args:
        request: whose body has not been read.
        most: bytes.

    Raises:
        InputError: the body is larger, by its Content-Length or as it comes.
        ClientDisconnect: the client left before the end.
    """
    too_large = InputError(
        "the body is too large", code="body_too_large", accepted=f"at most {most:,} bytes"
    )
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise too_large
    return bytes(body)
