"""A client that leaves."""

import asyncio
import json

from service.api.connection import while_connected
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


async def test_a_client_that_leaves_just_when_its_answer_is_there_cancels_nothing_later():
    loop = asyncio.get_running_loop()
    leaving, answer = loop.create_future(), loop.create_future()

    async def receive():
        return await leaving

    async def work():
        return await answer

    async def request():
        said = await while_connected(receive, work())
        await asyncio.sleep(0.01)  # such as for the record of it
        return said

    asking = asyncio.create_task(request())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.set_result({"type": "http.disconnect"})
    answer.set_result("said")
    assert await asking == "said"
