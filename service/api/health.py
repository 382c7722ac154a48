"""Whether the service lives and whether it takes requests."""

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import JSONResponse

from service.api.keys import OPEN
from service.api.problems import IN_DOCUMENT
from service.api.schemas import Health, Readiness
from service.audit import AuditLog

router = APIRouter(tags=["state"], responses=IN_DOCUMENT)


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
    status = status_of(request.app)
    readiness = Readiness(status=status, tasks=list(request.app.state.models))
    return JSONResponse(readiness.model_dump(), 200 if status == "ready" else 503)


def status_of(app: FastAPI) -> str:
    """Return "ready", or what keeps an application from answering."""
    status: str = app.state.status
    audit: AuditLog | None = app.state.audit
    if status == "ready" and not app.state.models.available:
        return "runner_lost"
    if status == "ready" and audit is not None and not audit.available:
        return "audit_unavailable"
    return status
