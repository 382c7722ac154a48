"""The audit log: every answer on record, none without, whatever the disk does."""

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from lanistr.errors import ConfigError
from lanistr.manifest import read_manifest
from service.api.exchange import Exchange
from service.api.key_file import new_key
from service.api.problems import of_error
from service.app import create_app
from service.audit import AuditLog, AuditUnavailableError
from service.metrics import Metrics
from service.settings import Settings
from tests.servers import connected, small_files, wait_for
from tests.service.test_command_line import fails

JSON = {"Content-Type": "application/json"}


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def post(server, record, task="mortality", **headers):
    return httpx.post(f"{server.url}/predict/{task}", json=record, headers=headers, timeout=60)


def test_every_prediction_is_on_record_and_no_payload(start_server, tmp_path, stay):
    file, keys = tmp_path / "audit.jsonl", tmp_path / "keys.yaml"
    key, line = new_key("ward-7", tasks=["mortality"])
    keys.write_text(line)
    said = stay | {
        "id": "Jane Doe",
        "text": "Jane",
        "timeseries": [{"hours": 1, "heart_rate": 9999}],
    }
    with start_server("--audit", str(file), "--keys", str(keys)) as server:
        bearer = {"Authorization": f"Bearer {key}"}
        answer = post(server, said, **bearer, **{"X-Request-ID": "r-1"})
        assert answer.status_code == 200
        (entry,) = read(file)  # there before the answer was
        body = answer.request.content
        assert post(server, {"tabular": {"Jane": 1}}, **bearer).status_code == 422
        assert post(server, said).status_code == 401
        assert post(server, said, "rating", **bearer).status_code == 403
        assert httpx.get(f"{server.url}/tasks/mortality", headers=bearer).status_code == 200
        refused = read(file)[1:]
    assert entry.pop("time").endswith("+00:00")
    cases = entry.pop("cases")
    assert entry == {
        "request": "r-1", "key": "ward-7", "task": "mortality",
        "version": answer.json()["model"]["version"], "status": 200, "code": "ok",
        "input_sha256": hashlib.sha256(body).hexdigest(),
    }  # fmt: skip
    (case,) = cases
    assert (case["index"], case["code"]) == (0, "ok")
    assert case["output"] == answer.json()["prediction"]
    assert case["used"] == answer.json()["modalities"]["used"]
    issue = {"code": "out_of_range", "field": "timeseries[0].heart_rate", "action": "dropped"}
    assert issue in case["issues"]
    (second,) = refused
    assert (second["status"], second["code"]) == (422, "unknown_field")
    assert second["version"] == entry["version"]
    assert second["cases"] == [{"index": 0, "code": "unknown_field", "issues": []}]
    assert "Jane" not in file.read_text()
    assert "9999" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_is_rotated_by_moving_it_and_a_signal(start_server, tmp_path, stay):
    file = tmp_path / "audit.jsonl"
    with start_server("--audit", str(file)) as server:
        post(server, stay)
        file.rename(tmp_path / "audit.1")
        post(server, stay)
        server.process.send_signal(signal.SIGHUP)
        assert server.says("audit log reopened")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: post(server, stay), range(60)))
    assert len(read(tmp_path / "audit.1")) == 2
    assert {each.status_code for each in answers} == {200}
    ids = [each.headers["x-request-id"] for each in answers]  # many at once, and all on record
    assert sorted(each["request"] for each in read(file)) == sorted(ids)


