"""Bundles change while requests run: the new one is tried first, and nobody notices."""

import asyncio
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

import service.models
from lanistr.bundle import Bundle
from lanistr.errors import BundleError
from lanistr.manifest import MANIFEST
from service.app import create_app
from service.engine.predictor import Predictor
from service.settings import DEMO_BUNDLES, Settings
from tests.servers import connected, wait_for
from tests.service.test_workers import one

CASE = {"tabular": {"age": 71}}
OFTEN = ("--watch-seconds", "0.1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(DEMO_BUNDLES / "mortality", tmp_path / "bundles/first")
    return tmp_path / "bundles"


@pytest.fixture
def versions(folder: Path, another_version: Path) -> tuple[str, str]:
    first, second = (
        Bundle.open(each).manifest.version for each in (folder / "first", another_version)
    )
    return first, second


def put(bundle: Path, place: Path) -> None:
    """Copy a bundle so that it appears as a whole."""
    draft = place.with_name(f".{place.name}")
    shutil.copytree(bundle, draft)
    draft.rename(place)


def answered_by(url: str, **params: str) -> str:
    answer = httpx.post(f"{url}/predict/mortality", json=CASE, params=params)
    version: str = answer.json()["model"]["version"]
    return version


def served(url: str) -> list[str]:
    (task,) = httpx.get(f"{url}/tasks").json()["tasks"]
    found: list[str] = task["versions"]
    return found


def test_a_second_version_is_served_beside_the_first_and_goes_with_its_folder(
    start_server, folder, versions, another_version
):
    first, second = versions
    with start_server("--bundles", str(folder), *OFTEN) as server:
        assert served(server.url) == [first]
        put(another_version, folder / "second")
        wait_for(lambda: served(server.url) == [second, first], "the second version")
        assert [answered_by(server.url, version=each) for each in versions] == list(versions)
        assert answered_by(server.url) == second
        detail = httpx.get(f"{server.url}/tasks/mortality", params={"version": first}).json()
        assert detail["model"]["version"] == first

        shutil.rmtree(folder / "second")
        wait_for(lambda: served(server.url) == [first], "the first version alone")
        problem = httpx.post(
            f"{server.url}/predict/mortality", json=CASE, params={"version": second}
        )
        assert problem.status_code == 404
        assert problem.json()["code"] == "unknown_version"
        assert problem.json()["accepted"] == first


def test_a_damaged_bundle_is_refused_and_the_old_one_keeps_serving_until_it_is_whole(
    start_server, folder, versions, another_version
):
    first, second = versions
    with start_server("--bundles", str(folder), *OFTEN) as server:
        shutil.rmtree(folder / "first/onnx")
        for each in another_version.iterdir():  # file by file, the manifest early, a graph not yet
            if each.name != "onnx":
                copy = shutil.copytree if each.is_dir() else shutil.copy
                kwargs = {"dirs_exist_ok": True} if each.is_dir() else {}
                copy(each, folder / "first" / each.name, **kwargs)
        wait_for(lambda: "not loaded:" in server.log(), "the refusal")
        assert served(server.url) == [first]
        assert answered_by(server.url) == first
        assert httpx.get(f"{server.url}/tasks/mortality").json()["card"]
        shutil.copytree(another_version / "onnx", folder / "first/onnx")
        wait_for(lambda: served(server.url) == [second], "the whole bundle")
        shutil.rmtree(folder / "first")
        wait_for(lambda: "cannot check for bundles:" in server.log(), "the empty folder")
        assert served(server.url) == [second]
        assert answered_by(server.url) == second


def test_sighup_looks_at_once_and_no_request_and_no_stream_is_lost_in_the_exchange(
    start_server, folder, versions, another_version, tmp_path
):
    first, second = versions
    exchanged, left = threading.Event(), threading.Event()
    answers: list[tuple[int, str]] = []
    audit = tmp_path / "audit.jsonl"
    options = ("--bundles", str(folder), "--audit", str(audit), "--watch-seconds", "0")
    with start_server(*options) as server, ThreadPoolExecutor() as threads, ExitStack() as stack:
        for each in (exchanged, left):
            stack.callback(each.set)  # whatever else happens
        place = f"{server.url}/predict/mortality"

        def keep_asking() -> None:
            with httpx.Client(timeout=30) as client:
                while not exchanged.is_set():
                    answer = client.post(place, json=CASE)
                    answers.append((answer.status_code, answer.json()["model"]["version"]))

        def lines() -> Iterator[bytes]:
            line = json.dumps(CASE).encode() + b"\n"
            yield line
            while not left.wait(0.1):
                yield b"\n"
            yield line

        def stream() -> list[str]:
            headers = {"Content-Type": "application/x-ndjson", "X-Request-ID": "stream"}
            said = httpx.post(f"{place}/stream", content=lines(), headers=headers, timeout=60).text
            return [json.loads(each)["answer"]["model"]["version"] for each in said.splitlines()]

        streamed = threads.submit(stream)
        wait_for(lambda: audit.read_text("utf-8").count('"stream"') == 2, "its first answer")
        askers = [threads.submit(keep_asking) for _ in range(4)]
        put(another_version, folder / "second")
        shutil.rmtree(folder / "first")
        time.sleep(0.3)
        assert served(server.url) == [first]  # nobody looks by itself
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: served(server.url) == [second], "the second version")
        time.sleep(0.3)
        exchanged.set()
        for each in askers:
            each.result()
        time.sleep(2.5)  # until the first has left
        left.set()
        assert {status for status, _ in answers} == {200}
        assert {version for _, version in answers} == {first, second}
        assert streamed.result() == list(versions)
        document = httpx.get(f"{server.url}/openapi.json").json()
        assert "/predict/mortality" in document["paths"]
    recorded = map(json.loads, audit.read_text("utf-8").splitlines())
    cases = [each for each in recorded if each["request"] == "stream" and each["cases"]]
    assert [each["version"] for each in cases] == list(versions)


