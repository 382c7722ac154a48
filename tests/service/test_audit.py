"""The audit log: every answer on record, none without, whatever the disk does."""

import asyncio
import hashlib
import json
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.api.keys import new_key
from service.audit import AuditLog, AuditUnavailableError
from service.metrics import Metrics
from tests.servers import wait_for


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def post(server, record, task="mortality", **headers):
    return httpx.post(f"{server.url}/predict/{task}", json=record, headers=headers)


@contextmanager
def small_files(size: int):
    """No file may grow beyond so many bytes; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
        "request": "r-1", "key": "ward-7", "task": "mortality", "status": 200, "code": "ok",
        "input_sha256": hashlib.sha256(body).hexdigest(),
    }  # fmt: skip
    (case,) = cases
    assert case["version"] == answer.json()["model"]["version"]
    assert case["output"] == answer.json()["prediction"]
    assert case["used"] == answer.json()["modalities"]["used"]
    issue = {"code": "out_of_range", "field": "timeseries[0].heart_rate", "action": "dropped"}
    assert issue in case["issues"]
    assert [(each["status"], each["code"], each["cases"]) for each in refused] == [
        (422, "unknown_field", [])
    ]
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
        assert server.says("audit log opened anew")
        post(server, stay)
    assert len(read(tmp_path / "audit.1")) == 2
    assert len(read(file)) == 1


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
        assert server.says("the audit log is written again")
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


def test_many_at_once_are_all_on_record(start_server, tmp_path, stay):
    file = tmp_path / "audit.jsonl"
    with start_server("--audit", str(file)) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(server, stay), range(60)))
    assert {each.status_code for each in answers} == {200}
    ids = [each.headers["x-request-id"] for each in answers]
    assert sorted(each["request"] for each in read(file)) == sorted(ids)


async def test_who_does_not_wait_does_not_stop_the_writer(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", "refuse", Metrics())
    for i in range(20):
        task = asyncio.create_task(log.write({"number": i}))
        await asyncio.sleep(0)
        task.cancel()
    await log.write({"number": 20})
    await log.close()
    assert read(tmp_path / "audit.jsonl")[-1]["number"] == 20


def test_a_log_that_cannot_be_written_at_all_is_refused_at_the_start(tmp_path):
    command = [sys.executable, "-m", "service", "--audit", str(tmp_path / "none" / "audit.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot write the audit log: No such file or directory" in line


def test_cases_of_lists_and_streams_are_on_record_before_they_leave(start_server, tmp_path):
    file = tmp_path / "audit.jsonl"
    good, bad = {"tabular": {"age": 71}}, {"tabular": {"agee": 71}}
    with start_server("--audit", str(file)) as server:
        place = f"{server.url}/predict/mortality"
        items = httpx.post(f"{place}/batch", json=[good, bad, good]).json()["items"]
        assert ["answer" in each for each in items] == [True, False, True]
        (batch,) = read(file)
        assert len(batch["cases"]) == 2

        lines = "".join(json.dumps(each) + "\n" for each in [good] * 10 + [bad] + [good] * 10)
        said = httpx.post(
            f"{place}/stream", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        assert len(said.text.splitlines()) == 21
        streamed = read(file)[1:]
    assert sum(len(each["cases"]) for each in streamed) == 20
    assert {each["request"] for each in streamed} == {said.headers["X-Request-ID"]}


def test_what_abstains_is_on_record_without_an_output_and_counted(
    start_server, strict_bundle, tmp_path
):
    file = tmp_path / "audit.jsonl"
    with start_server("--audit", str(file), "--bundles", str(strict_bundle)) as server:
        assert post(server, {"tabular": {"age": 71}}).json()["status"] == "abstained"
        (entry,) = read(file)
        said = httpx.get(f"{server.url}/metrics").text
    assert entry["cases"][0]["output"] is None
    assert 'lanistr_cases_abstained_total{parts="tabular",task="mortality"} 1.0' in said
