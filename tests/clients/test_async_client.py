"""The async client asks and answers as the sync one does."""

import asyncio
import inspect
from pathlib import Path

import pytest

import clients
from clients import AsyncClient, Client, InvalidInput, Prediction, questions


async def test_it_sends_the_same_form_and_reads_the_same_answer(service, mortality, tmp_path):
    service.answers(mortality)
    picture = tmp_path / "cxr.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    case = {"id": "stay-17", "text": ["a", "b"], "image": picture, "tabular": {"age": 71}}
    with Client(service.url) as client:
        waited = client.predict("mortality", **case)
    async with AsyncClient(service.url) as client:
        awaited = await client.predict("mortality", **case)
    first, second = service.received
    assert awaited == waited
    assert second.parts == first.parts
    assert second.path == first.path


async def test_it_has_the_other_questions_too(service):
    async with AsyncClient(service.url) as client:
        service.answers({"tasks": [{"name": "rating", "title": "Stars", "modalities": []}]})
        assert [task.name for task in await client.tasks()] == ["rating"]
        service.answers({"name": "rating"})
        assert await client.task("rating") == {"name": "rating"}
        service.answers({"status": "ok"})
        assert await client.health() == "ok"
        service.answers({"status": "ready", "tasks": ["rating"]})
        assert (await client.ready()).ready


async def test_it_embeds_and_predicts_many(service, mortality):
    async with AsyncClient(service.url) as client:
        service.answers({"items": [{"index": 0, "answer": mortality}], "request_id": "r-1"})
        cases = [{"text": "a"}, {"text": "b"}]
        found = [each async for each in client.predict_many("mortality", cases, at_once=1)]
        assert [each.label for each in found] == ["survived", "survived"]
        service.answers(mortality | {"embedding": [1]})
        assert (await client.embed("mortality", text="a")).vector == (1.0,)


async def test_it_asks_many_at_once(service, mortality):
    service.answers(mortality)
    async with AsyncClient(service.url) as client:
        cases = (client.predict("mortality", id=f"stay-{i}", text="note") for i in range(8))
        answers = await asyncio.gather(*cases)
    assert {answer.label for answer in answers} == {"survived"}
    assert {each.json["id"] for each in service.received} == {f"stay-{i}" for i in range(8)}


async def test_it_refuses_before_sending(service):
    async with AsyncClient(service.url) as client:
        with pytest.raises(InvalidInput, match=r"tabular\.age"):
            await client.predict("mortality", tabular={"age": float("nan")})
    assert service.received == []


def test_it_has_all_methods_but_that_of_tables():
    def methods(of):
        return {name for name in vars(of) if not name.startswith("_")}

    assert methods(Client) - methods(AsyncClient) == {"score", "close"}
    page = (Path(__file__).resolve().parents[2] / "docs" / "clients.md").read_text("utf-8")
    assert (
        "`AsyncClient` has the same methods with the same arguments, awaited, except `score`"
        in page
    )
    for told in (clients.__doc__, AsyncClient.__doc__):
        assert "score`" in told.partition("methods")[2]


def test_both_clients_have_the_methods_arguments_and_help_of_the_questions():
    for name in ("predict", "predict_many", "predict_list", "embed", "tasks", "task", "ready"):
        waited, awaited = getattr(Client, name), getattr(AsyncClient, name)
        signature = inspect.signature(waited)
        assert inspect.signature(awaited).parameters == signature.parameters
        assert next(iter(signature.parameters)) == "self"
        assert "Raises" in waited.__doc__ == awaited.__doc__ == getattr(questions, name).__doc__
    assert inspect.signature(Client.predict).return_annotation is Prediction
    assert inspect.iscoroutinefunction(AsyncClient.predict)
    assert inspect.signature(AsyncClient) == inspect.signature(Client)
