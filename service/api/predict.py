"""POST /predict/{task}: one case in, one prediction out."""

import asyncio
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from lanistr.bundle import Bundle
from service.api import schemas
from service.api.access import request_id
from service.api.exchange import exchange_of
from service.api.options import Options
from service.api.problems import ClientLeftError, to_issues
from service.api.tasks import Chosen, model_of
from service.engine.predictor import Predicted
from service.inputs import find_reader
from service.inputs.body import read_body
from service.settings import Settings

T = TypeVar("T")

# Left out of the generated document: `service.api.openapi` shows one address a task instead, with
# that task's own fields.
router = APIRouter(include_in_schema=False)


@router.post("/predict/{task}")
async def predict(
    request: Request, predictor: Chosen, options: Annotated[Options, Query()]
) -> Response:
    """Predict one case from whichever parts it brings."""
    settings: Settings = request.app.state.settings
    content_type = request.headers.get("content-type", "")
    read = find_reader(content_type, request.headers.get("content-encoding", ""))
    limits, task = settings.limits(), predictor.bundle.task
    with predictor.scheduler.place():
        try:
            body = await read_body(request, settings.body_bytes, settings.body_seconds)
        except ClientDisconnect:
            raise ClientLeftError from None

        def record() -> Any:
            found = read(body, content_type, task, limits)
            limits.check(found)
            return found

        predicted = await _while_connected(
            request,
            predictor.predict(
                record, size=len(body), explain=options.explain, coverage=options.coverage
            ),
        )
    answer = _answer(predictor.bundle, predicted, request_id(request))
    exchange_of(request).add(answer)
    return Response(answer.json_bytes(), media_type="application/json")


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for the work, or drop it when the client leaves.

    Raises:
        ClientLeftError: the client left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())  # the body is read: only this is left
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeftError
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _answer(bundle: Bundle, predicted: Predicted, request: str) -> schemas.PredictionAnswer:
    said = {name: each for name, each in asdict(predicted.prediction).items() if each is not None}
    modalities: dict[str, Any] = {
        "used": list(predicted.used),
        "missing": [each for each in bundle.task.modalities if each not in predicted.used],
    }
    if predicted.explanation is not None:
        modalities |= asdict(predicted.explanation)
    return schemas.PredictionAnswer(
        id=predicted.id,
        task=bundle.task.name,
        model=model_of(bundle),
        prediction=schemas.Prediction(**said),
        modalities=schemas.Modalities(**modalities),
        issues=to_issues(predicted.issues),
        request_id=request,
        timing_ms=schemas.Timing(**{n: round(ms, 3) for n, ms in predicted.timing_ms.items()}),
    )
