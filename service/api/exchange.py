"""What is known of one exchange by now; the log, the metrics and the audit read it here."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

from service.api.schemas import EmbeddingAnswer, Item, PredictionAnswer, Problem
from service.api.trace import Trace
from service.metrics import SEVERAL, Metrics

REFUSED = "refused"
"""Key, in the state of an exchange, of status and code of what the server itself has answered."""

Said = PredictionAnswer | EmbeddingAnswer | Problem
"""What a case was answered with."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        id: of the request.
        metrics: of the service.
        trace: the client's, if it sent one.
        key: name of the key that the client showed; None without keys.
        task: that was asked for and may be answered; None where there is none.
        version: of the model that was to answer; None before it is found.
        code: of the problem that it ended in, or "ok".
        said: of each case by its place, of a stream since the last piece: what is to go on record.
        several: whether the answer is one of many cases.
        used: parts of the first case that was answered.
        owe: counts further cases against the rate of the key; None where it has none.
        look: raises `LanistrError` once the key is revoked, or no longer allows this; None without
            keys.
        record: puts what is known on record; None without an audit log.
    """

    id: str
    metrics: Metrics
    trace: Trace | None = None
    key: str | None = None
    task: str | None = None
    version: str | None = None
    code: str = "ok"
    said: dict[int, Said] = field(default_factory=dict)
    several: bool = False
    used: tuple[str, ...] = ()
    owe: Callable[[int], None] | None = None
    look: Callable[[], object] | None = None
    record: Callable[[], Awaitable[None]] | None = None

    @property
    def parts(self) -> str:
        """Which parts were used: "text+image"; "several" for many cases, "" for none."""
        return SEVERAL if self.several else "+".join(self.used)

    def take_in(self, cases: int) -> None:
        """Count the cases of a list before any is predicted: each costs, even if it fails."""
        if cases > 1:
            self.several = True
            self.charge(cases - 1)

    def charge(self, cases: int) -> None:
        """Count further cases against the key, if its rate is limited."""
        if self.owe is not None:
            self.owe(cases)

    def add(self, answer: PredictionAnswer | EmbeddingAnswer, index: int = 0) -> None:
        """Take in the answer to a case."""
        self.used = self.used or answer["modalities"]["used"]
        self.said[index] = answer

    def count(self) -> None:
        """Count what became of the cases by now, unless the request failed as a whole."""
        for said in self.said.values() if self.code == "ok" else ():
            if "modalities" in said:
                self.metrics.answered(said)
            else:
                self.metrics.failed(self.task or "", said["code"])

    def add_all(self, items: Iterable[Item]) -> None:
        """Take in what became of the cases of a list."""
        for item in items:
            if "answer" in item:
                self.add(item["answer"], item["index"])
            else:
                self.said[item["index"]] = item["problem"]

    async def put_on_record(self) -> None:
        """Put what was said of some cases of a stream on record, before it leaves, and count it.

        Raises:
            AuditUnavailableError: that cannot be done.
        """
        try:
            if self.record is not None:
                await self.record()
            self.count()
        finally:  # what could not be put there is not answered, and stands in no later line
            self.said.clear()


def exchange_of(request: HTTPConnection) -> Exchange:
    """Return the exchange that a request is of."""
    found: Exchange = request.scope["state"]["exchange"]
    return found


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of a name, in lower case; starlette would encode it each time."""
    for each, value in scope["headers"]:
        if each == name:
            return str(value, "latin-1")
    return None
