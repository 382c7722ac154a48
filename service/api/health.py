"""Whether the service lives and whether it takes requests."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from service.api.keys import OPEN
from service.api.schemas import Health, Readiness
from service.audit import AuditLog

router = APIRouter(tags=["state"])


@router.get("/healthz", response_model=Health, openapi_extra=OPEN)
async def healthz() -> Health:
    """Say that the process lives."""
    return Health(status="ok")


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness}},
    openapi_extra=OPEN,
)
async def readyz(request: Request) -> JSONResponse:
    """Say whether the models are loaded and warm."""
    status: str = request.app.state.status
    audit: AuditLog | None = request.app.state.audit
    if status == "ready" and not request.app.state.models.available:
        status = "runner_lost"
    if status == "ready" and audit is not None and not audit.available:
        status = "audit_unavailable"
    readiness = Readiness(status=status, tasks=list(request.app.state.models))
    return JSONResponse(readiness.model_dump(), 200 if status == "ready" else 503)
