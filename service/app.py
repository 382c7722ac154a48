"""The application: bundles opened, engine started, addresses laid."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from lanistr import __version__
from lanistr.bundle import Bundle
from service import telemetry
from service.api import batch, embed, health, oip, playground, predict, problems, stream, tasks
from service.api.access import Access
from service.api.deadline import Deadline
from service.api.keys import Keys, authorize, warn_of_unserved
from service.api.metrics import router as metrics_router
from service.api.openapi import document
from service.api.record import Record
from service.audit import AuditLog
from service.engine.backends import Backend, open_backend
from service.engine.cache import TokenCache
from service.engine.lanes import Lanes
from service.engine.predictor import Predictor
from service.hangup import on_hangup
from service.metrics import Metrics
from service.models import Models
from service.security import Security
from service.settings import Settings

_DESCRIPTION = """
Predictions from incomplete records of text, images, table rows and time series.

For research and local validation. **Not a medical device.**
"""

_log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Open the bundles and return the application that serves them.

    Raises:
        BundleError: there is no bundle, or one is damaged.
        ConfigError: the file of keys cannot be read, the audit log not written, or a device not
            used.
    """
    keys = None if settings.keys is None else Keys(settings.keys)
    lanes = Lanes(settings.threads, settings.large_bytes)
    cache = TokenCache(settings.cache_bytes)
    metrics = Metrics()
    metrics.watch(cache)

    def open_predictor(bundle: Bundle) -> Predictor:
        return Predictor(
            bundle,
            _open_backends(bundle, settings),
            lanes,
            cache,
            budget=settings.batch_tokens,
            places=settings.queue,
            longest=settings.queue_seconds,
            most_tokens=settings.case_tokens,
            most_pixels=settings.pixels,
            metrics=metrics.task(bundle.task.name),
        )

    models = Models(settings.bundles, open_predictor)

    actions: dict[str, Callable[[], None]] = {"bundles": models.look}
    if keys is not None:
        warn_of_unserved(keys, models)
        actions["keys"] = keys.look
    audit = None
    if settings.audit is not None:
        audit = AuditLog(settings.audit, settings.audit_failure, metrics)
        actions["audit log"] = audit.reopen

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models.start()
        running = [asyncio.create_task(_work(app, models, settings.watch_seconds))]
        if keys is not None:
            running.append(asyncio.create_task(keys.watch()))
        with on_hangup(actions):
            yield
        app.state.status = "stopping"
        for task in running:
            task.cancel()
        await models.close()
        if audit is not None:
            await audit.close()
        lanes.shutdown()

    # FastAPI's own documentation pages load their scripts from a CDN; these bring them along.
    app: FastAPI = FastAPIOffline(
        title="LANISTR",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        telemetry=telemetry.CONFIG,
    )
    app.state.settings = settings
    app.state.audit = audit
    app.state.keys = keys
    app.state.metrics = metrics
    app.state.models = models
    app.state.status = "starting"
    app.openapi = _current(app, models)  # type: ignore[method-assign]
    problems.install(app)
    app.add_middleware(Deadline, longest=settings.answer_seconds)
    app.add_middleware(Record)
    app.add_middleware(Access)
    app.add_middleware(Security)
    for each in (predict, batch, stream, embed, tasks, health, oip):
        app.include_router(each.router, dependencies=[Depends(authorize)])
    app.include_router(metrics_router)  # asks for a key of its own
    app.include_router(playground.router)  # holds nothing; what it asks for, it shows a key for
    return app


def _open_backends(bundle: Bundle, settings: Settings) -> list[Backend]:
    """Load a bundle's graphs onto each device; all take the build that the first one has chosen."""
    devices, precision = settings.devices(), settings.precision
    threads = max(1, settings.threads // len(devices))
    backends: list[Backend] = []
    for device in devices:
        backends.append(open_backend(bundle, settings.backend, device, precision, threads))
        precision = backends[0].build.precision
    return backends


async def _work(app: FastAPI, models: Models, watch_seconds: float) -> None:
    """Get ready, then keep up with the folder of bundles."""
    try:
        await models.warm_up()
    except Exception:
        app.state.status = "failed"
        _log.exception("the service cannot answer its own example")  # no one's data
        return
    app.state.status = "ready"
    _log.info("ready")
    await models.watch(watch_seconds)


def _current(app: FastAPI, models: Models) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the document again where what is served has changed."""
    made: dict[int, dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        if models.changes not in made:
            made.clear()
            made[models.changes] = document(app, {n: each.bundle for n, each in models.items()})
        return made[models.changes]

    return openapi
