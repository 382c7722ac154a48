"""State: alive, ready, and where `/` leads."""

import httpx
import pytest

from service.app import create_app
from service.settings import Settings


def test_alive_and_ready(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "tasks": ["mortality", "rating"]}


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/tasks/rating", "/v2", "/docs"]
)
def test_who_asks_by_head_gets_what_stands_above_the_body(server, path):
    with httpx.Client(base_url=server.url) as one:  # a body would be taken for the next answer
        head, got = one.head(path), one.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert got.status_code == 200


def test_what_is_only_posted_to_is_not_asked_by_head(client):
    answer = client.head("/predict/rating")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_not_ready_before_the_models_are_warm():
    transport = httpx.ASGITransport(create_app(Settings()))  # which starts no lifespan
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "starting"
        assert (await client.get("/healthz")).status_code == 200
