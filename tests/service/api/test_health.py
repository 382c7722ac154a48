"""State: alive, ready, and where `/` leads."""

import httpx

from service.app import create_app
from service.settings import Settings


def test_alive_and_ready(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "tasks": ["mortality", "rating"]}


async def test_not_ready_before_the_models_are_warm():
    transport = httpx.ASGITransport(create_app(Settings()))  # which starts no lifespan
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "starting"
        assert (await client.get("/healthz")).status_code == 200
