"""Fetching many addresses politely: few at a time from one host, no faster than a rate, patient.

What an address leads to is another's word: only http and https are spoken, a name that leads into
a private network is not followed, no more bytes are taken than a picture may have, and nobody is
waited for without end.
"""

import asyncio
import ipaddress
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, Self

import httpx
from pydantic import Field

from lanistr import __version__
from lanistr.schema import Schema


class FetchOptions(Schema):
    """How addresses are fetched. Times in seconds.

    Attributes:
        at_once: fetches at a time, over all hosts.
        per_host: fetches at a time from one host.
        rate: requests a second to one host, at most.
        tries: how often an address is asked for before it is given up.
        connect_timeout: for a connection.
        read_timeout: between two pieces of an answer.
        total_timeout: for a whole answer; who sends a byte now and then is not waited for.
        back_off: wait before the second try; doubled before each further one, drawn between half
            and all of it.
        longest_wait: a host that asks (Retry-After) to be left alone for longer is left alone.
        largest: bytes of the largest picture.
        redirects: how many are followed.
        user_agent: how we introduce ourselves.
        allow_private: follow names into private networks too.
    """

    at_once: int = Field(default=16, ge=1)
    per_host: int = Field(default=4, ge=1)
    rate: float = Field(default=10.0, gt=0)
    tries: int = Field(default=4, ge=1)
    connect_timeout: float = Field(default=10.0, gt=0)
    read_timeout: float = Field(default=30.0, gt=0)
    total_timeout: float = Field(default=120.0, gt=0)
    back_off: float = Field(default=1.0, ge=0)
    longest_wait: float = Field(default=300.0, ge=0)
    largest: int = Field(default=20_000_000, ge=1)
    redirects: int = Field(default=5, ge=0)
    user_agent: str = f"lanistr/{__version__} (training.prepare amazon-images)"
    allow_private: bool = False


Again = Literal["soon", "next run", "never"]


