"""Training as a user starts it: in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def arguments(stage: str, data: Path, out: Path, *overrides: str, init: Path | None = None) -> Any:
    """Return the command line of a stage after the interpreter."""
    words = ["-m", f"training.{stage}", "--recipe", "demo", "--data", str(data), "--out", str(out)]
    if init:
        words += ["--init", str(init)]
    return words + [word for each in overrides for word in ("--set", each)]


def start(words: list[str], processes: int = 1, **options: Any) -> "subprocess.Popen[str]":
    """Start a command, under torchrun for more processes than one."""
    launcher = []
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        launcher.append(str(processes))
    return subprocess.Popen(
        [sys.executable, *launcher, *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def run(words: list[str], processes: int = 1, code: int = 0, **options: Any) -> str:
    """Run a command to its end, check its exit code and return what it said."""
    process = start(words, processes, **options)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


def run_until(
    words: list[str], reached: Callable[[], bool], number: signal.Signals, processes: int = 1
) -> str:
    """Start a command, send it a signal as soon as something is reached, return what it said."""
    process = start(words, processes)
    limit = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit, "it never got there"
        time.sleep(0.002)
    process.send_signal(number)
    said, _ = process.communicate(timeout=300)
    assert process.returncode != 0, said
    return said


def entries(run: Path) -> list[dict[str, Any]]:
    """Return what a run has logged, without what depends on the clock."""
    path = run / "log.jsonl"
    if not path.exists():
        return []
    clock = ("samples_per_second", "tokens_per_second", "mfu")
    lines = [
        json.loads(line) for line in path.read_text().splitlines(keepends=True) if "\n" in line
    ]
    return [{name: each for name, each in line.items() if name not in clock} for line in lines]
