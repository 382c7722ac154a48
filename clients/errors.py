"""Every error that the client raises on purpose.

    ClientError               anything between the caller and a prediction
    ├── InvalidInput          refused here, before anything was sent
    ├── ConnectionFailed      no connection, or it broke off before the answer was complete
    ├── TimedOut              the service did not answer in time
    ├── ProblemError          the service answered with a problem (application/problem+json)
    │   ├── InvalidRequest    4xx: mend the request, do not repeat it
    │   ├── TooBusy           429 or 503: repeat it later, after `retry_after` seconds
    │   └── ServerError       any other 5xx
    └── UnreadableAnswer      the answer is not what the contract says: a proxy's page, cut JSON

Errors print as one line.
"""
# ruff: noqa: N818 - the names say what happened; an Error at the end of each would say nothing.

import copyreg
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clients.answers import Issue

_LONGEST = 400
"""Characters of a message: what stands in a cell may be a whole picture."""


class ClientError(Exception):
    """Anything between the caller and a prediction."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception would be made of the message alone, and a pool of processes dies of that.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InvalidInput(ClientError):
    """A value that cannot be sent; nothing has left this machine.

    Attributes:
        field: path of the value, such as ``timeseries[3].heart_rate``.
        message: what is wrong with it, cut short in the middle.
        accepted: what would have been taken, in words.
    """

    def __init__(self, field: str, message: str, *, accepted: str = "") -> None:
        self.field = field
        self.message = message = _shortened(message)
        self.accepted = accepted
        super().__init__(f"{field}: {message}" + (f"; accepted: {accepted}" if accepted else ""))

    def within(self, place: str) -> "InvalidInput":
        """Return the same of a value that stands in something larger."""
        return InvalidInput(f"{place}.{self.field}", self.message, accepted=self.accepted)


class ConnectionFailed(ClientError):
    """No connection, or one that broke off before the answer was complete.

    Attributes:
        url: the address asked.
        request_id: the id that the request carried.
        reached: False when no connection was made, so that the service has certainly not seen the
            request; True when it may have.
    """

    def __init__(self, message: str, *, url: str, request_id: str, reached: bool) -> None:
        self.url = url
        self.request_id = request_id
        self.reached = reached
        super().__init__(message)


class TimedOut(ClientError):
    """The service did not answer in time; it may still be at work on the request.

    Attributes:
        url: the address asked.
        request_id: the id that the request carried.
    """

    def __init__(self, message: str, *, url: str, request_id: str) -> None:
        self.url = url
        self.request_id = request_id
        super().__init__(message)


class ProblemError(ClientError):
    """The service answered with a problem.

    Attributes:
        status: HTTP status.
        code: stable short name of the kind of problem, for programs.
        detail: the problem in a sentence.
        field: path of the offending value in the request; empty if none.
        seen: what stood there, shortened by the service; None when nothing did.
        accepted: what would have been taken, in words; empty if not said.
        request_id: under which the service logged the request.
        issues: what else the service noticed in the request.
        retry_after: seconds to wait before asking again; None when the service did not say.
        raw: the problem as it came.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: str,
        field: str = "",
        seen: Any = None,
        accepted: str = "",
        request_id: str = "",
        issues: "tuple[Issue, ...]" = (),
        retry_after: float | None = None,
        raw: dict[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.seen = seen
        self.accepted = accepted
        self.request_id = request_id
        self.issues = issues
        self.retry_after = retry_after
        self.raw = raw or {}
        request = f", request {self.request_id}" if self.request_id else ""
        later = "" if retry_after is None else f"; try again in {retry_after:g} s"
        super().__init__(f"{self.reason}{later} ({self.status} {self.code}{request})")

    @property
    def reason(self) -> str:
        """What went wrong, in one line that is the same whenever it does."""
        line = f"{self.field}: {self.detail}" if self.field else self.detail
        if self.seen is not None:
            line += f"; seen {self.seen!r}"
        if self.accepted:
            line += f"; accepted: {self.accepted}"
        return line


class InvalidRequest(ProblemError):
    """4xx: the request must be mended; repeating it as it is cannot help."""


class TooBusy(ProblemError):
    """429 or 503: the service cannot take the request now; `retry_after` says when to ask again."""


class ServerError(ProblemError):
    """5xx: the service failed at a request that may be right."""


class UnreadableAnswer(ClientError):
    """An answer that is not what the contract says.

    Attributes:
        status: HTTP status.
        request_id: from the answer's headers, or the one that the request carried.
        body: the first characters of what came instead.
    """

    def __init__(self, message: str, *, status: int, request_id: str, body: str) -> None:
        self.status = status
        self.request_id = request_id
        self.body = body
        super().__init__(message)


def _shortened(message: str) -> str:
    """Keep both ends: what stands there, and what is wrong with it."""
    half = _LONGEST // 2
    return message if len(message) <= _LONGEST else f"{message[:half]}…{message[-half:]}"
