"""Commands: one clear line for a user's mistake, a traceback for ours."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lanistr.command import CommandParser, run_command
from lanistr.draft import draft_folder


def said(main: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """Run what must end with exit code 2; return its one line."""
    with pytest.raises(SystemExit) as left:
        run_command(lambda: main() and None)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# ---- what the operating system refuses ----------------------------------------------------------


def test_a_path_that_cannot_be_used_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere" / "x", tmp_path / "file" / "x", tmp_path):
        assert str(path) in said(path.read_bytes, capsys)


def test_a_full_disk_is_told_though_nothing_says_where(capsys: pytest.CaptureFixture[str]):
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):

        def full(number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        assert os.strerror(number) in said(full, capsys)


@pytest.mark.parametrize(
    "defect",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        ProcessLookupError(errno.ESRCH, "No such process"),
        FileNotFoundError(errno.ENOENT, "of nothing that anyone named"),
        OSError("without a number"),
        ValueError("ours"),
    ],
)
def test_a_defect_keeps_its_traceback(defect: Exception):
    def fail() -> None:
        raise defect

    with pytest.raises(type(defect)):
        run_command(fail)


@pytest.mark.parametrize("place", ["file/b", "file/a/b"])
def test_a_folder_that_cannot_be_made_is_called_as_the_user_called_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str
):
    (tmp_path / "file").touch()

    def make() -> None:
        with draft_folder(tmp_path / place):
            pass

    line = said(make, capsys)
    assert line.startswith(f"error: {tmp_path / place}: ")
    assert "accepted: a path below a folder that can be written to" in line


def command(*arguments: object, files: int | None = None) -> str:
    """Run `training.prepare`, which must refuse; return its one line.

    Args:
        arguments: of the command.
        files: bytes that a file may have, as on a disk that is nearly full.
    """
    program = (
        "import resource, runpy\n"
        f"limit = {files!r}\n"
        "if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "runpy.run_module('training.prepare', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_preparing_onto_a_full_disk_ends_in_one_line_and_leaves_nothing(tmp_path: Path):
    made = ("synthetic", "--task", "rating", "--samples", 40, "--out", tmp_path / "data")
    assert re.fullmatch("error: .*File too large", command(*made, files=4096))
    assert list(tmp_path.iterdir()) == []


def test_preparing_into_a_place_that_is_none_ends_in_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "data"
    line = command("synthetic", "--task", "rating", "--samples", 4, "--out", out)
    assert line.startswith(f"error: {out}: the folder cannot be made")


# ---- the command line ---------------------------------------------------------------------------


def parser() -> CommandParser:
    outer = CommandParser(prog="python -m it")
    inner = outer.add_subparsers(dest="kind", required=True).add_parser("made")
    inner.add_argument("--task", choices=["mortality", "rating"])
    inner.add_argument("--samples", type=int)
    return outer


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["made", "--task", "ratng"], "--task: no such choice; seen 'ratng'; accepted: did you"),
        (["made", "--task", "ratng"], "did you mean 'rating'? one of mortality, rating"),
        (["mad"], "did you mean 'made'?"),
        (["made", "--sampels=3"], "argument --sampels; accepted: did you mean '--samples'?"),
        (["made", "--samples", "ten"], "invalid int value: 'ten'"),
        (["made", "more"], "unrecognized argument more"),
        ([], "required: kind"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_the_nearest(
    capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: str
):
    line = said(lambda: parser().parse_args(arguments), capsys)
    assert wanted in line
    assert "(see python -m it" in line


def test_a_command_line_without_mistake_is_read_as_ever():
    found = parser().parse_args(["made", "--task", "rating", "--samples=3"])
    assert (found.kind, found.task, found.samples) == ("made", "rating", 3)


def test_every_command_says_its_mistakes_so():
    root = Path(__file__).resolve().parents[2]
    for package in ("training", "export", "service", "benchmarks"):
        for path in (root / package).rglob("*.py"):
            assert "argparse.ArgumentParser(" not in path.read_text(encoding="utf-8"), path
