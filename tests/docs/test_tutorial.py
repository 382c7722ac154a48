"""`docs/tutorial.md`, word by word: every command is run, every answer is as it is shown."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests import forked

ROOT = Path(__file__).resolve().parents[2]
forked.preload(
    "training.prepare.__main__", "training.finetune", "training.evaluate", "export.__main__"
)

PAGE = ROOT / "docs" / "tutorial.md"
_SHOWN_PORT = "8000"


def blocks() -> list[tuple[str, str]]:
    """The kind and the body of every block of code, in order."""
    return re.findall(r"^```(.*)\n((?:.*\n)*?)```$", PAGE.read_text("utf-8"), re.MULTILINE)


def run(body: str, folder: Path) -> str:
    """Do what a block says there, in a shell, and our own commands forked; return what is said."""
    said = ""
    for number, words in enumerate(re.split(r"^python -m (.*)\n", body, flags=re.MULTILINE)):
        if number % 2:
            done = forked.run(*shlex.split(words), timeout=600)
        else:
            shell = ["bash", "-euc", words]
            done = subprocess.run(shell, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    return said


@contextmanager
def serving(body: str, folder: Path, environment: dict[str, str], port: str) -> Iterator[None]:
    log = folder / "service.log"
    with (
        log.open("wb") as sink,
        subprocess.Popen(
            ["bash", "-c", f"exec {body}"], cwd=folder, env=environment, stdout=sink, stderr=sink
        ) as process,
    ):
        try:
            while not _ready(port):
                assert process.poll() is None, log.read_text("utf-8")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()


def _ready(port: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def refuse_other(found: Any, shown: Any, path: str = "") -> None:
    """Hold an answer against what the page shows of it; an ellipsis stands for anything."""
    if shown == "…":
        assert found is not None, path
    elif isinstance(shown, dict):
        for name, each in shown.items():
            assert name in found, f"{path}.{name}"
            refuse_other(found[name], each, f"{path}.{name}")
    elif isinstance(shown, list) and shown and isinstance(shown[0], dict):
        assert len(found) == len(shown), path
        for i, (mine, each) in enumerate(zip(found, shown, strict=True)):
            refuse_other(mine, each, f"{path}[{i}]")
    else:
        assert found == shown, path


def test_the_tutorial_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    before, (_, serve), after = _halves()
    for kind, body in before:
        assert kind == "sh"
        run(body, tmp_path)
    problems = (tmp_path / "work/data.problems.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(each)["seen"] for each in problems] == ["abt. 70"]
    report = json.loads((tmp_path / "work/run/report-test.json").read_text("utf-8"))
    assert report["all"]["metrics"]["auroc"] > 0.6
    with serving(serve.replace(_SHOWN_PORT, port), tmp_path, environment, port):
        answers = []
        for kind, body in after:
            if kind == "sh":
                answers.append(run(body.replace(_SHOWN_PORT, port), tmp_path))
            else:
                refuse_other(json.loads(answers[-1]), json.loads(body))
    assert len(answers) == 3
    assert answers[-1].startswith("readmission: ")


def _halves() -> tuple[list[tuple[str, str]], tuple[str, str], list[tuple[str, str]]]:
    """What is done before the service runs, how it is started, and what is asked of it."""
    every = blocks()
    (start,) = (i for i, (kind, _) in enumerate(every) if kind == "sh serve")
    return every[:start], every[start], every[start + 1 :]
