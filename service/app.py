"""The application: bundles opened, engine started, addresses laid."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from lanistr import __version__
from service.api import health, playground, predict, problems, tasks
from service.api.access import Access
from service.api.examples import example
from service.api.openapi import document
from service.bundles import open_bundles
from service.engine.backends.onnx import OnnxBackend
from service.engine.lanes import Lanes
from service.engine.predictor import Predictor
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
    bundles = open_bundles(settings.bundles)
    lanes = Lanes(settings.threads, settings.large_bytes)
    predictors = {
        name: Predictor(
            bundle,
            OnnxBackend(bundle, settings.device, settings.precision, settings.threads),
            lanes,
            budget=settings.batch_tokens,
            places=settings.queue,
        )
        for name, bundle in bundles.items()
    }

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for each in predictors.values():
            each.scheduler.start()
        warming = asyncio.create_task(_warm_up(app, predictors))
        yield
        app.state.status = "stopping"
        warming.cancel()
        for each in predictors.values():
            await each.scheduler.close()
        lanes.shutdown()

    # FastAPI's own documentation pages load their scripts from a CDN; these bring them along.
    app: FastAPI = FastAPIOffline(
        title="LANISTR", version=__version__, description=_DESCRIPTION, lifespan=lifespan
    )
    app.state.settings = settings
    app.state.predictors = predictors
    app.state.status = "starting"
    app.openapi = _once(partial(document, app, bundles))  # type: ignore[method-assign]
    problems.install(app)
    app.add_middleware(Access)
    for router in (predict.router, tasks.router, health.router, playground.router):
        app.include_router(router)
    return app


async def _warm_up(app: FastAPI, predictors: dict[str, Predictor]) -> None:
    """Send each task's example down the whole way once; only then is the service ready."""
    try:
        for each in predictors.values():
            await each.predict(partial(example, each.bundle.task), explain=True)
    except Exception:
        app.state.status = "failed"
        _log.exception("the service cannot answer its own example")  # no one's data
    else:
        app.state.status = "ready"
        _log.info("ready")


def _once(make: Any) -> Any:
    """Return a function that makes the document when it is first asked for."""
    made: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not made:
            made.append(make())
        return made[0]

    return openapi
