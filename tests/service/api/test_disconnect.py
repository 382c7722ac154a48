"""A client that leaves."""

import asyncio
import json

from service.app import create_app
from service.settings import Settings
from tests.servers import leave


async def test_a_client_that_leaves_is_answered_by_nobody():
    """Its body is read, then the connection ends: the request leaves the queue unanswered."""
    app = create_app(Settings())
    predictor = app.state.models["mortality"]
    submitted = asyncio.Event()

    async def never(job):
        submitted.set()
        await asyncio.Event().wait()

    predictor.engine.submit = never
    body = json.dumps({"text": "a"}).encode()
    sent = await leave(app, "/predict/mortality", b"application/json", body, submitted.wait())
    assert sent[0]["status"] == 499
    assert predictor.admission.inside == 0
