"""The application: opens bundles, starts engines, adds middleware and routes."""

import asyncio
import logging
import math
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
from service.api.audit import Audit
from service.api.deadline import Deadline, check_deadline
from service.api.head import Head
from service.api.keys import Keys, authorize, warn_of_unserved
from service.api.metrics import router as metrics_router
from service.api.openapi import document
from service.audit import AuditLog
from service.child import Child
from service.engine.cache import TokenCache
from service.engine.engine import Engine
from service.engine.lanes import Lanes
from service.engine.predictor import Predictor
from service.engine.remote import RemoteEngine
from service.hangup import on_hangup
from service.logs import place_of
from service.metrics import Metrics
from service.models import Models
from service.security import Security
from service.settings import Settings

_DESCRIPTION = """
Predictions from incomplete records of text, images, table rows and time series.

For research and local validation. **Not a medical device.**
"""

_AGAIN_SECONDS = 5.0
"""How often a service that could not answer its own examples tries again."""

_log = logging.getLogger(__name__)


def create_app(settings: Settings, child: Child | None = None) -> FastAPI:
    """Open the bundles and return the application that serves them.

    Args:
        settings: of the service.
        child: which of its processes this is, where it is several: then runners run the graphs.

    Raises:
        BundleError: there is no bundle, or one is damaged.
        ConfigError: the file of keys cannot be read, or the audit log not written.
    """
    keys = None
    if settings.keys is not None:
        keys = Keys(settings.keys, None if child is None else child.folder)
    processes = max(1, settings.workers)
    lanes = Lanes(math.ceil(settings.threads / processes), settings.large_bytes)
    metrics = Metrics()
    open_engine = _local(settings, metrics) if child is None else _remote(child)

    def open_predictor(bundle: Bundle) -> Predictor:
        return Predictor(
            bundle,
            open_engine(bundle),
            lanes,
            places=math.ceil(settings.queue / processes),
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
        redirect_slashes=False,  # to wherever the Host header says, and for no key
    )
    app.state.settings = settings
    app.state.audit = audit
    app.state.keys = keys
    app.state.metrics = metrics
    app.state.models = models
    app.state.status = "starting"
    app.openapi = _current(app, models)  # type: ignore[method-assign]
    problems.install(app)
    _add_middleware(app, settings, audit)
    _add_routes(app)
    return app


def _add_middleware(app: FastAPI, settings: Settings, audit: AuditLog | None) -> None:
    """Put the middleware around an application; what is added last comes first."""
    app.add_middleware(Head)
    app.add_middleware(Deadline, longest=settings.answer_seconds)
    if audit is not None:
        app.add_middleware(Audit, log=audit)
    app.add_middleware(Access)
    app.add_middleware(Security)


def _add_routes(app: FastAPI) -> None:
    app.router.routes[:0] = [each.route for each in (predict, batch, stream, embed)]
    for each in (tasks, health, oip):
        app.include_router(each.router, dependencies=[Depends(authorize), Depends(check_deadline)])
    app.include_router(metrics_router)  # checks keys itself
    app.include_router(playground.router)  # static; its requests show a key


def _local(settings: Settings, metrics: Metrics) -> Callable[[Bundle], Engine]:
    """Return what opens engines of this process, which share a cache."""
    from service.engine.local import LocalEngine  # a front end needs no runtime

    cache = TokenCache(settings.cache_bytes, metrics)
    return lambda bundle: LocalEngine(bundle, settings, cache, metrics)


def _remote(child: Child) -> Callable[[Bundle], Engine]:
    """Return what opens engines that run in processes of their own."""
    return lambda bundle: RemoteEngine(bundle, child.runners)


async def _work(app: FastAPI, models: Models, watch_seconds: float) -> None:
    """Get ready, then keep up with the folder of bundles."""
    complaint = ""
    while app.state.status != "ready":
        try:
            await models.warm_up()
        except Exception as exc:
            app.state.status = "failed"
            if complaint != (complaint := place_of(exc)):
                _log.exception("the service cannot predict its own example")  # no one's data
            # The failure may pass, or the bundle be replaced, however rarely bundles are looked at.
            await models.look_once(_AGAIN_SECONDS)
        else:
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
