"""Whether the service lives and whether it takes requests."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from service.api.schemas import Health, Readiness

router = APIRouter(tags=["state"])


@router.get("/healthz", response_model=Health)
async def healthz() -> Health:
    """Say that the process lives."""
    return Health(status="ok")


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(request: Request) -> JSONResponse:
    """Say whether the models are loaded and warm."""
    status: str = request.app.state.status
    readiness = Readiness(status=status, tasks=list(request.app.state.models))
    return JSONResponse(readiness.model_dump(), 200 if status == "ready" else 503)
