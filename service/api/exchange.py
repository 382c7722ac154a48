"""What is known of one exchange by now; the log, the metrics and the audit read it here."""

from collections.abc import Awaitable, Callable
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
        streamed: the answer is a stream, whose pieces are put on record one by one.
        record: puts what is known on record; None without an audit log.
    """

    id: str
    metrics: Metrics
    trace: Trace | None = None
    key: str | None = None
    task: str | None = None
    code: str = "ok"
    answers: list[PredictionAnswer] = field(default_factory=list)
    streamed: bool = False
    record: Callable[[], Awaitable[None]] | None = None

    @property
    def parts(self) -> str:
        """Which parts were used: "text+image"; "several" for many cases, "" for none."""
        if len(self.answers) != 1 or self.streamed:
            return "several" if self.answers or self.streamed else ""
        return "+".join(self.answers[0].modalities.used)

    def add(self, answer: PredictionAnswer) -> None:
        """Take in the answer to a case."""
        self.answers.append(answer)
        self.metrics.answered(answer)

    async def put_on_record(self) -> None:
        """Put the answers to some cases of a stream on record, before they leave.

        Raises:
            AuditUnavailableError: that cannot be done.
        """
        self.streamed = True
        if self.record is not None:
            await self.record()
        self.answers.clear()


def exchange_of(request: HTTPConnection) -> Exchange:
    """Return the exchange that a request is of."""
    found: Exchange = request.state.exchange
    return found