async def test_a_file_that_was_moved_is_left_also_where_the_next_cannot_be_opened_at_once(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("service.audit._AGAIN_SECONDS", 0.01)
    folder, away, moved = tmp_path / "log", tmp_path / "away", tmp_path / "audit.1"
    folder.mkdir()
    file = folder / "audit.jsonl"
    log = AuditLog(file, "refuse", Metrics())
    await log.write({"number": 0})
    file.rename(moved)
    folder.rename(away)
    log.reopen()
    await asyncio.to_thread(wait_for, lambda: not log.available)
    await asyncio.sleep(0.2)
    assert not log.available
    away.rename(folder)
    await asyncio.to_thread(wait_for, lambda: log.available)
    await log.write({"number": 1})
    await log.close()
    assert [each["number"] for each in read(moved)] == [0]
    gap, entry = read(file)
    assert (gap["gap"], entry["number"]) == ("No such file or directory", 1)


def test_while_nothing_can_be_written_nothing_is_answered(start_server, tmp_path, stay):
    file = tmp_path / "audit.jsonl"
    room = 1_000_000
    with file.open("w") as full:
        for _ in range((room - 300) // 40):
            full.write(json.dumps({"before": "x" * 25}) + "\n")
    before = len(read(file))
    with small_files(room), start_server("--audit", str(file)) as server:
        answers = [post(server, stay) for _ in range(4)]
        assert answers[-1].status_code == 503
        assert answers[-1].json()["code"] == "audit_unavailable"
        answered = sum(each.status_code == 200 for each in answers)
        entries = read(file)[before:]  # whole lines, every one
        assert sum("request" in each for each in entries) == answered
        wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        assert httpx.get(f"{server.url}/readyz").json()["status"] == "audit_unavailable"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert server.says("the audit log cannot be written (File too large)")

        file.rename(tmp_path / "audit.1")
        server.process.send_signal(signal.SIGHUP)
        assert server.says("the audit log can be written again;")
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert post(server, stay).status_code == 200
    gap, entry = read(file)
    assert gap["gap"] == "File too large"
    assert entry["status"] == 200


def test_where_counting_will_do_answers_go_on(start_server, stay):
    with start_server("--audit", "/dev/full", "--audit-failure", "count") as server:
        answers = [post(server, stay) for _ in range(3)]
        assert [each.status_code for each in answers] == [200] * 3
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        metrics = httpx.get(f"{server.url}/metrics").text
        assert "lanistr_audit_lost_total 3.0" in metrics
        assert server.says("the audit log cannot be written (No space left on device): records")


def test_a_disk_that_fills_up_and_is_cleared(tmp_path):
    """A real file system of 256 kB, where this may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        written, refused = asyncio.run(_fill(disk))
        entries = read(disk / "audit.jsonl")
        assert len(written) > 0
        assert refused
        numbers = [each["number"] for each in entries if "number" in each]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(written)
        assert [each["gap"] for each in entries if "gap" in each] == ["No space left on device"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def _fill(disk: Path) -> tuple[list[int], list[int]]:
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 230_000)
    log = AuditLog(disk / "audit.jsonl", "refuse", Metrics())
    written, refused = [], []

    async def write(number: int) -> None:
        try:
            await log.write({"number": number, "more": "y" * 500})
        except AuditUnavailableError:
            refused.append(number)
        else:
            written.append(number)

    for start in range(0, 100, 10):
        await asyncio.gather(*(write(start + i) for i in range(10)))
    assert not log.available
    ballast.unlink()
    await asyncio.to_thread(wait_for, lambda: log.available)
    await write(100)
    assert written[-1] == 100
    await log.close()
    return written, refused


async def test_who_does_not_wait_does_not_stop_the_writer(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", "refuse", Metrics())
    for i in range(20):
        task = asyncio.create_task(log.write({"number": i}))
        await asyncio.sleep(0)
        task.cancel()
    await log.write({"number": 20})
    await log.close()
    assert read(tmp_path / "audit.jsonl")[-1]["number"] == 20


async def test_what_is_given_up_while_it_is_written_is_not_on_record(tmp_path):
    file = tmp_path / "audit.jsonl"
    log = AuditLog(file, "refuse", Metrics())
    await log.write({"number": 0})
    before = file.stat().st_size
    task = asyncio.create_task(log.write({"number": 1, "more": "y" * 50_000_000}))
    await asyncio.to_thread(wait_until_grown, file, before)
    task.cancel()
    await log.write({"number": 2})
    await log.close()
    assert task.cancelled()
    assert [each["number"] for each in read(file)] == [0, 2]


def wait_until_grown(file: Path, size: int) -> None:
    end = time.monotonic() + 30
    while file.stat().st_size == size:  # without a pause: it does not take long
        assert time.monotonic() < end


@contextmanager
def locked(file: Path):
    """Another program holds the file."""
    with file.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        yield


def test_a_file_that_is_locked_is_told_of_and_does_not_hold_up_the_end(
    start_server, tmp_path, stay
):
    file = tmp_path / "audit.jsonl"
    with start_server("--audit", str(file)) as server:
        assert post(server, stay).status_code == 200
        with locked(file), ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: post(server, stay), range(4)))
            assert {each.json()["code"] for each in answers} == {"audit_unavailable"}
            assert post(server, stay).status_code == 503
            assert httpx.get(f"{server.url}/readyz").json()["status"] == "audit_unavailable"
            assert server.says("the audit log cannot be written (another program has locked it)")
        assert server.says("the audit log can be written again;")
        assert post(server, stay).status_code == 200
        first, gap, last = read(file)  # and none of what was refused
        assert (first["status"], last["status"]) == (200, 200)
        assert gap["gap"] == "another program has locked it"
        with locked(file):
            server.process.terminate()
            assert server.process.wait(timeout=8) == 0


async def test_a_file_that_takes_nothing_is_told_of_and_does_not_hold_up_the_end(tmp_path, caplog):
    pipe = tmp_path / "audit.pipe"  # which hangs as a disk may: nobody reads
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    log = AuditLog(pipe, "refuse", Metrics(), patience=0.2)
    with suppress(BlockingIOError):
        while True:
            os.write(reader, bytes(4096))
    for _ in range(2):
        with pytest.raises(AuditUnavailableError):
            await log.write({"number": 1})
        assert not log.available
    await log.close()
    assert "cannot be written (nothing was written for 0.2 s): requests are refused" in caplog.text
    assert "giving up on the audit log: nothing was written for" in caplog.text
    os.close(reader)  # by which the thread is let go too


async def read_until_it_goes_on(reader: int, log: AuditLog) -> bytes:
    said = b""

    def gone_on() -> bool:
        nonlocal said
        with suppress(BlockingIOError):
            said += os.read(reader, 1 << 20)
        return log.available and b'"gap"' in said

    await asyncio.to_thread(wait_for, gone_on)
    return said


async def test_a_pipe_whose_reader_stalls_goes_on_when_it_reads_again(tmp_path, monkeypatch):
    monkeypatch.setattr("service.audit._AGAIN_SECONDS", 0.01)
    pipe = tmp_path / "audit.pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditLog(pipe, "refuse", Metrics(), patience=0.3)
    await log.write({"number": 0})
    with pytest.raises(AuditUnavailableError):
        await log.write({"number": 1, "more": "y" * 200_000})  # more than a pipe holds
    said = await read_until_it_goes_on(reader, log)
    await log.write({"number": 2})
    await log.close()
    said += os.read(reader, 1 << 20)
    os.close(reader)
    entries = [json.loads(each) for each in said.splitlines()]  # nothing is taken back of a pipe
    assert [each.get("number") for each in entries] == [0, 1, None, 2]


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_line_whose_reader_went_away_in_the_middle_of_it_stands_alone(
    tmp_path, monkeypatch, replaced
):
    monkeypatch.setattr("service.audit._AGAIN_SECONDS", 0.01)
    pipe = tmp_path / "audit.pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AuditLog(pipe, "refuse", Metrics(), patience=0.3)
    with pytest.raises(AuditUnavailableError):
        await log.write({"number": 0, "more": "y" * 200_000})  # more than a pipe holds
    os.close(reader)
    await asyncio.sleep(0.1)  # it is tried again
    if replaced:
        pipe.unlink()
        os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log.reopen()
    said = await read_until_it_goes_on(reader, log)
    await log.write({"number": 1})
    await log.close()
    said += os.read(reader, 1 << 20)
    os.close(reader)
    *torn, gap, entry = said.splitlines()
    assert [each[-3:] for each in torn] == ([] if replaced else [b"yyy"])
    assert "gap" in json.loads(gap)
    assert json.loads(entry)["number"] == 1


@pytest.fixture
def append_only(tmp_path):
    """A file that nothing can be taken away from, where one may be made, as auditors have it."""
    file = tmp_path / "audit.jsonl"
    file.touch()
    if shutil.which("chattr") is None or change_flag(file, "+a"):
        pytest.skip("no file may be made append-only here")
    yield file
    change_flag(file, "-a")


def change_flag(file: Path, flag: str) -> int:
    return subprocess.run(["chattr", flag, str(file)], capture_output=True).returncode


async def test_a_file_that_nothing_can_be_taken_away_from_does_not_grow_by_trying(
    append_only, monkeypatch
):
    monkeypatch.setattr("service.audit._AGAIN_SECONDS", 0.01)
    log = AuditLog(append_only, "refuse", Metrics(), patience=0.3)
    with locked(append_only), pytest.raises(AuditUnavailableError):
        await log.write({"number": 0})
    await asyncio.to_thread(wait_for, lambda: log.available)
    await log.write({"number": 1})
    await log.close()
    assert [each.get("number") for each in read(append_only)] == [None, 1]


async def test_a_line_that_was_cut_off_and_cannot_be_taken_away_stands_alone(
    append_only, monkeypatch
):
    monkeypatch.setattr("service.audit._AGAIN_SECONDS", 0.01)
    log = AuditLog(append_only, "refuse", Metrics())
    await log.write({"number": 0})
    with small_files(append_only.stat().st_size + 40):
        with pytest.raises(AuditUnavailableError):
            await log.write({"number": 1})
        log.reopen()  # the same file
        await asyncio.sleep(0.1)  # it is tried again
    await asyncio.to_thread(wait_for, lambda: log.available)
    await log.write({"number": 2})
    await log.close()
    first, torn, *rest = append_only.read_text().splitlines()
    assert len(torn) == 40
    assert [json.loads(each).get("number") for each in (first, *rest)] == [0, None, 2]


def test_a_pipe_that_nobody_reads_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "audit.pipe")
    with pytest.raises(ConfigError, match="cannot write the audit log: No such device"):
        AuditLog(tmp_path / "audit.pipe", "refuse", Metrics())


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), ZeroDivisionError()])
@pytest.mark.parametrize("faulty", ["AuditLog._append", "_cut"])
async def test_the_writer_outlives_whatever_befalls_it(tmp_path, monkeypatch, fault, faulty):
    monkeypatch.setattr("service.audit._AGAIN_SECONDS", 0.01)
    file = tmp_path / "audit.jsonl"
    log = AuditLog(file, "refuse", Metrics())

    def fail(*_):
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(f"service.audit.{faulty}", fail)
        with locked(file):
            given_up = asyncio.create_task(log.write({"number": 0}))
            await asyncio.sleep(0.1)  # it waits for its turn
            given_up.cancel()
            await asyncio.sleep(0)
        await asyncio.to_thread(wait_for, lambda: not log.available)
        await asyncio.sleep(0.1)  # it is tried again
        with pytest.raises(AuditUnavailableError):
            await log.write({"number": 1})
    await asyncio.to_thread(wait_for, lambda: log.available)
    await log.write({"number": 2})
    await log.close()
    assert read(file)[-1]["number"] == 2


def test_a_log_that_cannot_be_written_at_all_is_refused_at_the_start(tmp_path):
    said = fails("--audit", str(tmp_path / "none" / "audit.jsonl"))
    assert "cannot write the audit log: No such file or directory" in said


def codes(entry: dict) -> list[tuple[int, str]]:
    return [(each["index"], each["code"]) for each in entry["cases"]]


def test_which_case_of_a_list_was_answered_what_is_on_record_before_it_leaves(
    start_server, tmp_path
):
    file = tmp_path / "audit.jsonl"
    good, bad = {"tabular": {"age": 71}}, {"tabular": {"age": 71}, "timeseries": [{"hours": "x"}]}
    with start_server("--audit", str(file), "--body-seconds", "1") as server:
        place = f"{server.url}/predict/mortality"
        items = httpx.post(f"{place}/batch", json=[good, bad, good]).json()["items"]
        (batch,) = read(file)
        code = items[1]["problem"]["code"]
        assert codes(batch) == [(0, "ok"), (1, code), (2, "ok")]
        assert batch["cases"][2]["output"] == items[2]["answer"]["prediction"]
        assert httpx.post(f"{place}/batch", content=b"[", headers=JSON).status_code == 400
        assert httpx.post(f"{place}?version=none", json=good).status_code == 404
        broken, nowhere = read(file)[1:]
        assert (broken["version"], broken["cases"]) == (batch["version"], [])
        assert (nowhere["version"], nowhere["code"]) == (None, "unknown_version")

        def lines():
            yield from (json.dumps(each).encode() + b"\n" for each in [good, bad, good] * 4)
            time.sleep(1.5)  # until it is not waited for any longer

        headers = {"Content-Type": "application/x-ndjson"}
        said = httpx.post(f"{place}/stream", content=lines(), headers=headers, timeout=60)
        start, *streamed = read(file)[3:]
    answered = [json.loads(each) for each in said.text.splitlines()]
    assert start["cases"] == []
    assert [codes(each) for each in streamed] == [
        [(each["index"], each["problem"]["code"] if "problem" in each else "ok")]
        for each in answered
    ]
    assert answered[-1]["problem"]["code"] == "body_too_slow"
    assert {each["request"] for each in streamed} == {said.headers["X-Request-ID"]}
    assert {each["version"] for each in streamed} == {batch["version"]}


async def test_a_case_of_a_stream_whose_version_is_gone_names_none(tmp_path):
    file = tmp_path / "audit.jsonl"
    app = create_app(Settings(audit=file))
    find = app.state.models.find
    version = find("mortality").bundle.manifest.version

    def found(task, wanted):
        return find(task, "gone" if len(read(file)) > 1 else wanted)

    app.state.models.find = found
    head = f"POST /predict/mortality/stream?version={version} HTTP/1.1\r\nHost: a\r\n"
    head += "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with connected(app) as (reader, writer):
        writer.write(head.encode() + b'b\r\n{"text":1}\n\r\n')
        await reader.readuntil(b'"problem"')
        writer.write(b'b\r\n{"text":2}\n\r\n0\r\n\r\n')
        await reader.readuntil(b"\r\n0\r\n\r\n")
    assert [(each["version"], codes(each)) for each in read(file)] == [
        (version, []),
        (version, [(0, "wrong_type")]),
        (None, [(1, "unknown_version")]),
    ]


def test_what_is_not_on_record_is_not_counted_as_answered(start_server, tmp_path, stay):
    file = tmp_path / "audit.jsonl"
    headers = {"Content-Type": "application/x-ndjson"}
    with start_server("--audit", str(file)) as server:
        place = f"{server.url}/predict/mortality"

        # A stream whose beginning is not on record ends with it.
        with locked(file):
            cases = b'{"tabular": {"age": 71}}\n' * 20
            said = httpx.post(f"{place}/stream", content=cases, headers=headers, timeout=60)
        assert (said.status_code, said.json()["code"]) == (503, "audit_unavailable")
        assert server.says("the audit log can be written again;")
        said = httpx.get(f"{server.url}/metrics").text
        counted = [each for each in said.splitlines() if 'task="mortality"' in each]
        (ended,) = (each for each in counted if each.startswith("lanistr_requests_total"))
        assert 'code="audit_unavailable"' in ended  # and none that left
        assert not any(each.startswith("lanistr_cases_total") for each in counted)
        (gap,) = read(file)
        assert "request" not in gap

        def lines():
            yield json.dumps(stay).encode() + b"\n"
            wait_for(lambda: len(read(file)) == 3)  # the gap, its beginning and this case
            with locked(file):
                yield json.dumps(stay).encode() + b"\n"
                wait_for(lambda: server.log().count("another program has locked it") == 2)

        said = httpx.post(f"{place}/stream", content=lines(), headers=headers, timeout=60)
        codes = [json.loads(each).get("problem", {}).get("code") for each in said.iter_lines()]
        assert codes == [None, "audit_unavailable"]
        wait_for(lambda: server.log().count("the audit log can be written again;") == 2)
        with locked(file), ThreadPoolExecutor() as pool:
            asked = ("", stay), ("/batch", [stay] * 3)
            said = pool.map(
                lambda each: httpx.post(place + each[0], json=each[1], timeout=60), asked
            )
            assert [each.status_code for each in said] == [503, 503]
        said = httpx.get(f"{server.url}/metrics").text
    (counted,) = (each for each in said.splitlines() if each.startswith("lanistr_cases_total"))
    assert counted.endswith(" 1.0")


def test_of_a_request_of_the_open_protocol_the_case_that_it_fails_of_is_on_record(
    start_server, strict_bundle, tmp_path
):
    file = tmp_path / "audit.jsonl"
    good, bad, little = {"text": "stable"}, {"tabular": {"agee": 71}}, {"tabular": {"age": 71}}

    def infer(server, *records, **more):
        data = [json.dumps(each) for each in records]
        shape = {"name": "record", "datatype": "BYTES", "shape": [len(data)]}
        asked = {"inputs": [{**shape, "data": data}], **more}
        return httpx.post(f"{server.url}/v2/models/mortality/infer", json=asked).status_code

    with start_server("--audit", str(file), "--bundles", str(strict_bundle)) as server:
        assert post(server, little).json()["status"] == "abstained"
        said = httpx.get(f"{server.url}/metrics").text
        assert infer(server, good, bad, good) == 422
        assert infer(server, good, little) == 422
        assert infer(server, good, bad, little, outputs=[{"name": "answer"}]) == 200
        alone, failed, abstained, whole = read(file)
    assert (failed["code"], codes(failed)) == ("unknown_field", [(1, "unknown_field")])
    assert (abstained["code"], codes(abstained)) == ("abstained", [(1, "ok")])
    assert abstained["cases"][0]["output"] is None
    assert codes(whole) == [(0, "ok"), (1, "unknown_field"), (2, "ok")]
    assert {each["version"] for each in (failed, abstained, whole)} == {
        read_manifest(strict_bundle).version
    }
    assert alone["cases"][0]["output"] is None
    assert 'lanistr_cases_abstained_total{parts="tabular",task="mortality"} 1.0' in said


def test_an_embedding_is_on_record_by_its_hash(start_server, tmp_path):
    file = tmp_path / "audit.jsonl"
    case = {"text": "stable", "timeseries": [{"hours": 1, "heart_rate": 9999}]}
    with start_server("--audit", str(file)) as server:
        said = httpx.post(f"{server.url}/embed/mortality", json=case).json()
        httpx.post(f"{server.url}/embed/mortality", json={"tabular": {"agee": 1}})
        entry, refused = read(file)
    assert entry["version"] == refused["version"] == said["model"]["version"]
    assert codes(refused) == [(0, "unknown_field")]
    (found,) = entry["cases"]
    point = struct.pack(f"<{len(said['embedding'])}f", *said["embedding"])
    assert found == {
        "index": 0, "code": "ok", "used": said["modalities"]["used"],
        "output": {"embedding_sha256": hashlib.sha256(point).hexdigest()},
        "issues": [{name: each[name] for name in ("code", "field", "action")}
                   for each in said["issues"]],
    }  # fmt: skip
    assert found["issues"]


async def test_what_could_not_be_put_on_record_stands_in_no_later_line():
    exchange = Exchange("r-1", Metrics())

    async def fail() -> None:
        raise AuditUnavailableError

    exchange.record = fail
    exchange.said[1] = of_error("r-1", AuditUnavailableError())
    with pytest.raises(AuditUnavailableError):
        await exchange.put_on_record()
    assert exchange.said == {}
