"""Training as a user starts it: in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from torch.distributed import TCPStore

from tests.forked import Command
from tests.servers import small_files

ROOT = Path(__file__).resolve().parents[2]


def arguments(stage: str, data: Path, out: Path, *overrides: str, init: Path | None = None) -> Any:
    """Return the command line of a stage after the interpreter."""
    words = ["-m", f"training.{stage}", "--recipe", "demo", "--data", str(data), "--out", str(out)]
    if init:
        words += ["--init", str(init)]
    return words + [word for each in overrides for word in ("--set", each)]


# ---- forked processes ---------------------------------------------------------------------------


@contextmanager
def started(
    words: list[str], file_bytes: int | None = None, **variables: str
) -> Iterator[tuple[Command, Callable[[], str]]]:
    """Start a command; yield its process and a function that returns what it has newly said.

    Args:
        words: the command line after the interpreter.
        file_bytes: no file may grow past so many: the system refuses to write more.
        variables: of its environment.
    """
    with NamedTemporaryFile("r") as told:
        with small_files(file_bytes) if file_bytes else nullcontext():
            process = Command(words[1:], Path(told.name), variables=variables)
        try:
            yield process, told.read
        finally:
            process.kill()
            process.join()


def run(words: list[str], code: int = 0, file_bytes: int | None = None) -> str:
    """Run a command to its end, check its exit code and return what it said."""
    with started(words, file_bytes) as (process, said):
        return _end(process, said, code)


def run_twice(words: list[str], code: int = 0) -> str:
    """Run a command in two processes that work together, each to its end, as torchrun would."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    world = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is here, not in the first process
        "WORLD_SIZE": "2",
    }
    with (
        started(words, **world, RANK="0", LOCAL_RANK="0") as first,
        started(words, **world, RANK="1", LOCAL_RANK="1") as second,
    ):
        return "".join(_end(*each, code) for each in (first, second))


def run_until(
    words: list[str], reached: Callable[[], bool], number: signal.Signals, *, whole: bool = False
) -> str:
    """Start a command, send it a signal as soon as something is reached, return what it said.

    Args:
        words: the command line after the interpreter.
        reached: whether it is time.
        number: the signal.
        whole: send it to every process that the command has started, too.
    """
    with started(words) as (process, said):
        _wait(reached, process.is_alive, said)
        (os.killpg if whole else os.kill)(process.pid, number)
        return _end(process, said, None)


def _end(process: Any, said: Callable[[], str], code: int | None) -> str:
    """Wait for the end; None is any code but 0."""
    process.join(600)
    printed = said()
    assert process.exitcode if code is None else process.exitcode == code, printed
    return printed


def _wait(reached: Callable[[], bool], alive: Callable[[], bool], said: Callable[[], str]) -> None:
    limit = time.monotonic() + 300
    while not reached():
        assert alive(), said()
        assert time.monotonic() < limit, "it never got there"
        time.sleep(0.002)


# ---- torchrun -----------------------------------------------------------------------------------


def torchrun(words: list[str], code: int = 0, until: Callable[[], bool] | None = None) -> str:
    """Have torchrun start a command in two processes; check its exit code, return what it said.

    Args:
        words: the command line after the interpreter.
        code: with which it has to leave.
        until: when this is reached, ask it to end.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [sys.executable, *launcher, *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if until:
        _wait(until, lambda: process.poll() is None, lambda: process.communicate()[0])
        process.terminate()
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


# ---- what is left -------------------------------------------------------------------------------


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
