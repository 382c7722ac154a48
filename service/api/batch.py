"""POST /predict/{task}/batch: a list of cases in, a list of answers out, each for itself."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lanistr.errors import InputError
from service.api import schemas
from service.api.connection import receive_body, while_connected
from service.api.exchange import exchange_of
from service.api.options import Options, query_of, read_options
from service.api.predict import to_answer
from service.api.problems import of_error
from service.api.route import case_route
from service.engine.predictor import Predictor
from service.inputs import check_type, json
from service.inputs.limits import Limits
from service.settings import Settings

IN_FLIGHT = 8
"""Cases of one list that are inside at a time: enough to keep threads and runner busy, too few to
make others wait."""


async def predict_batch(request: Request, predictor: Predictor) -> Response:
    """Predict every case of a list; one that cannot be used fails for itself alone."""
    options = read_options(query_of(request))
    settings: Settings = request.app.state.settings
    check_type(request.headers, ["application/json"])
    limits, exchange = settings.limits(), exchange_of(request)
    with predictor.admission.place():
        body = await receive_body(request)
        records = await predictor.lanes.run(len(body), _records, body, limits, settings.batch)
        exchange.take_in(len(records))
        reads = [_checked(each, limits) for each in records]
        size = len(body) // max(1, len(reads))
        items = await while_connected(
            request.receive, answer_all(predictor, reads, size, options, exchange.id)
        )
    exchange.add_all(items)
    answer: schemas.Batch = {"items": items, "request_id": exchange.id}
    return Response(schemas.encode(answer), media_type="application/json")


route = case_route("/predict/{task}/batch", predict_batch, Options.model_fields)


async def answer_all(
    predictor: Predictor,
    reads: Sequence[Callable[[], Any]],
    size: int,
    options: Options,
    request: str,
) -> list[schemas.Item]:
    """Answer the cases of a list, a few at a time; in their order.

    Args:
        predictor: of the task.
        reads: for each case, what returns its record, or raises `InputError`.
        size: bytes of a case, about.
        options: for all of them.
        request: its id.
    """
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def answer(index: int, read: Callable[[], Any]) -> schemas.Item:
        async with slots:
            return await answer_one(predictor, index, read, size, options, request)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(i, read)) for i, read in enumerate(reads)]
    return [each.result() for each in tasks]


async def answer_one(
    predictor: Predictor,
    index: int,
    read: Callable[[], Any],
    size: int,
    options: Options,
    request: str,
) -> schemas.Item:
    """Answer one case of a list with its prediction or its problem, see `answer_all`."""
    try:
        predicted = await predictor.predict(
            read, size=size, explain=options.explain, coverage=options.coverage
        )
        return {"index": index, "answer": to_answer(predictor.bundle, predicted, request)}
    except Exception as exc:
        return {"index": index, "problem": of_error(request, exc)}


def _records(body: bytes, limits: Limits, most: int) -> list[Any]:
    # The list is one more level than a single record has.
    records = json.decode(body, limits.deeper())
    if not isinstance(records, list):
        raise InputError(
            "the body is not a list of records",
            code="wrong_type",
            field="body",
            seen=records,
            accepted="a list whose elements are records as for /predict",
        )
    if len(records) > most:
        raise InputError(
            "too many records",
            code="too_many",
            field="body",
            seen=f"{len(records):,} records",
            accepted=f"at most {most:,} records; /stream takes any number",
        )
    return records


def _checked(record: Any, limits: Limits) -> Callable[[], Any]:
    return lambda: limits.check(record)
