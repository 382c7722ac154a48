"""Bundles change while requests run: the new one is tried first, and nobody notices."""

import shutil
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from lanistr.bundle import Bundle
from lanistr.manifest import MANIFEST
from service.settings import DEMO_BUNDLES
from tests.servers import wait_for

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
        wait_for(lambda: "not taken into service" in server.log(), "the refusal")
        assert served(server.url) == [first]
        assert answered_by(server.url) == first
        assert httpx.get(f"{server.url}/tasks/mortality").json()["card"]
        shutil.copytree(another_version / "onnx", folder / "first/onnx")
        wait_for(lambda: served(server.url) == [second], "the whole bundle")
        shutil.rmtree(folder / "first")
        wait_for(lambda: "cannot look for bundles" in server.log(), "the empty folder")
        assert served(server.url) == [second]
        assert answered_by(server.url) == second


def test_sighup_looks_at_once_and_no_request_is_lost_in_the_exchange(
    start_server, folder, versions, another_version
):
    first, second = versions
    with start_server("--bundles", str(folder), "--watch-seconds", "0") as server:
        answers: list[tuple[int, str]] = []
        done = threading.Event()

        def keep_asking() -> None:
            with httpx.Client(timeout=30) as client:
                while not done.is_set():
                    answer = client.post(f"{server.url}/predict/mortality", json=CASE)
                    answers.append((answer.status_code, answer.json()["model"]["version"]))

        askers = [threading.Thread(target=keep_asking) for _ in range(4)]
        for each in askers:
            each.start()
        put(another_version, folder / "second")
        shutil.rmtree(folder / "first")
        time.sleep(0.3)
        assert served(server.url) == [first]  # nobody looks by itself
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: served(server.url) == [second], "the second version")
        time.sleep(3)  # until the first has left
        done.set()
        for each in askers:
            each.join()
        assert {status for status, _ in answers} == {200}
        assert {version for _, version in answers} == {first, second}
        document = httpx.get(f"{server.url}/openapi.json").json()
        assert "/predict/mortality" in document["paths"]


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
