"""A client that leaves."""

import asyncio
import json

from service.app import create_app
from service.settings import Settings


async def test_a_client_that_leaves_is_answered_by_nobody():
    """Its body is read, then the connection ends: the request leaves the queue unanswered."""
    app = create_app(Settings())
    predictor = app.state.models["mortality"]
    submitted = asyncio.Event()
    sent = []

    async def never(job):
        submitted.set()
        await asyncio.Event().wait()

    predictor.scheduler.submit = never
    body = json.dumps({"text": "a"}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await submitted.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/predict/mortality", "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "app": app,
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), timeout=30)
    assert sent[0]["status"] == 499
    assert predictor.scheduler._inside == 0