class FetchError(Exception):
    """An address did not give what it should.

    Attributes:
        reason: stable short name.
        again: when it is worth asking again.
        wait: seconds that the host asks to be left alone, or None.
    """

    def __init__(
        self, reason: str, detail: str, *, again: Again = "soon", wait: float | None = None
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.again = again
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an address: its bytes, or why there are none.

    Attributes:
        body: the bytes; None if it failed.
        kind: what `check` said that they are; empty if it failed.
        error: why it failed; None if it did not.
        tries: how often it was asked for.
    """

    body: bytes | None
    kind: str
    error: FetchError | None
    tries: int


class Fetcher:
    """Fetches addresses with one client and one gate a host."""

    def __init__(self, options: FetchOptions, check: Callable[[str, bytes], str]) -> None:
        """Make one; it is opened by `async with`.

        Args:
            options: how to fetch.
            check: says what an address's bytes are, or raises `FetchError` if they are not what is
                wanted; runs in a thread.
        """
        self._options = options
        self._check = check
        self._gates: dict[str, _Gate] = defaultdict(lambda: _Gate(options))
        limits = httpx.Limits(max_connections=options.at_once)
        inner = httpx.AsyncHTTPTransport(limits=limits)
        self._client = httpx.AsyncClient(
            transport=inner if options.allow_private else PublicOnly(inner),
            timeout=httpx.Timeout(options.read_timeout, connect=options.connect_timeout),
            # As the bytes are: what is compressed could grow without bound when it is unpacked.
            headers={"User-Agent": options.user_agent, "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def fetch_all(
        self, addresses: Iterable[str], done: Callable[[str, Answer], None]
    ) -> None:
        """Fetch addresses and hand each answer over as it comes, in no order."""
        waiting = iter(addresses)

        async def work() -> None:
            for address in waiting:
                done(address, await self.fetch(address))

        workers = [asyncio.create_task(work()) for _ in range(self._options.at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def fetch(self, address: str) -> Answer:
        """Ask for an address until it answers, or until that is hopeless."""
        tried = 0
        while True:
            tried += 1
            try:
                async with asyncio.timeout(None) as clock:
                    body = await self._ask(address, clock)
                kind = await asyncio.to_thread(self._check, address, body)
            except TimeoutError:
                error = FetchError(
                    "timeout", f"no complete response in {self._options.total_timeout:g} s"
                )
            except FetchError as exc:
                error = exc
            else:
                return Answer(body, kind, None, tried)
            if error.again != "soon" or tried >= self._options.tries:
                return Answer(None, "", error, tried)
            if error.wait is None:
                most = self._options.back_off * 2 ** (tried - 1)
                await asyncio.sleep(random.uniform(most / 2, most))

    async def _ask(self, address: str, clock: asyncio.Timeout) -> bytes:
        """Ask once, and on along redirects.

        Raises:
            FetchError: there is no picture there, now or ever.
        """
        request = self._request(address)
        for _ in range(self._options.redirects + 1):
            gate = self._gates[request.url.host]
            clock.reschedule(None)
            async with gate.turn():
                clock.reschedule(asyncio.get_running_loop().time() + self._options.total_timeout)
                try:
                    response = await self._client.send(request, stream=True)
                    try:
                        if response.next_request is None:
                            return await self._body(response, gate)
                        request = self._request(str(response.next_request.url))
                    finally:
                        await response.aclose()
                except httpx.TimeoutException as exc:
                    raise FetchError("timeout", f"{type(exc).__name__}: {exc}") from exc
                except httpx.HTTPError as exc:
                    raise FetchError("connection", f"{type(exc).__name__}: {exc}") from exc
        raise FetchError(
            "redirects", f"more than {self._options.redirects} redirects", again="never"
        )

    def _request(self, address: str) -> httpx.Request:
        try:
            request = self._client.build_request("GET", address)
        except (httpx.InvalidURL, ValueError, TypeError) as exc:
            raise FetchError("bad_address", f"not a URL: {exc}", again="never") from exc
        if request.url.scheme not in ("http", "https") or not request.url.host:
            raise FetchError("bad_address", "not an http or https URL", again="never")
        return request

    async def _body(self, response: httpx.Response, gate: "_Gate") -> bytes:
        """Read an answer's bytes, as long as they may be a picture's."""
        status, headers = response.status_code, response.headers
        if status in (408, 425, 429) or status >= 500:
            wait = _seconds(headers.get("Retry-After"))
            if wait is not None or status in (429, 503):
                gate.leave_alone(self._options.back_off if wait is None else wait)
            raise FetchError(f"http_{status}", response.reason_phrase, wait=wait)
        if status != 200:
            again: Again = "never" if status in (404, 410) else "next run"
            raise FetchError(f"http_{status}", response.reason_phrase, again=again)
        largest = self._options.largest
        said = headers.get("Content-Length", "")
        if said.isdecimal() and int(said[:19]) > largest:
            raise FetchError("too_large", f"{said} bytes; at most {largest}", again="never")
        body = bytearray()
        async for piece in response.aiter_raw(1 << 16):
            body += piece
            if len(body) > largest:
                raise FetchError("too_large", f"more than {largest} bytes", again="never")
        return bytes(body)


class PublicOnly(httpx.AsyncBaseTransport):
    """Connects to public addresses only, and to the very one that was looked at.

    The name is resolved here and the connection made to the number, so that a name cannot lead
    elsewhere the second time it is asked for. Certificates are held against the name.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Resolve, check, and pass on."""
        host = request.url.host
        number = await _public_number(host)
        return await self._inner.handle_async_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host=number),
                headers=request.headers,  # its Host is the name
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


async def _public_number(host: str) -> str:
    """Return an address of a host.

    Raises:
        FetchError: it has none, or one that is not public.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as exc:
        raise FetchError("no_such_host", f"{host}: {exc.strerror}") from exc
    except UnicodeError as exc:
        raise FetchError("bad_address", f"{host}: not a host name", again="never") from exc
    numbers = [str(each[4][0]).partition("%")[0] for each in found]
    for number in numbers:
        parsed = ipaddress.ip_address(number)
        if not (getattr(parsed, "ipv4_mapped", None) or parsed).is_global:
            raise FetchError(
                "private_address",
                f"{host} is {number}, in a private network (--allow-private-addresses)",
                again="next run",
            )
    return numbers[0]


class _Gate:
    """Lets requests to one host through: a few at a time, not too fast, and not while it rests."""

    def __init__(self, options: FetchOptions) -> None:
        self._places = asyncio.Semaphore(options.per_host)
        self._interval = 1 / options.rate
        self._longest_wait = options.longest_wait
        self._next = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place and the time.

        Raises:
            FetchError: the host rests for longer than we wait.
        """
        async with self._places:
            while (wait := self._next - time.monotonic()) > 0:
                if wait > self._longest_wait + self._interval:
                    raise FetchError(
                        "host_rests", f"asks to wait for {wait:.0f} s", again="next run"
                    )
                await asyncio.sleep(wait)
            self._next = time.monotonic() + self._interval
            yield

    def leave_alone(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._next = max(self._next, time.monotonic() + seconds)


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header, seconds or a date; None where there is none."""
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
