"""POST /embed/{task}: one case in, a point out, near the points of cases that are alike."""

from starlette.requests import Request
from starlette.responses import Response

from service.api import schemas
from service.api.access import request_id
from service.api.connection import while_connected
from service.api.predict import modalities_of, named, noticed, receive_record
from service.api.route import case_route
from service.engine.predictor import Predictor


async def embed(request: Request, predictor: Predictor) -> Response:
    """Return the fused embedding of one case, whichever parts it brings."""
    bundle = predictor.bundle
    with predictor.admission.place():
        record, size = await receive_record(request, bundle.task)
        embedded = await while_connected(request.receive, predictor.embed(record, size=size))
    answer = schemas.EmbeddingAnswer(
        **named(bundle, embedded.case),
        embedding=embedded.embedding.tolist(),
        modalities=schemas.Parts(**modalities_of(bundle, embedded.case)),
        **noticed(embedded.case, request_id(request)),
    )
    return Response(answer.json_bytes(), media_type="application/json")


route = case_route("/embed/{task}", embed)
