"""A service that is too busy is asked again, later and later; one that fails is not."""

import time

import pytest

from clients import AsyncClient, Client, ClientError, InvalidInput, TooBusy
from clients.patience import Patience

CASES = [{"id": name, "text": "note"} for name in "abc"]


@pytest.fixture
def hasty(monkeypatch):
    """Pauses are short: what is asked again is, and is not, however long they are."""
    monkeypatch.setattr("clients.patience._FIRST", 0.02)


@pytest.fixture(params=["sync", "async"])
def ask(request, hasty):
    async def waiting(url, **options):
        with Client(url, **options) as client:
            return client.predict("mortality", text="note")

    async def awaited(url, **options):
        async with AsyncClient(url, **options) as client:
            return await client.predict("mortality", text="note")

    return waiting if request.param == "sync" else awaited


async def test_a_busy_service_is_asked_the_same_again(ask, service, mortality):
    service.answers(mortality)
    service.refuses(429, 503)
    assert (await ask(service.url)).label == "survived"
    assert len(service.received) == 3
    assert len({each.headers["X-Request-ID"] for each in service.received}) == 1
    assert len({each.body for each in service.received}) == 1


async def test_no_sooner_than_it_says(ask, service, mortality):
    service.answers(mortality)
    service.refuses(503, Retry_After="1")
    started = time.monotonic()
    await ask(service.url)
    assert time.monotonic() - started > 1


async def test_with_the_usual_patience_a_minute_is_too_long(ask, service):
    service.refuses(503, Retry_After="60")
    with pytest.raises(TooBusy, match="try again in 60 s"):
        await ask(service.url)
    assert len(service.received) == 1


async def test_who_would_wait_too_long_does_not_wait_at_all(ask, service):
    service.refuses(503, Retry_After="3600")
    with pytest.raises(TooBusy, match="try again in 3600 s"):
        await ask(service.url)
    assert len(service.received) == 1


@pytest.fixture(params=["sync", "async"])
def ask_many(request, hasty):
    async def waiting(url, **options):
        with Client(url, **options) as client:
            return list(client.predict_many("mortality", CASES))

    async def awaited(url, **options):
        async with AsyncClient(url, **options) as client:
            return [each async for each in client.predict_many("mortality", CASES)]

    return waiting if request.param == "sync" else awaited


@pytest.fixture
def overrun(service, mortality):
    """Answers of a list the first case that is left, unless it is told to refuse the whole."""
    refusal = {"title": "No", "code": "too_busy", "status": 503}

    def answer(received):
        ids = [each["id"] for each in received.json]
        if ids == service.refused:
            return service.refusal
        items = [{"answer": mortality | {"id": ids[0]}}]
        return 200, {"items": items + [{"problem": refusal}] * (len(ids) - 1)}

    service.answer, service.refused = answer, None
    service.refusal = 503, refusal, {"Retry-After": "60"}
    return service


async def test_cases_of_a_list_that_it_was_too_busy_for_are_asked_again_alone(ask_many, overrun):
    assert [each.id for each in await ask_many(overrun.url)] == ["a", "b", "c"]
    asked = [[each["id"] for each in received.json] for received in overrun.received]
    assert asked == [["a", "b", "c"], ["b", "c"], ["c"]]


async def test_cases_of_a_list_are_not_asked_again_without_patience(ask_many, overrun):
    first, *others = await ask_many(overrun.url, retry_seconds=0)
    assert first.id == "a"
    assert [type(each) for each in others] == [TooBusy, TooBusy]
    assert len(overrun.received) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        None,
        (500, {"title": "No", "code": "internal", "status": 500}),
        (200, {}),
        (200, {"items": []}, {"Content-Length": "1000"}),
    ],
    ids=["busy", "failed", "unreadable", "broken off"],
)
async def test_what_was_answered_is_not_lost_where_the_rest_is_refused(ask_many, overrun, refusal):
    overrun.refused, overrun.refusal = ["b", "c"], refusal or overrun.refusal
    first, *others = await ask_many(overrun.url)
    assert first.id == "a"
    assert [type(each) for each in others] == [TooBusy, TooBusy]
    assert len(overrun.received) == 2


@pytest.mark.parametrize("status", [400, 408, 422, 500, 502, 504])
async def test_what_went_wrong_is_not_asked_again(ask, service, mortality, status):
    service.answers(mortality)
    service.refuses(status)
    with pytest.raises(ClientError):
        await ask(service.url)
    assert len(service.received) == 1


async def test_it_can_be_switched_off(ask, service, mortality):
    service.answers(mortality)
    service.refuses(503)
    with pytest.raises(TooBusy):
        await ask(service.url, retry_seconds=0)
    assert len(service.received) == 1


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_patience_that_is_none_is_refused(seconds):
    with pytest.raises(InvalidInput, match="retry_seconds"):
        Client(retry_seconds=seconds)


def test_pauses_grow_and_end_and_differ_from_one_client_to_another():
    def pauses(seconds):
        patience = Patience(seconds)
        return list(iter(lambda: patience.pause(None), None))

    found = pauses(100)
    assert 90 - 16 < sum(found) <= 100
    assert all(0.25 <= each <= 16 for each in found)
    assert found[3] > found[0]
    assert len({tuple(pauses(10)) for _ in range(5)}) == 5
    assert Patience(100).pause(7) >= 7
