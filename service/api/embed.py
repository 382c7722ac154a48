"""POST /embed/{task}: one case in, a point out, near the points of cases that are alike."""

from starlette.requests import Request
from starlette.responses import Response

from service.api import schemas
from service.api.connection import while_connected
from service.api.exchange import exchange_of
from service.api.predict import parts_of, receive_record, timing_of
from service.api.problems import to_issues
from service.api.route import case_route
from service.api.tasks import model_of
from service.engine.predictor import Predictor


async def embed(request: Request, predictor: Predictor) -> Response:
    """Return the fused embedding of one case, whichever parts it brings."""
    bundle = predictor.bundle
    with predictor.admission.place():
        record, size = await receive_record(request, bundle.task)
        embedded = await while_connected(request.receive, predictor.embed(record, size=size))
    case, exchange = embedded.case, exchange_of(request)
    answer: schemas.EmbeddingAnswer = {
        "id": case.id,
        "task": bundle.task.name,
        "model": model_of(bundle),
        "embedding": embedded.embedding.tolist(),
        "modalities": parts_of(bundle, case),
        "issues": to_issues(case.issues),
        "request_id": exchange.id,
        "timing_ms": timing_of(case),
    }
    exchange.add(answer)
    return Response(schemas.encode(answer), media_type="application/json")


route = case_route("/embed/{task}", embed, ("version",))
