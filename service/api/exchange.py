"""What is known of one exchange by now; the log, the metrics and the audit read it here."""

from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from service.api.schemas import PredictionAnswer
from service.api.trace import Trace
from service.metrics import Metrics


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        id: of the request.
        metrics: of the service.
        trace: the client's, if it sent one.
        key: name of the key that the client showed; None without keys.
        task: that was asked for and may be answered; None where there is none.
        code: of the problem that it ended in, or "ok".
        answers: to each case, in order.
    """

    id: str
    metrics: Metrics
    trace: Trace | None = None
    key: str | None = None
    task: str | None = None
    code: str = "ok"
    answers: list[PredictionAnswer] = field(default_factory=list)

    @property
    def parts(self) -> str:
        """Which parts were used: "text+image"; "several" for many cases, "" for none."""
        if len(self.answers) != 1:
            return "several" if self.answers else ""
        return "+".join(self.answers[0].modalities.used)

    def add(self, answer: PredictionAnswer) -> None:
        """Take in the answer to a case."""
        self.answers.append(answer)
        self.metrics.answered(answer)


def exchange_of(request: HTTPConnection) -> Exchange:
    """Return the exchange that a request is of."""
    found: Exchange = request.state.exchange
    return found
