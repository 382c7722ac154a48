"""A service of several processes, as whoever runs it sees it."""

import asyncio
import errno
import json
import os
import resource
import shutil
import signal
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.api.key_file import new_key
from service.api.keys import SharedBucket
from service.child import Child
from service.settings import DEMO_BUNDLES
from service.supervisor import _Process
from tests.servers import plain, wait_for
from tests.service.test_command_line import fails

TWO = ("--workers", "2")


@pytest.fixture(scope="module")
def started(start_server):
    with start_server(*TWO) as server:
        wait_for(lambda: server.log().count("INFO ready") == 2, "both front ends")
        yield server


@pytest.fixture
def several(started):
    """A service that has all its processes, whatever the test before did to them."""
    wait_for(lambda: len(children(started.process.pid)) == 3, "all processes")
    wait_for(lambda: all_ready(started), "both front ends and the runner")
    return started


def children(parent: int) -> dict[int, str]:
    """Return the processes below one, with their command lines."""
    pids = [
        int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    ]
    return {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids}


def one(server, module: str) -> int:
    """Return a process that runs a module."""
    return next(pid for pid, words in children(server.process.pid).items() if module in words)


def lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def turned_away(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def ready(server) -> bool:
    return httpx.get(f"{server.url}/readyz", timeout=60).status_code == 200


def all_ready(server) -> bool:
    return all(ready(server) for _ in range(12))  # a connection each, which go to either


def counted(server) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(number) for name, number in pairs}


def test_two_front_ends_and_a_runner(several):
    words = list(children(several.process.pid).values())
    assert sum("-m service.frontend" in each for each in words) == 2
    assert sum("-m service.engine.process" in each for each in words) == 1


def test_answers_are_those_of_one_process(several, server, records, picture, stay):
    def ask(url):
        query = {"explain": True}
        lists = httpx.post(f"{url}/predict/mortality/batch", json=records, params=query, timeout=60)
        alone = [
            httpx.post(f"{url}/predict/mortality", json=each, params=query, timeout=60).json()
            for each in records
        ]
        embedded = httpx.post(f"{url}/embed/mortality", json=stay, timeout=60).json()
        parts = [("image", (f"{k}.png", picture(seed=k), "image/png")) for k in range(3)]
        seen = httpx.post(f"{url}/predict/mortality", files=parts, timeout=60).json()
        items = [each.get("answer") or each["problem"] for each in lists.json()["items"]]
        return [plain(each) for each in (*alone, *items, embedded, seen)]

    assert ask(several.url) == ask(server.url)


def test_connections_go_to_both_and_counts_are_summed(several, stay):
    case = 'lanistr_cases_total{parts="text",task="mortality"}'
    row = 'lanistr_cache_rows_total{modality="text",outcome="%s"}'
    before = counted(several)
    for _ in range(20):  # a connection each
        httpx.post(f"{several.url}/predict/mortality", json={"text": "the same note for all"})
    after = counted(several)

    def grown(name):
        return after[name] - before.get(name, 0)

    assert grown(case) == 20
    assert grown(row % "miss") == 1  # one cache, whichever front end asks
    assert grown(row % "hit") == 19


def test_what_a_process_took_is_gone_for_the_others(tmp_path):
    mine, yours = (SharedBucket(tmp_path / "key", rate=1e-6, size=3) for _ in range(2))
    assert (mine.take(), yours.take()) == (0, 0)
    yours.owe(2)
    assert mine.take() == pytest.approx(2e6, rel=0.01)
    assert SharedBucket(tmp_path / "other", rate=1, size=3).take() == 0


def test_a_runner_that_dies_is_told_of_and_started_again(several, stay):
    before, said_before = one(several, "service.engine.process"), len(several.log())
    with ThreadPoolExecutor(16) as threads:
        url = f"{several.url}/predict/mortality"

        def ask(number):
            record = stay | {"id": str(number), "text": f"note {number} " * 50}
            return httpx.post(url, json=record, timeout=60)

        expected = {ask(k).json()["id"]: ask(k).json()["prediction"] for k in range(8)}
        asked = [threads.submit(ask, k % 8) for k in range(200)]
        wait_for(lambda: sum(each.done() for each in asked) > 40, "the first answers")
        os.kill(before, signal.SIGKILL)
        statuses = set()
        for answer in (each.result() for each in asked):
            statuses.add(answer.status_code)
            said = answer.json()
            if answer.status_code == 200:
                assert said["prediction"] == expected[said["id"]]
            else:
                assert (answer.status_code, said["code"]) == (503, "runner_lost")
                assert answer.headers["retry-after"] == "1"
        assert statuses == {200, 503}
        wait_for(lambda: all_ready(several), "the next runner")
        assert one(several, "service.engine.process") != before
        assert ask(3).json()["prediction"] == expected["3"]

    def said() -> str:
        return several.log()[said_before:]

    wait_for(lambda: "the runner 0 is running again" in said(), "its line")
    assert "the runner 0 ended with -9 and is being restarted" in said()
    assert said().count(" ERROR ") == 1  # however many bundles and front ends


