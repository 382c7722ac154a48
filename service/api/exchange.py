"""What is known of one exchange by now; the log, the metrics and the audit read it here."""

from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from lanistr.bundle import Bundle
from service.api.trace import Trace
from service.engine.predictor import Predicted


@dataclass(slots=True)
class Exchange:
    """One request and its answer. Nothing of a payload stands here but what was predicted.

    Attributes:
        id: of the request.
        trace: the client's, if it sent one.
        key: name of the key that the client showed; None without keys.
        task: that was asked for and may be answered; None where there is none.
        code: of the problem that it ended in, or "ok".
        cases: what was predicted, in order, with the bundle that did.
    """

    id: str
    trace: Trace | None = None
    key: str | None = None
    task: str | None = None
    code: str = "ok"
    cases: list[tuple[Bundle, Predicted]] = field(default_factory=list)

    @property
    def parts(self) -> str:
        """Which parts were used: "text+image"; "several" for many cases, "" for none."""
        if len(self.cases) != 1:
            return "several" if self.cases else ""
        return "+".join(self.cases[0][1].used)


def exchange_of(request: HTTPConnection) -> Exchange:
    """Return the exchange that a request is of."""
    found: Exchange = request.state.exchange
    return found