async def test_who_found_a_model_before_it_was_replaced_is_answered_by_it(folder, another_version):
    models = create_app(Settings(bundles=folder, watch_seconds=0)).state.models
    models.start()
    found = models.find("mortality")
    put(another_version, folder / "second")
    shutil.rmtree(folder / "first")
    await models.refresh()
    assert models.find("mortality") is not found
    (leaving,) = models._leaving
    await asyncio.sleep(0.5)  # until it enters, where a request takes its time
    with found.admission.place(), found.admission.place():  # one alone needs no engine at work
        await asyncio.sleep(service.models._GRACE)
        answers = (found.predict(lambda: CASE) for _ in range(2))
        for each in await asyncio.wait_for(asyncio.gather(*answers), 30):
            assert each.prediction is not None
        assert not leaving.done()
    await asyncio.wait_for(leaving, 30)
    await models.close()


async def test_a_stream_goes_on_with_the_model_that_is_found_by_watching(
    folder, versions, another_version, monkeypatch
):
    monkeypatch.setattr("service.models._GRACE", 0)
    app = create_app(Settings(bundles=folder, watch_seconds=0.1))
    models, line = app.state.models, json.dumps(CASE).encode() + b"\n"
    head = b"POST /predict/mortality/stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    head += b"Content-Type: application/x-ndjson\r\n\r\n"

    def exchanged() -> bool:
        return list(models.versions("mortality")) == [versions[1]] and not models._leaving

    async with app.router.lifespan_context(app), connected(app) as (reader, writer):

        async def answered() -> str:
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            said = await asyncio.wait_for(reader.readuntil(b"}\n\r\n"), 30)
            version: str = json.loads(said.splitlines()[-2])["answer"]["model"]["version"]
            return version

        writer.write(head)
        said = [await answered()]
        put(another_version, folder / "second")
        shutil.rmtree(folder / "first")
        await asyncio.to_thread(wait_for, exchanged, "the second version alone")
        said.append(await answered())
        writer.write(b"0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 30)
    assert said == list(versions)


def test_what_keeps_a_bundle_from_being_tried_is_tried_again(
    start_server, folder, versions, another_version
):
    """A runner that is away is no fault of a bundle: it is taken when there is one again."""
    first, second = versions
    several = ("--workers", "1", "--bundles", str(folder), *OFTEN)
    with start_server(*several) as server:
        assert served(server.url) == [first]
        runner = one(server, "service.engine.process")
        os.kill(runner, signal.SIGSTOP)  # nobody is answered, nothing can be opened
        put(another_version, folder / "second")
        time.sleep(0.5)
        os.kill(runner, signal.SIGKILL)
        wait_for(lambda: served(server.url) == [second, first], "the second version")
        assert answered_by(server.url) == second


async def test_what_is_found_stays_though_another_folder_cannot_be_read(
    folder, another_version, versions, monkeypatch, caplog
):
    models = create_app(Settings(bundles=folder, watch_seconds=0)).state.models
    models.start()
    put(another_version, folder / "second")
    put(another_version, folder / "third")
    look = service.models.stamp_of

    def fails(place: Path) -> service.models.Stamp:
        if place.name == "third":
            raise PermissionError(13, "Permission denied")
        return look(place)

    monkeypatch.setattr(service.models, "stamp_of", fails)
    for _ in range(2):
        await models.refresh()
    assert list(models.versions("mortality")) == [versions[1], versions[0]]
    assert caplog.text.count("not loaded yet:") == 1
    monkeypatch.undo()
    await models.refresh()
    assert len(models._held) == 3
    await models.close()


def loop(place: Path) -> None:
    """Make a folder that nobody can enter, whoever runs the tests."""
    place.symlink_to(place)


async def test_a_folder_that_cannot_be_entered_is_not_taken_for_gone(
    folder, another_version, versions, caplog
):
    models = create_app(Settings(bundles=folder, watch_seconds=0)).state.models
    models.start()
    (folder / "first").rename(folder / ".first")
    for name in ("first", "third"):
        loop(folder / name)
    put(another_version, folder / "second")
    for _ in range(2):
        await models.refresh()
    assert list(models.versions("mortality")) == [versions[1], versions[0]]
    for name in ("first", "third"):
        assert caplog.text.count(f"not loaded yet: {folder / name}: [Errno") == 1
    (folder / "first").unlink()
    await models.refresh()
    assert list(models.versions("mortality")) == [versions[1]]
    await models.close()


async def test_a_folder_that_cannot_be_entered_does_not_keep_others_from_being_served(
    folder, caplog
):
    loop(folder / "lost+found")
    (folder / "notes.txt").write_text("no bundle")
    models = create_app(Settings(bundles=folder)).state.models
    assert list(models) == ["mortality"]
    await models.refresh()
    assert caplog.text.count("not loaded yet:") == 1
    shutil.rmtree(folder / "first")
    with pytest.raises(
        BundleError, match=r"no bundle in this folder; seen 'Too many .*'; accepted:"
    ):
        create_app(Settings(bundles=folder))
    for _ in range(2):
        await models.look_once(0.01)
    assert list(models) == ["mortality"]
    assert caplog.text.count(f"cannot check for bundles: {folder}: no bundle in this folder") == 1
    put(DEMO_BUNDLES / "mortality", folder / "first")
    await models.look_once(0.01)
    shutil.rmtree(folder / "first")
    await models.look_once(0.01)
    assert caplog.text.count(f"cannot check for bundles: {folder}: no bundle in this folder") == 2


async def test_a_bundle_whose_name_is_not_utf_8_is_refused_alone(folder, caplog):
    models = create_app(Settings(bundles=folder, watch_seconds=0)).state.models
    put(DEMO_BUNDLES / "rating", Path(os.fsdecode(os.fsencode(folder) + b"/rating-\xff")))
    await models.refresh()
    assert list(models) == ["mortality"]
    assert caplog.text.count("the path of the bundle is not UTF-8; seen") == 1


@pytest.mark.parametrize("mended", ["it answers", "another takes its place"])
async def test_a_service_whose_model_fails_is_ready_once_its_models_answer(
    folder, monkeypatch, caplog, mended
):
    predict, faults = Predictor.predict, ["mortality"]

    async def sometimes(self, *arguments, **more):
        if self.bundle.task.name in faults:
            raise MemoryError
        return await predict(self, *arguments, **more)

    monkeypatch.setattr(Predictor, "predict", sometimes)
    monkeypatch.setattr("service.app._AGAIN_SECONDS", 0.1 if mended == "it answers" else 60)
    app = create_app(Settings(bundles=folder, watch_seconds=0))

    async def becomes(status: str) -> None:
        await asyncio.to_thread(wait_for, lambda: app.state.status == status, status)

    async with app.router.lifespan_context(app):
        await becomes("failed")
        await asyncio.sleep(0.5)  # until it was tried again, where it is
        if mended == "it answers":
            faults.clear()
        else:
            shutil.rmtree(folder / "first")
            put(DEMO_BUNDLES / "rating", folder / "rating")
            app.state.models.look()
        await becomes("ready")
        assert list(app.state.models) == ["mortality" if mended == "it answers" else "rating"]
    assert caplog.text.count("cannot predict its own example") == 1


def test_a_bundle_of_another_task_appears_in_the_documentation(start_server, folder):
    with start_server("--bundles", str(folder), *OFTEN) as server:
        paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
        assert "/predict/rating" not in paths
        put(DEMO_BUNDLES / "rating", folder / "rating")
        wait_for(
            lambda: "rating" in httpx.get(f"{server.url}/readyz").json()["tasks"], "the new task"
        )
        assert "/predict/rating" in httpx.get(f"{server.url}/openapi.json").json()["paths"]
        assert httpx.post(f"{server.url}/predict/rating", json={"text": "good"}).status_code == 200
        assert (folder / "rating" / MANIFEST).is_file()
