"""HTTP/1.1 as uvicorn speaks it, with limits on time and size.

uvicorn waits for the headers of a request as long as it takes, and takes as many as come: a few
thousand connections that send a letter a minute, or one that never stops, would keep others out.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.api.connection import LEFT
from service.api.exchange import REFUSED
from service.api.problems import MEDIA_TYPE, STATUS, describe
from service.api.schemas import encode
from service.security import HEADERS

_OFFERS = frozenset((b"upgrade", b"http2-settings"))
"""Headers that offer to switch to another protocol."""


class _Parser(httptools.HttpRequestParser):
    """httptools' parser, which stops behind a request that offers another protocol.

    Attributes:
        rest: what came behind such a request's head.
    """

    rest = b""

    def __init__(self, protocol: "PatientProtocol") -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it

    def feed_data(self, data: Any) -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            (end,) = exc.args
            self.rest = data[end:]


class PatientProtocol(HttpToolsProtocol):
    """One connection. See `bounded` for the limits."""

    header_seconds: float
    header_bytes: int
    drain_seconds: float
    tell: Callable[[int, str], None]

    _timer: asyncio.TimerHandle | None = None
    _in_message = False
    _in_headers = False
    _mixed = False
    _taken = 0
    _last_words = b""
    _refusal = (0, "")
    _declined = b""
    _parser: _Parser
    _left: asyncio.Event
    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.parser = self._parser = _Parser(self)
        self._left = asyncio.Event()
        self._wait(self.header_seconds)

    def data_received(self, data: bytes) -> None:
        """Take what came; all that is not body, headers and trailers, is limited in size."""
        if self._last_words:
            return
        self._mixed = False
        super().data_received(data)
        while self._declined and not self._last_words:
            data, self._declined = self._declined + self._parser.rest, b""
            self.parser = self._parser = _Parser(self)
            super().data_received(data)
        # Else most of it may have been a body, or the request before.
        if self._in_message and not self._mixed:
            self._taken += len(data)
            if self._taken > self.header_bytes:
                self._refuse_large()
        between = self.cycle is None or self.cycle.response_complete
        if between and self.timeout_keep_alive_task is None:
            # The rest of a refused body is read: a client still sending would never read why.
            refused = self._in_message and not self._in_headers
            self._wait(self.drain_seconds if refused else self.header_seconds)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_message = self._in_headers = True
        self._taken = 0
        super().on_message_begin()
        self.scope["state"][LEFT] = self._left

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header without trailing blanks, which the parser leaves there.

        Trailers are dropped: nothing reads them. Source: RFC 9110, sections 5.5 and 6.5.1.
        """
        if self._in_headers:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Stop waiting: from here on the body's own limit holds."""
        # Those that came in one piece with their end have not been counted yet.
        separators = len(b": \r\n")
        size = sum(len(name) + len(value) + separators for name, value in self.headers)
        if len(self.url) + size > self.header_bytes:
            self._refuse_large()
            raise ValueError("too large")  # by which the parser stops
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._declined = self._without_offers()
            return
        super().on_headers_complete()
        self._in_headers = False
        self._count_anew()
        self._stop()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, which has a limit of its own."""
        self._count_anew()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop waiting for the rest of a refused body."""
        if self._declined:
            return
        self._in_message = False
        self._mixed = True
        self._stop()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request; after the last, say what is wrong with what followed it."""
        last = not self.pipeline
        super().on_response_complete()
        if last and self._last_words:
            self._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and notify the request under way, even if others came behind it."""
        self._stop()
        self._left.set()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say that this is not HTTP."""
        self._refuse("not_http", "HTTP/1.1")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle  # uvicorn itself knows only the newest
        if cycle.scope["http_version"] == "1.0":
            app = _in_one_piece(app, cycle)
        super()._start_asgi_task(cycle, app)

    def _without_offers(self) -> bytes:
        """Return a request's head without the offer of another protocol, which a server may ignore.

        Else its body would be taken for the next request. Source: RFC 9110, section 7.8.
        """
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self._version())]
        for name, value in self.headers:
            if name == b"connection":
                options = (each.strip() for each in value.split(b","))
                value = b", ".join(each for each in options if each.lower() not in _OFFERS)
            if name not in _OFFERS:
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def _count_anew(self) -> None:
        self._taken, self._mixed = 0, True

    def _version(self) -> bytes:
        version: str = self.parser.get_http_version()
        return version.encode()

    def _wait(self, seconds: float) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(seconds, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if self._in_headers:
            self._refuse(
                "headers_too_slow", f"the complete headers within {self.header_seconds:g} s"
            )
        else:
            self.transport.close()

    def _refuse_large(self) -> None:
        self._refuse("headers_too_large", f"at most {self.header_bytes:,} bytes")

    def _refuse(self, code: str, accepted: str) -> None:
        """Read no more; answer without a request, when it is its turn, and hang up."""
        self._stop()
        if self.transport.is_closing() or self._last_words:
            return
        status, title = STATUS[code]
        problem = describe("", code, title, accepted=accepted)
        body = encode(problem)
        headers: Mapping[str, str] = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
            **HEADERS,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._refusal = status, code
        self._last_words = STATUS_LINE[status] + head.encode() + b"\r\n" + body
        if self._in_message and not self._in_headers:  # the newest request's body is wrong
            if self.pipeline:
                self.pipeline.popleft()
            elif self.cycle.response_started:  # whose client would take this for part of the answer
                self.transport.close()
            else:
                self.cycle.scope["state"][REFUSED] = self._refusal  # which it then reports
                self._say_last_words()
        elif self.cycle is None or self.cycle.response_complete:
            self._hang_up()

    def _hang_up(self) -> None:
        if not self.transport.is_closing():
            self.tell(*self._refusal)
            self._say_last_words()

    def _say_last_words(self) -> None:
        self.transport.write(self._last_words)
        self.transport.close()


def _in_one_piece(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """Return an application whose answers of unknown length end with the connection.

    uvicorn would send them in chunks, which HTTP/1.0 does not know. Source: RFC 9112, section 6.1.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        endless = False

        async def plain(message: Message) -> None:
            nonlocal endless
            if message["type"] == "http.response.start":
                names = (name.lower() for name, _ in message["headers"])
                endless = b"content-length" not in names
            if endless:
                cycle.chunked_encoding = False
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, plain)

    return answer


def bounded(
    seconds: float, most: int, drain: float, told: Callable[[int, str], None]
) -> type[PatientProtocol]:
    """Return the protocol with limits.

    Args:
        seconds: how long all headers of a request may take, from the connection or from the first
            byte after the request before.
        most: bytes of all headers of a request, roughly; as many again of what follows its body, or
            stands between two pieces of it.
        drain: seconds for which the rest of a body is taken whose request was refused.
        told: called with status and code of an answer that is given here, without a request.
    """

    class Bounded(PatientProtocol):
        header_seconds = seconds
        header_bytes = most
        drain_seconds = drain
        tell = staticmethod(told)

    return Bounded
