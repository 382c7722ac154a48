"""GET /metrics, as Prometheus reads it."""

import asyncio

from fastapi import APIRouter, Depends, Request
from prometheus_client import exposition
from starlette.responses import Response

from service.api.keys import authorize_metrics
from service.api.problems import IN_DOCUMENT
from service.metrics import Metrics

router = APIRouter(tags=["state"], responses=IN_DOCUMENT)


@router.get("/metrics", response_class=Response, dependencies=[Depends(authorize_metrics)])
async def metrics(request: Request) -> Response:
    """Say what was counted and measured; in Prometheus' text format, or OpenMetrics if asked."""
    found: Metrics = request.app.state.metrics
    try:
        encode, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
    except TypeError:  # a version that is not made of numbers
        encode, content_type = exposition.choose_encoder("")
    said = await asyncio.to_thread(lambda: encode(found.registry()))
    return Response(said, headers={"Content-Type": content_type})
