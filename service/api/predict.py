"""POST /predict/{task}: one case in, one prediction out."""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from lanistr.bundle import Bundle
from lanistr.calibration import Prediction
from lanistr.modalities import Modality
from lanistr.tasks import TaskSpec
from service.api import schemas
from service.api.connection import receive_body, while_connected
from service.api.exchange import exchange_of
from service.api.options import Options, query_of, read_options
from service.api.problems import to_issues
from service.api.route import case_route
from service.api.tasks import model_of
from service.engine.predictor import Case, Predicted, Predictor
from service.inputs import find_reader
from service.settings import Settings


async def predict(request: Request, predictor: Predictor) -> Response:
    """Predict one case from whichever parts it brings."""
    options = read_options(query_of(request))
    with predictor.admission.place():
        record, size = await receive_record(request, predictor.bundle.task)
        predicted = await while_connected(
            request.receive,
            predictor.predict(
                record, size=size, explain=options.explain, coverage=options.coverage
            ),
        )
    exchange = exchange_of(request)
    answer = to_answer(predictor.bundle, predicted, exchange.id)
    exchange.add(answer)
    return Response(schemas.encode(answer), media_type="application/json")


route = case_route("/predict/{task}", predict, Options.model_fields)

_SAID = tuple(each.name for each in fields(Prediction) if each.name != "basis")


async def receive_record(request: Request, task: TaskSpec) -> tuple[Callable[[], Any], int]:
    """Return what reads the record of a request, and how many bytes it has to read.

    Raises:
        InputError: the media type is not read here, or the body is too large or too slow.
        ClientLeftError: the client left before the end of its body.
    """
    settings: Settings = request.app.state.settings
    read, content_type = find_reader(request.headers), request.headers["content-type"]
    body, limits = await receive_body(request), settings.limits()
    return lambda: limits.check(read(body, content_type, task, limits)), len(body)


def to_answer(bundle: Bundle, predicted: Predicted, request: str) -> schemas.PredictionAnswer:
    """Put a prediction into the words of the contract."""
    case, task, said = predicted.case, bundle.task, predicted.prediction
    modalities = parts_of(bundle, case)
    if predicted.explanation is not None:
        shares, baseline = predicted.explanation.contributions, predicted.explanation.baseline
        if not all(map(math.isfinite, (baseline, *shares.values()))):
            raise FloatingPointError("an explanation is not finite")  # JSON would have it null
        modalities["contributions"] = dict(shares)
        modalities["baseline"] = baseline
    answer: schemas.PredictionAnswer = {
        "id": case.id,
        "task": task.name,
        "model": model_of(bundle),
        "status": "abstained" if said is None else "predicted",
        "prediction": None if said is None else _prediction(said),
        "modalities": modalities,
        "issues": to_issues(case.issues),
        "request_id": request,
        "timing_ms": timing_of(case),
    }
    if said is None:
        used = ", ".join(case.used)
        answer["reason"] = f"{task.name} needs {task.wanted()}; usable: {used}"
    return answer


def parts_of(bundle: Bundle, case: Case) -> schemas.Modalities:
    """Return which parts of its task a case brought, and which not."""
    missing = tuple(each for each in bundle.task.modalities if each not in case.used)
    return {"used": case.used, "missing": missing}


def timing_of(case: Case) -> schemas.Timing:
    """Return what a case took."""
    spent = case.timing_ms
    return {
        "preprocess": round(spent["preprocess"], 3),
        "queue": round(spent["queue"], 3),
        "inference": round(spent["inference"], 3),
    }


def _prediction(said: Prediction) -> schemas.Prediction:
    found = {name: each for name in _SAID if (each := getattr(said, name)) is not None}
    if said.basis is not None:
        pattern = said.basis.pattern
        found["conformal"] = {
            "coverage": said.basis.coverage,
            "cases": said.basis.cases,
            "pattern": None if pattern is None else list(map(Modality, pattern.split("+"))),
        }
    return cast(schemas.Prediction, found)