async def test_what_cannot_be_started_just_now_is_tried_again(tmp_path, monkeypatch, caplog):
    start, failures = asyncio.create_subprocess_exec, [OSError(errno.ENOMEM, "no memory")] * 2

    async def sometimes(*words, **more):
        if failures:
            raise failures.pop()
        return await start(*words, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", sometimes)
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as folder:
        told = Child(folder=tmp_path, lock=folder.fileno())
        kept = _Process("platform", "runner", listener, (), told, decisive=False)
        keeping = asyncio.create_task(kept.keep())
        async with asyncio.timeout(60):
            await asyncio.to_thread(wait_for, lambda: "ended with 0" in caplog.text)
            kept.let_go()
            assert await keeping == 0
    assert caplog.text.count("the runner cannot be started: [Errno 12] no memory") == 2


@pytest.mark.parametrize("decisive", [True, False])
async def test_how_a_process_ended_is_told_though_its_socket_cannot_be_renewed(
    tmp_path, caplog, decisive
):
    def fail(listener: socket.socket) -> socket.socket:
        raise OSError(errno.EMFILE, "no descriptor")

    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as folder:
        told = Child(folder=tmp_path, lock=folder.fileno())
        words = ["--no-such-option"]  # it leaves with 2
        kept = _Process(
            "compileall", "front end", listener, words, told, decisive=decisive, renew=fail
        )
        keeping = asyncio.create_task(kept.keep())
        async with asyncio.timeout(60):
            if decisive:
                assert await keeping == 2
            else:
                await asyncio.to_thread(wait_for, lambda: "is being restarted" in caplog.text)
                kept.let_go()
                assert await keeping == 0
    assert "cannot be started" not in caplog.text
    said = [
        "could not get a new socket: [Errno 24] no descriptor",
        "ended with 2 and is being restarted",
    ]
    assert [f"the front end {each}" in caplog.text for each in said] == [not decisive] * 2


async def test_that_a_process_was_killed_while_it_started_is_told(tmp_path, caplog):
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as folder:
        told = Child(folder=tmp_path, lock=folder.fileno())
        words = ["import os; os.kill(os.getpid(), 9)"]  # as the system kills what wants too much
        kept = _Process("timeit", "runner 0", listener, words, told, decisive=True)
        async with asyncio.timeout(60):
            assert await kept.keep() == 1
    assert "the runner 0 ended with -9" in caplog.text


async def test_signals_that_reach_a_process_before_it_imports_anything_wait(tmp_path, caplog):
    """Else SIGHUP, which the supervisor passes on, would end a front end that has just begun."""
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as folder:
        told = Child(folder=tmp_path, lock=folder.fileno())
        words = ["-n1", "-r1", "import os; os.kill(os.getpid(), 1); os.kill(os.getpid(), 2)"]
        kept = _Process("timeit", "front end", listener, words, told, decisive=False)
        keeping = asyncio.create_task(kept.keep())
        async with asyncio.timeout(60):
            await asyncio.to_thread(wait_for, lambda: "is being restarted" in caplog.text)
            kept.let_go()
            assert await keeping == 0
    assert "the front end ended with 0" in caplog.text


def test_a_front_end_that_runs_out_of_files_finds_the_runner_when_it_has_some(several):
    below = children(several.process.pid)
    fronts = [pid for pid, words in below.items() if "frontend" in words]
    limits = [resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in fronts]
    for pid, (_, hard) in zip(fronts, limits, strict=True):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    os.kill(one(several, "service.engine.process"), signal.SIGKILL)
    fault = "the runner cannot continue: [Errno 24] Too many open files"
    wait_for(lambda: several.log().count(fault) == 4, "the fault, told once a model")
    for pid, limit in zip(fronts, limits, strict=True):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
    wait_for(lambda: all_ready(several), "the runner, for either")
    assert children(several.process.pid).keys() >= set(fronts)


def test_readyz_says_that_there_is_no_runner(several):
    os.kill(one(several, "service.engine.process"), signal.SIGKILL)
    said = []
    wait_for(
        lambda: said.append(httpx.get(f"{several.url}/readyz")) or said[-1].status_code == 503,
        "the loss",
    )
    assert said[-1].json()["status"] == "runner_lost"
    assert httpx.get(f"{several.url}/v2/health/ready").json() == {"ready": False}
    assert httpx.get(f"{several.url}/healthz").status_code == 200
    wait_for(lambda: ready(several), "the next runner")


def test_a_front_end_that_dies_is_started_again(several):
    def ask():
        for _ in range(10):  # those connections that it would get wait for the next
            body = {"text": "good"}
            answer = httpx.post(f"{several.url}/predict/rating", json=body, timeout=60)
            assert answer.status_code == 200

    cases = 'lanistr_cases_total{parts="text",task="rating"}'
    before, said = counted(several).get(cases, 0), len(several.log())
    ask()
    front = one(several, "service.frontend")
    told = Path(f"/proc/{front}/environ").read_text().split("\0")
    (folder,) = (each.partition("=")[2] for each in told if "MULTIPROC_DIR" in each)
    files = {each.name for each in Path(folder).iterdir()}
    os.kill(front, signal.SIGKILL)
    wait_for(lambda: "ended with -9 and is being restarted" in several.log()[said:], "the death")
    ask()
    wait_for(lambda: "INFO ready" in several.log()[said:], "the next")
    # It counts on where the one before ended: each death would leave files behind otherwise.
    assert {each.name for each in Path(folder).iterdir()} == files
    assert counted(several)[cases] - before == 20


@pytest.fixture(scope="module")
def own(start_server, tmp_path_factory):
    """A service with a folder of bundles and keys that may be changed, and the keys."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(DEMO_BUNDLES, folder / "bundles")
    (key, words), (slow, others) = new_key("all"), new_key("slow", per_minute=1, burst=7)
    (folder / "keys.yaml").write_text(f"{words}\n{others}\n")
    told = ("--keys", str(folder / "keys.yaml"), "--bundles", str(folder / "bundles"))
    with start_server(*TWO, *told, "--watch-seconds", "0") as server:
        wait_for(lambda: server.log().count("INFO ready") == 2, "both front ends")
        yield server, folder, key, slow


def ask(server, key: str, path: str, body=None) -> httpx.Response:
    url, head = server.url + path, {"Authorization": f"Bearer {key}"}
    return httpx.request("POST" if body else "GET", url, json=body, headers=head, timeout=5)


def test_a_key_is_counted_by_all_processes_together(own):
    server, _, _, slow = own
    said = [ask(server, slow, "/tasks").status_code for _ in range(20)]
    assert said == [200] * 7 + [429] * 13


@pytest.mark.parametrize("damaged", ["bundles/rating/onnx/int8/fusion.onnx", "keys.yaml"])
def test_a_front_end_that_cannot_come_up_again_keeps_no_one_waiting(own, damaged):
    server, folder, key, _ = own
    file, before = folder / damaged, len(server.log())
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    os.kill(one(server, "service.frontend"), signal.SIGKILL)
    wait_for(lambda: "ended with 2 and is being restarted" in server.log()[before:], "the refusal")
    for _ in range(16):  # a connection each
        assert ask(server, key, "/predict/rating", {"text": "good"}).status_code == 200
    assert ready(server)
    file.write_bytes(whole)
    wait_for(lambda: " is running again" in server.log()[before:], "the front end")
    wait_for(lambda: all_ready(server), "both")


def test_all_processes_take_up_a_new_version(own, another_version):
    server, folder, key, _ = own
    folder /= "bundles"

    def versions():
        case = {"tabular": {"age": 71}}
        answers = [ask(server, key, "/predict/mortality", case) for _ in range(12)]
        return {each.json()["model"]["version"] for each in answers}

    (first,) = versions()
    shutil.copytree(another_version, folder / ".second")
    (folder / ".second").rename(folder / "second")
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(found := versions()) == 1 and found != {first}, "the second version")
    shutil.copytree(another_version, folder / ".third")
    (folder / ".third/onnx/fp32/fusion.onnx").write_bytes(b"broken")
    (folder / ".third").rename(folder / "third")
    server.process.send_signal(signal.SIGHUP)
    assert server.says("not loaded:")
    assert len(versions()) == 1
    for each in ("second", "third"):
        shutil.rmtree(folder / each)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: versions() == {first}, "the first version")


def test_what_keeps_it_from_starting_is_said_once():
    assert "no such build" in fails(*TWO, "--precision", "fp16")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot listen" in fails(*TWO, "--port", str(taken.getsockname()[1]))


def test_the_port_of_a_service_of_several_processes_is_in_use_too(several):
    port = str(urlsplit(several.url).port)
    assert "cannot listen" in fails(*TWO, "--port", port)
    assert "cannot listen" in fails("--port", port)


def test_sigterm_finishes_what_is_under_way_in_every_process(start_server, stay):
    body = json.dumps(stay).encode()
    head = (
        b"POST /predict/mortality HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with start_server(*TWO) as server:
        address = urlsplit(server.url)
        below = children(server.process.pid)
        open_ = [
            socket.create_connection((address.hostname, address.port), timeout=60) for _ in range(8)
        ]
        for each in open_:
            each.sendall(head + body[:10])
        time.sleep(1)  # until the service has begun to read
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: turned_away(address.hostname, address.port), "new ones to be refused")
        for each in open_:
            each.sendall(body[10:])
        for each in open_:
            with each:
                answer = b"".join(iter(lambda each=each: each.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 200 OK")
        assert server.process.wait(timeout=60) == 0
        assert server.log().rstrip().endswith("left")
        assert "ERROR" not in server.log()
        assert not any(lives(each) for each in below)


def test_a_folder_of_temporary_files_that_holds_no_sockets_is_told(tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    assert "TMPDIR: cannot create a socket: AF_UNIX path too long" in fails(*TWO)


def test_nobody_and_nothing_outlives_a_supervisor_that_is_killed(
    start_server, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start_server("--workers", "1") as server:
        below = children(server.process.pid)
        assert len(below) == 2
        assert list(tmp_path.glob("lanistr-*"))
        server.process.kill()
        wait_for(lambda: not any(lives(each) for each in below), "the end of all")
    assert not list(tmp_path.glob("lanistr-*"))
