"""Signals that come while the service still starts: none is lost, and none is a traceback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.servers import ROOT, running, wait_for
from tests.service.test_workers import children

SERVICE = (sys.executable, "-m", "service", "--port", "0")
SEVERAL = ("--workers", "1")  # of processes, with who minds them and the runner


def hears(pid: int, number: signal.Signals) -> bool:
    """Whether a process has said what it does on a signal."""
    caught = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught[0], 16) >> (number - 1) & 1)


def has_open(pid: int, file: Path) -> bool:
    with suppress(FileNotFoundError):  # the process, or one of its files, is gone
        return any(each.readlink() == file for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def at_once(done: Callable[[], object]) -> None:
    """Wait until something is so, and miss it by no more than a millisecond."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("options", [(), SEVERAL], ids=["one process", "several"])
def test_an_audit_log_that_is_moved_away_as_soon_as_it_is_there_is_not_written_on(
    tmp_path, options
):
    file, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"

    def rotate() -> None:
        started: set[int] = set()

        def opened() -> bool:
            if not file.exists():  # which takes less time to ask
                return False
            for pid in children(os.getpid()):
                if any(has_open(each, file) for each in (pid, *children(pid))):
                    started.add(pid)
            return bool(started)

        at_once(opened)
        file.rename(moved)
        for pid in started:
            os.kill(pid, signal.SIGHUP)

    log = tmp_path / "log.txt"
    with ThreadPoolExecutor(1) as threads:
        rotated = threads.submit(rotate)
        with running(log, "--audit", str(file), *options) as server:
            rotated.result()
            wait_for(lambda: server.log().count("INFO ready") == 1, "it")
            assert server.says("audit log reopened")
            for _ in range(8):  # a connection each
                answer = httpx.post(f"{server.url}/predict/rating", json={"text": "a"}, timeout=60)
                assert answer.status_code == 200
    assert moved.read_text() == ""
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 8


LEAVES = (signal.SIGTERM, 143), (signal.SIGINT, 130)


@pytest.mark.parametrize(("pause", "number", "code"), [(k / 10, *LEAVES[k % 2]) for k in range(6)])
def test_who_is_asked_to_leave_while_everything_is_imported_leaves_by_itself(pause, number, code):
    """Extension modules crash, or leave with a traceback, where an exception meets their imports.

    Of a container's first process the system drops signals that it has no answer to.
    """
    with subprocess.Popen(SERVICE, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        at_once(lambda: hears(process.pid, signal.SIGTERM))
        time.sleep(pause)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "")


@pytest.mark.parametrize(("number", "code"), LEAVES)
def test_who_is_asked_to_leave_while_the_backend_is_imported_leaves_by_itself(number, code):
    with subprocess.Popen(SERVICE, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        at_once(lambda: "onnxruntime_pybind11_state" in maps.read_text())
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said


@pytest.mark.parametrize("pause", [0, 0.9])
def test_who_is_to_look_at_files_while_everything_is_imported_goes_on(pause):
    with subprocess.Popen(SERVICE, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        at_once(lambda: hears(process.pid, signal.SIGTERM))
        time.sleep(pause)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode in (143, 0)
    assert "Traceback" not in said


@pytest.mark.parametrize("words", ["service keys new a", "service.score", "service.score_ray"])
def test_a_terminal_that_hangs_up_ends_the_commands_that_look_at_nothing_again(words):
    command = (sys.executable, "-m", *words.split())
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what is started inherits nohup's, too
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGHUP, ours)
    with process:
        at_once(lambda: hears(process.pid, signal.SIGTERM))
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (-signal.SIGHUP, "")


@pytest.mark.parametrize("module", ["engine.process", "frontend"])
def test_an_interrupt_while_processes_start_is_no_traceback(module):
    def begun(pid: int, words: str) -> bool:
        return module in words and hears(pid, signal.SIGINT)

    with subprocess.Popen(
        [*SERVICE, *SEVERAL],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # whose processes are interrupted together, as in a terminal
    ) as process:
        at_once(lambda: any(begun(*each) for each in children(process.pid).items()))
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in said


def test_a_process_that_was_let_go_as_it_came_up_leaves_without_a_word():
    ours, its = socket.socketpair()
    program = (
        "from service.child import Child\n"
        f"tell = Child(channel={its.fileno()}, folder='.').live(lambda: None)\n"
        "input()\n"
        "tell()\n"
    )
    words = [sys.executable, "-c", program]
    with (
        its,
        subprocess.Popen(
            words,
            cwd=ROOT,
            pass_fds=[its.fileno()],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        ours.close()
        _, said = process.communicate("\n", timeout=60)
    assert (process.returncode, said) == (0, "")
