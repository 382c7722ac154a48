"""POST /predict/{task}: one case in, one prediction out."""

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lanistr.bundle import Bundle
from lanistr.calibration import Prediction
from lanistr.tasks import TaskSpec
from service.api import schemas
from service.api.access import request_id
from service.api.connection import receive_body, while_connected
from service.api.exchange import exchange_of
from service.api.options import read_options
from service.api.problems import to_issues
from service.api.route import case_route
from service.api.tasks import model_of
from service.engine.predictor import Case, Predicted, Predictor
from service.inputs import find_reader
from service.settings import Settings


async def predict(request: Request, predictor: Predictor) -> Response:
    """Predict one case from whichever parts it brings."""
    options = read_options(request.query_params)
    with predictor.admission.place():
        record, size = await receive_record(request, predictor.bundle.task)
        predicted = await while_connected(
            request.receive,
            predictor.predict(
                record, size=size, explain=options.explain, coverage=options.coverage
            ),
        )
    answer = to_answer(predictor.bundle, predicted, request_id(request))
    exchange_of(request).add(answer)
    return Response(answer.json_bytes(), media_type="application/json")


route = case_route("/predict/{task}", predict)


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
    case, task = predicted.case, bundle.task
    parts = modalities_of(bundle, case)
    if predicted.explanation is not None:
        parts |= asdict(predicted.explanation)
    outcome: dict[str, Any] = {"status": "predicted", "prediction": None}
    if predicted.prediction is None:
        outcome["status"] = "abstained"
        outcome["reason"] = f"{task.name} wants {task.wanted()}; usable are {', '.join(case.used)}"
    else:
        outcome["prediction"] = _prediction(predicted.prediction)
    return schemas.PredictionAnswer(
        **named(bundle, case),
        **outcome,
        modalities=schemas.Modalities(**parts),
        **noticed(case, request),
    )


def named(bundle: Bundle, case: Case) -> dict[str, Any]:
    """Return which case an answer is about, and whose it is."""
    return {"id": case.id, "task": bundle.task.name, "model": model_of(bundle)}


def modalities_of(bundle: Bundle, case: Case) -> dict[str, Any]:
    """Return which parts of its task a case brought, and which not."""
    missing = [each for each in bundle.task.modalities if each not in case.used]
    return {"used": list(case.used), "missing": missing}


def noticed(case: Case, request: str) -> dict[str, Any]:
    """Return the issues of a case, and what it took."""
    spent = {name: round(ms, 3) for name, ms in case.timing_ms.items()}
    return {
        "issues": to_issues(case.issues),
        "request_id": request,
        "timing_ms": schemas.Timing(**spent),
    }


def _prediction(said: Prediction) -> schemas.Prediction:
    found = {each.name: getattr(said, each.name) for each in fields(said)}
    basis = found.pop("basis")
    if basis is not None:
        found["conformal"] = schemas.Conformal(
            coverage=basis.coverage,
            cases=basis.cases,
            pattern=None if basis.pattern is None else basis.pattern.split("+"),
        )
    return schemas.Prediction(**{n: each for n, each in found.items() if each is not None})
