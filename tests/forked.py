"""Our commands in processes that find imported what takes longer to import than they run for.

They are forked from one that has imported it (multiprocessing's fork server). How a command begins,
and what a signal does meanwhile, only one that is started by `subprocess` shows.
"""

import os
import resource
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

FORKED = get_context("forkserver")
_imported: list[str] = []


def preload(*modules: str) -> None:
    """Say what processes are to find imported; to be called before the first one starts."""
    _imported.extend(modules)
    FORKED.set_forkserver_preload(_imported)


class Command(FORKED.Process):
    """A command that has been started, with those of `subprocess.Popen`'s methods that are used.

    It inherits what a process that is started inherits: variables, working folder, limits.

    Args:
        words: the module and its arguments.
        stdout: the file that it says everything into.
        stderr: another file for what goes to standard error.
        warned: a warning is an error, as under `-W error`.
        variables: of its environment, beside this process's.
        stdin: the file that it reads.
    """

    def __init__(
        self,
        words: list[str],
        stdout: Path,
        stderr: Path | None = None,
        *,
        warned: bool = False,
        variables: dict[str, str] | None = None,
        stdin: Path = Path(os.devnull),
    ) -> None:
        limits = {
            each: resource.getrlimit(each)
            for each in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
        }
        streams = stdin, stdout, stderr or stdout
        told = (words, streams, os.environ | (variables or {}), Path.cwd(), limits)
        super().__init__(target=_become, args=(*told, warned))
        self.start()

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired("a command", timeout or 0)
        return self.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        assert self.pid
        os.kill(self.pid, number)


def run(
    *words: object, stdin: bytes = b"", timeout: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, warnings being errors, as `subprocess.run` would."""
    with TemporaryDirectory() as folder:
        given, stdout, stderr = (Path(folder, each) for each in ("stdin", "stdout", "stderr"))
        given.write_bytes(stdin)
        command = Command([*map(str, words)], stdout, stderr, warned=True, stdin=given)
        with _ended(command) as process:
            code = process.wait(timeout)
        return subprocess.CompletedProcess(
            words, code, stdout.read_text("utf-8"), stderr.read_text("utf-8")
        )


@contextmanager
def _ended(process: Command) -> Iterator[Command]:
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _become(
    words: list[str],
    streams: tuple[Path, Path, Path],
    variables: dict[str, str],
    folder: Path,
    limits: dict[int, tuple[int, int]],
    warned: bool,
) -> None:
    """Be the command, in a process that has been forked for it."""
    ours = (sys.stdin, "rb"), (sys.stdout, "ab"), (sys.stderr, "ab")
    for (stream, mode), place in zip(ours, streams, strict=True):
        with place.open(mode) as file:
            os.dup2(file.fileno(), stream.fileno())
    os.setpgrp()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    if warned:
        sys.warnoptions[:] = ["error"]  # which its own processes inherit
        warnings.resetwarnings()
        warnings.simplefilter("error")
    for each, limit in limits.items():
        resource.setrlimit(each, limit)
    module, *sys.argv[1:] = words
    for each in (module, f"{module}.__main__"):
        sys.modules.pop(each, None)  # it runs anew: runpy warns of what is there already
    runpy.run_module(module, run_name="__main__", alter_sys=True)
