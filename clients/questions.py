"""What may be asked of the service. The functions here are the methods of both clients.

Their arguments and its help are theirs; what it returns they send, and hand back as its shape reads
it. So everything about a question is said once, for both clients.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from clients import request as requests
from clients.answers import Embedding, Prediction, Readiness, TaskSummary
from clients.document import Document
from clients.errors import InvalidInput, ProblemError, TooBusy
from clients.exchange import read_batch
from clients.parts import Image, Tabular, Text, Timeseries, jsonable, string
from clients.request import Request
from clients.target import Target

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Answers = Sequence[Prediction | ProblemError]
"""Of the cases of a list, in order."""


@dataclass(frozen=True, slots=True)
class Question(Generic[T_co]):
    """A request, and how its answer is read.

    Attributes:
        request: what is sent.
        shape: reads the answer's document.
        also: statuses outside 2xx under which an answer of that shape may come.
        timeout: longest silence in seconds, in place of the client's own.
        rest: returns what to ask later of what the service was too busy for, in a question whose
            answer is that of the whole; None: there is nothing left.
    """

    request: Request
    shape: Callable[[Document], T_co]
    also: tuple[int, ...] = ()
    timeout: float | None = None
    rest: Callable[[Any], "Question[T_co] | None"] = lambda answer: None


@dataclass(frozen=True, slots=True)
class Some(Generic[T_co]):
    """Some of many cases.

    Attributes:
        cases: as they are sent, or why one cannot be.
        question: about those that can; None where there are none.
    """

    cases: Sequence[bytes | InvalidInput]
    question: Question[Sequence[T_co]] | None


def predict(
    task: str,
    *,
    id: str | None = None,
    text: Text | None = None,
    image: Image | None = None,
    tabular: Tabular | None = None,
    timeseries: Timeseries | None = None,
    explain: bool = False,
    coverage: float | None = None,
    version: str | None = None,
    timeout: float | None = None,
) -> Question[Prediction]:
    """Return the prediction for one case. A part given as None is missing and is not sent.

    Args:
        task: name of the task, as `tasks` lists it.
        id: the caller's own name for the case; comes back in the answer.
        text: a note, or a list of notes, oldest first.
        image: a path to a picture or its bytes, or a list of them.
        tabular: values by field name; a value that is None is missing.
        timeseries: rows, each with ``hours`` since the start of the case and the values measured
            then (a number, a string, or a mapping of ``value`` and ``unit``), or a path to a .csv
            or .json file of such rows.
        explain: whether to ask for each part's contribution.
        coverage: the share of cases, between 0 and 1, for which the answer's prediction set is to
            hold the truth; None leaves it to the service.
        version: of the model; None: the newest.
        timeout: longest silence in seconds, in place of the client's own.

    Raises:
        ClientError: see the tree in `clients.errors`.
    """
    values, files = requests.parts(
        id=id, text=text, image=image, tabular=tabular, timeseries=timeseries
    )
    query = _query(explain=explain, coverage=coverage, version=version)
    request = requests.of_case(f"/predict/{requests.segment(task)}", query, values, files)
    return Question(request, Prediction.read, timeout=timeout)


def embed(
    task: str,
    *,
    id: str | None = None,
    text: Text | None = None,
    image: Image | None = None,
    tabular: Tabular | None = None,
    timeseries: Timeseries | None = None,
    version: str | None = None,
    timeout: float | None = None,
) -> Question[Embedding]:
    """Return one case as a point; the arguments are those of `predict`.

    Raises:
        ClientError: see the tree in `clients.errors`.
    """
    values, files = requests.parts(
        id=id, text=text, image=image, tabular=tabular, timeseries=timeseries
    )
    query = _query(version=version)
    request = requests.of_case(f"/embed/{requests.segment(task)}", query, values, files)
    return Question(request, Embedding.read, timeout=timeout)


def predict_many(
    task: str,
    cases: Iterable[Mapping[str, Any]],
    *,
    explain: bool = False,
    coverage: float | None = None,
    version: str | None = None,
    at_once: int = 32,
    timeout: float | None = None,
) -> Iterator[Callable[[], Some[Prediction | ProblemError]]]:
    """Yield for each case its prediction, or why there is none; in order, as they come.

    That is a `ProblemError` of the service, or an `InvalidInput` where the case cannot be sent.

    Args:
        task: name of the task.
        cases: each a mapping with some of the parts that `predict` takes, under these names, and
            ``id``; a series must be rows, not a file of CSV. They are taken as they are needed,
            so that a generator of any length will do.
        explain: as `predict` has it.
        coverage: likewise.
        version: likewise.
        at_once: how many cases go into one request.
        timeout: longest silence in seconds, in place of the client's own.

    Raises:
        ClientError: what is wrong with a whole request, see the tree in `clients.errors`.
    """
    if at_once < 1:
        raise InvalidInput("at_once", f"is {at_once}", accepted="a number of cases, 1 or more")
    options = {"explain": explain, "coverage": coverage, "version": version, "timeout": timeout}
    waiting, first = iter(cases), 0
    while some := list(islice(waiting, at_once)):
        yield partial(_some, task, some, first, options)
        first += len(some)


def predict_list(
    task: str,
    records: Sequence[bytes],
    *,
    explain: bool = False,
    coverage: float | None = None,
    version: str | None = None,
    timeout: float | None = None,
) -> Question[Answers]:
    """Return the predictions of cases that are JSON already, each or the problem with it, in order.

    Args:
        task: name of the task.
        records: each an object as the service takes it.
        explain: as `predict` has it.
        coverage: likewise.
        version: likewise.
        timeout: longest silence in seconds, in place of the client's own.

    Raises:
        ClientError: see the tree in `clients.errors`.
    """
    query = _query(explain=explain, coverage=coverage, version=version)
    path = f"/predict/{requests.segment(task)}/batch"

    def ask(some: Sequence[bytes]) -> Question[Answers]:
        request = Request("POST", path, query, content=b"[" + b",".join(some) + b"]")
        return Question(request, partial(read_batch, len(some)), timeout=timeout)

    return replace(ask(records), rest=partial(_rest, ask, records))


def tasks() -> Question[tuple[TaskSummary, ...]]:
    """Return the tasks that the service can predict. Raises `ClientError`."""
    return Question(Request("GET", "/tasks"), TaskSummary.read_all)


def task(name: str, *, version: str | None = None) -> Question[dict[str, Any]]:
    """Return a task's fields, units, ranges and model card. Raises `ClientError`."""
    return Question(_of_task(name, version), _whole)


