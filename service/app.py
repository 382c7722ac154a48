"""The application: bundles opened, engine started, addresses laid."""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from lanistr import __version__
from lanistr.bundle import Bundle
from service.api import health, playground, predict, problems, tasks
from service.api.access import Access
from service.api.openapi import document
from service.engine.backends.onnx import OnnxBackend
from service.engine.cache import TokenCache
from service.engine.lanes import Lanes
from service.engine.predictor import Predictor
from service.models import Models
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
    """
    lanes = Lanes(settings.threads, settings.large_bytes)
    cache = TokenCache(settings.cache_bytes)

    def open_predictor(bundle: Bundle) -> Predictor:
        backend = OnnxBackend(bundle, settings.device, settings.precision, settings.threads)
        return Predictor(
            bundle,
            backend,
            lanes,
            cache,
            budget=settings.batch_tokens,
            places=settings.queue,
        )

    models = Models(settings.bundles, open_predictor)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models.start()
        at_work = asyncio.create_task(_work(app, models, settings.watch_seconds))
        if threading.current_thread() is threading.main_thread():  # only it gets signals
            hangup = partial(_look_now, models)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup)
        yield
        app.state.status = "stopping"
        at_work.cancel()
        await models.close()
        lanes.shutdown()

    # FastAPI's own documentation pages load their scripts from a CDN; these bring them along.
    app: FastAPI = FastAPIOffline(
        title="LANISTR", version=__version__, description=_DESCRIPTION, lifespan=lifespan
    )
    app.state.settings = settings
    app.state.models = models
    app.state.status = "starting"
    app.openapi = _current(app, models)  # type: ignore[method-assign]
    problems.install(app)
    app.add_middleware(Access)
    for router in (predict.router, tasks.router, health.router, playground.router):
        app.include_router(router)
    return app


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


def _look_now(models: Models) -> None:
    """On SIGHUP."""
    _log.info("SIGHUP: looking for changed bundles")
    models.look()


def _current(app: FastAPI, models: Models) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the document again where what is served has changed."""
    made: dict[int, dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        if models.changes not in made:
            made.clear()
            made[models.changes] = document(app, {n: each.bundle for n, each in models.items()})
        return made[models.changes]

    return openapi
