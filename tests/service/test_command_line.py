"""Starting and stopping, as whoever runs the service sees it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.settings import DEMO_BUNDLES
from tests.damaged import change_build
from tests.forked import run


def fails(*options: str) -> str:
    """Start a service that must not start; return its one line. The usual port may be taken."""
    done = run("service", "--port", "0", *options)
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(DEMO_BUNDLES / "rating", tmp_path / "rating"))


def test_help_shows_an_example_and_every_limit():
    done = run("service", "--help")
    assert done.returncode == 0
    assert "python -m service --bundles bundles/" in done.stdout
    assert "--body-bytes" in done.stdout


def test_a_folder_without_bundles_is_refused(tmp_path: Path):
    assert "no bundle in this folder" in fails("--bundles", str(tmp_path))
    assert "no such folder" in fails("--bundles", str(tmp_path / "nowhere"))


@pytest.mark.parametrize("options", [(), ("--workers", "1")], ids=["one process", "several"])
def test_a_folder_whose_name_is_not_utf_8_is_refused(copy: Path, options):
    folder = os.fsdecode(os.fsencode(copy.parent) + b"/\xff")
    copy.rename(folder)
    assert "the path of the bundle is not UTF-8" in fails("--bundles", folder, *options)


def test_a_changed_graph_is_refused(copy: Path):
    graph = copy / "onnx/int8/fusion.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    line = fails("--bundles", str(copy.parent))
    assert "not match the manifest" in line
    assert "fusion.onnx" in line


def test_a_missing_file_is_refused(copy: Path):
    (copy / "tokenizer.json").unlink()
    assert "is missing a file" in fails("--bundles", str(copy))


def test_a_manifest_that_says_other_shapes_is_refused(copy: Path):
    for number in range(2):
        change_build(
            copy,
            lambda build: build["graphs"]["image"]["inputs"]["pixels"]["shape"].__setitem__(1, 1),
            number,
        )
    assert "does not match the manifest: shapes" in fails("--bundles", str(copy))


def test_a_precision_that_a_bundle_has_not_is_refused_with_those_it_has():
    line = fails("--bundles", str(DEMO_BUNDLES), "--precision", "fp16")
    assert "no such build; seen 'onnx fp16'; accepted: onnx fp32, onnx int8" in line


def test_a_setting_that_is_none_is_refused():
    assert "port" in fails("--port", "eighty")
    assert "device" in fails("--device", "abacus")
    line = fails("--precision", "fp8")
    assert "precision" in line
    assert "'auto', 'fp32', 'int8', 'fp16' or 'bf16'" in line


@pytest.mark.parametrize("device", ["cpu,cuda:0", "auto,auto", "cuda:0,", "cuda:x", ""])
def test_devices_that_are_none_or_of_two_kinds_are_refused(device):
    line = fails("--device", device)
    assert "several of one kind, such as cuda:0,cuda:1" in line


def test_a_device_that_is_not_there_is_refused():
    line = fails("--device", "cuda:99")
    assert "device: no such device here; seen 'cuda:99'; accepted: cpu" in line


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = fails("--port", str(taken.getsockname()[1]))
    assert "cannot listen" in line


@pytest.mark.parametrize("host", ["127.0.0..1", "a" * 64, "203.0.113.1"])
def test_a_host_that_is_none_of_this_machine_is_refused(host):
    line = fails("--host", host)
    assert "cannot listen" in line
    assert f"seen '{host}:0'" in line


def test_start_says_what_is_served_and_what_to_try(server):
    log = server.log()
    assert log.count("DEMO WEIGHTS, PREDICTIONS MEAN NOTHING") == 2
    assert "mortality: model " in log
    assert "rating: model " in log
    assert ", int8, on CPU, from " in log
    assert f"curl -s {server.url}/predict/mortality" in log


def test_the_command_that_it_says_to_try_works(server):
    (command,) = [line for line in server.log().splitlines() if "curl -s" in line]
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    done = subprocess.run(
        command[command.index("curl") :], shell=True, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["task"] == "mortality"


def _wait_until_refused(url: str) -> None:
    """Ask until nobody listens; one who had just connected may be sent away without an answer."""
    for _ in range(100):
        try:
            httpx.get(url)
        except httpx.ConnectError:
            return
        except (httpx.RemoteProtocolError, httpx.ReadError):
            continue
        time.sleep(0.05)
    pytest.fail(f"{url} still takes connections")


_ASKED_EARLY = """
import os, signal, uvicorn
from service.__main__ import main

run = uvicorn.Server.run

def asked_before(self, **options):
    os.kill(os.getpid(), signal.{name})
    run(self, **options)

uvicorn.Server.run = asked_before
main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_who_is_asked_to_leave_just_before_it_serves_leaves(name):
    done = subprocess.run(
        [sys.executable, "-c", _ASKED_EARLY.format(name=name), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.rstrip().endswith("left")


def test_sigterm_finishes_what_is_under_way_and_leaves(start_server, stay):
    body = json.dumps(stay).encode()
    head = (
        b"POST /predict/mortality HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with start_server() as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(head + body[:10])
            time.sleep(0.3)  # until the service has begun to read
            server.process.send_signal(signal.SIGTERM)
            _wait_until_refused(server.url + "/healthz")
            connection.sendall(body[10:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert server.process.wait(timeout=30) == 0
        assert server.log().rstrip().endswith("left")