def target(task: str, *, version: str | None = None) -> Question[Target]:
    """Return by what a table of a task is scored. Raises `ClientError`."""
    return Question(_of_task(task, version), Target.read)


def health() -> Question[str]:
    """Return ``ok`` from a service that lives. Raises `ClientError` from one that does not."""
    return Question(Request("GET", "/healthz"), _status)


def ready() -> Question[Readiness]:
    """Return whether the models are loaded. Raises `ClientError` if there is no telling."""
    return Question(Request("GET", "/readyz"), Readiness.read, also=(503,))


def in_place(cases: Sequence[bytes | InvalidInput], answers: Iterable[T]) -> list[T | InvalidInput]:
    """Return the answers to the cases that were sent, and why others were not, in order."""
    answered = iter(answers)
    return [each if isinstance(each, InvalidInput) else next(answered) for each in cases]


def _some(
    task: str, cases: Sequence[Any], first: int, options: Mapping[str, Any]
) -> Some[Prediction | ProblemError]:
    """Return some of many cases, the first of which has a number."""
    found: list[bytes | InvalidInput] = []
    for i, case in enumerate(cases, first):
        if not isinstance(case, Mapping):
            seen, accepted = f"is of type {type(case).__name__}", "modalities by name"
            found.append(InvalidInput(f"cases[{i}]", seen, accepted=accepted))
            continue
        try:
            found.append(requests.to_json(requests.record(case)))
        except InvalidInput as error:
            found.append(error.within(f"cases[{i}]"))
    sent = [each for each in found if isinstance(each, bytes)]
    return Some(found, predict_list(task, sent, **options) if sent else None)


def _rest(
    ask: Callable[[Sequence[bytes]], Question[Answers]], records: Sequence[bytes], found: Answers
) -> Question[Answers] | None:
    """Return the question of those cases alone that the service was too busy for."""
    pairs = zip(records, found, strict=True)
    busy = [record for record, each in pairs if isinstance(each, TooBusy)]
    if not busy:
        return None
    again = ask(busy)

    def shape(document: Document) -> Answers:
        answers = iter(again.shape(document))
        return tuple(next(answers) if isinstance(each, TooBusy) else each for each in found)

    return replace(again, shape=shape, rest=partial(_rest, ask, records))


def _query(
    *, explain: bool = False, coverage: float | None = None, version: str | None = None
) -> dict[str, str]:
    query = {}
    if explain:
        query["explain"] = "true"
    if coverage is not None:
        query["coverage"] = str(jsonable(coverage, "coverage"))
    if version is not None:
        query["version"] = string(version, "version")
    return query


def _of_task(name: str, version: str | None) -> Request:
    return Request("GET", f"/tasks/{requests.segment(name)}", _query(version=version))


def _whole(document: Document) -> dict[str, Any]:
    return document.raw


def _status(document: Document) -> str:
    return document.text("status")
