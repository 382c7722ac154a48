"""Commands: one clear line for a user's mistake, a traceback for ours."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lanistr.command import CommandParser, run_command
from lanistr.draft import draft_folder
from tests.training.prepare.tables import SOURCE, TASK, as_csv, place, rows, write_task


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
    assert "accepted: a path in a writable folder" in line


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
    out = tmp_path / "data"
    line = command("synthetic", "--task", "rating", "--samples", 40, "--out", out, files=4096)
    assert line.startswith(f"error: {out}: ")
    assert line.endswith("File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("files", [4096, 20_000])
def test_preparing_a_table_onto_a_full_disk_does_so_too(tmp_path: Path, files: int):
    raw, out = tmp_path / "raw", tmp_path / "made" / "data"
    place(raw, {"cases.csv": as_csv(rows(40))})
    task = write_task(raw, TASK, SOURCE)
    words = ("table", "--source", raw / "cases.csv", "--task", task, "--out", out)
    line = command(*words, files=files)
    assert line.startswith(f"error: {out.parent}")
    assert "the disk is full or failing" in line or "File too large" in line
    assert list(out.parent.iterdir()) == []


def test_a_list_of_problems_that_no_longer_fits_the_disk_is_named(tmp_path: Path):
    raw, out = tmp_path / "raw", tmp_path / "data"
    place(raw, {"cases.csv": as_csv({**case, "age": "old"} for case in rows(200))})
    task = write_task(raw, TASK, SOURCE)
    words = ("table", "--source", raw / "cases.csv", "--task", task, "--out", out)
    line = command(*words, files=20_000)
    assert line == f"error: {out}.problems.jsonl: File too large"


def test_preparing_into_a_place_that_is_none_ends_in_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "data"
    line = command("synthetic", "--task", "rating", "--samples", 4, "--out", out)
    assert line.startswith(f"error: {out}: the folder cannot be created")


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
        (["made", "--task", "ratng"], "--task: invalid choice; seen 'ratng'; accepted: did you"),
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


# ---- packages that are not there ----------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("command", "extras"),
    [
        ("service", "lanistr[service,cpu]"),
        ("service.score", "lanistr[service,cpu]"),
        ("clients tasks", "lanistr[client]"),
        ("training.prepare", "lanistr[training]"),
        ("training.pretrain", "lanistr[training]"),
        ("training.finetune", "lanistr[training]"),
        ("training.evaluate", "lanistr[training]"),
        ("export", "lanistr[training,export,cpu]"),
        ("export verify", "lanistr[training,export,cpu]"),
    ],
)
def test_a_package_that_is_not_installed_is_one_line_with_what_brings_it(command, extras):
    words = [sys.executable, "-S", "-m", *command.split()]  # without site there are no packages
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f" is not installed; accepted: {extras}" in line


def test_who_imports_without_a_package_has_a_traceback():
    for package in ("service.app", "training.run", "export.builds", "clients"):
        words = [sys.executable, "-S", "-c", f"import {package}"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")


def test_a_module_of_ours_that_is_missing_is_a_defect(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    begins = "from lanistr.command import name_missing_packages as name\nname('nothing')\n"
    (tmp_path / "mine" / "__init__.py").write_text(begins)
    for missing, code, last in (
        ("service.gone", 1, "ModuleNotFoundError: No module named 'service.gone'"),
        ("gone", 2, "error: gone is not installed; accepted: nothing"),
    ):
        (tmp_path / "mine" / "__main__.py").write_text(f"import {missing}\n")
        words = [sys.executable, "-m", "mine"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (code, last)


def test_what_a_command_has_begun_is_cleared_away_when_it_is_interrupted_though_imports_were_not():
    """A package that begins with a command leaves at once, until the command itself runs."""
    program = (
        "import os, signal, sys\n"
        "from lanistr.command import leave_at_once, run_command\n"
        "sys.argv = ['-m']\n"
        "leave_at_once()\n"
        "def main():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    finally:\n"
        "        print('cleared away')\n"
        "run_command(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleared away\n", "interrupted\n")
