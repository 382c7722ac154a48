"""Folders that appear as a whole or not at all, and what a killed process leaves of them."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lanistr.draft import aside_prefix, draft_folder, fsync, held
from lanistr.errors import ConfigError
from lanistr.leftovers import sweep

REPLACE = """
import os, shutil, sys
from pathlib import Path
from lanistr.draft import draft_folder
def killed(self, target, rename=Path.rename):
    if "-draft-" in self.name:
        os._exit(9)
    return rename(self, target)
def removing(path, ignore_errors):
    next(each for each in Path(path).rglob("*") if each.is_file()).unlink()
    os._exit(9)
if sys.argv[2] == "between the renames":
    Path.rename = killed
else:
    shutil.rmtree = removing
with draft_folder(Path(sys.argv[1])) as draft:
    (draft / "a.txt").write_text("new")
"""


def written(folder: Path, words: str) -> Path:
    with draft_folder(folder) as draft:
        (draft / "a.txt").write_text(words)
        (draft / "b.txt").write_text(words)
    return folder


def killed(folder: Path, when: str) -> None:
    """Have a process replace a folder that is killed while it does; it is long ago."""
    done = subprocess.run([sys.executable, "-c", REPLACE, folder, when], check=False)
    assert done.returncode == 9
    for left in folder.parent.glob(".*"):
        os.utime(left, (0, 0))


# ---- a folder in its place ----------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o077, 0o002, 0o022])
def test_a_folder_is_for_those_for_whom_the_umask_lets_it_be(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        written(tmp_path / "x", "new")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("there", [True, False])
def test_all_is_on_the_disk_before_a_folder_has_its_place_and_then_the_place_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
):
    folder = tmp_path / "x"
    if there:
        written(folder, "old")
    settled: list[tuple[str, str]] = []

    def noted(path: Path) -> None:
        fsync(path)
        inside = "" if path == tmp_path else path.relative_to(draft).as_posix()
        stands = (folder / "a.txt").read_text() if folder.exists() else "none"
        settled.append((inside, stands))

    monkeypatch.setattr("lanistr.draft.fsync", noted)
    with draft_folder(folder) as draft:
        (draft / "inner").mkdir()
        for name in ("a.txt", "inner/b.txt"):
            (draft / name).write_text("new")
    before = "old" if there else "none"
    assert settled[-1] == ("", "new")
    assert sorted(settled[:-1]) == [(p, before) for p in (".", "a.txt", "inner", "inner/b.txt")]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("made", ["-draft-", "-old-"])
def test_interrupted_in_the_moment_that_a_folder_is_made_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
):
    folder = written(tmp_path / "x", "old")
    interrupted: list[Path] = []
    mkdir = os.mkdir

    def make(path: Path, mode: int = 0o777) -> None:
        mkdir(path, mode)
        if made in Path(path).name:
            interrupted.append(path)
            raise KeyboardInterrupt

    monkeypatch.setattr("os.mkdir", make)
    with pytest.raises(KeyboardInterrupt):
        written(folder, "new")
    assert len(interrupted) == 1
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "a.txt").read_text() == "old"


@pytest.mark.parametrize("what", ["a filled folder", "a file", "a link"])
def test_a_new_folder_takes_the_place_of_nothing_but_an_empty_one(tmp_path: Path, what: str):
    folder = tmp_path / "x"

    def put_meanwhile() -> None:
        with draft_folder(folder, new=True) as draft:
            (draft / "a.txt").write_text("new")
            if what == "a file":
                folder.write_text("mine")
            elif what == "a link":
                folder.symlink_to(tmp_path)
            else:
                (folder / "mine").mkdir(parents=True)

    with pytest.raises(ConfigError, match="something was put there in the meantime"):
        put_meanwhile()
    assert list(tmp_path.iterdir()) == [folder]
    assert not (folder / "a.txt").exists()
    other = tmp_path / "empty"
    other.mkdir()
    with draft_folder(other, new=True) as draft:
        (draft / "a.txt").write_text("new")
    assert (other / "a.txt").read_text() == "new"


def test_what_was_replaced_does_not_wait_to_be_put_back_where_names_cannot_be_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = written(tmp_path / "x", "old")

    def broken(path: Path) -> None:
        if path == tmp_path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("lanistr.draft.fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        written(folder, "new")
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "a.txt").read_text() == "new"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_where_a_file_system_settles_files_alone_a_folder_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def files_alone(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) or (tmp_path / "no file either").exists():
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", files_alone)
    if number == errno.EIO:  # which is no answer of a file system that knows no better
        with pytest.raises(OSError, match=r"Input/output error: '.*/\.x-draft-[^/]*'"):
            written(tmp_path / "x", "new")
        assert list(tmp_path.iterdir()) == []
        return
    assert (written(tmp_path / "x", "new") / "a.txt").read_text() == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]
    (tmp_path / "no file either").touch()
    with pytest.raises(OSError, match=r"/[ab]\.txt'"):
        written(tmp_path / "y", "new")


def test_a_lock_on_a_file_of_a_draft_is_kept(tmp_path: Path):
    with draft_folder(tmp_path / "x") as draft:
        file = (draft / ".lock").open("w")
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    another = "import fcntl as f, sys; f.lockf(open(sys.argv[1], 'r+'), f.LOCK_EX | f.LOCK_NB)"
    with file:
        words = [sys.executable, "-c", another, str(tmp_path / "x" / ".lock")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "BlockingIOError" in done.stderr


# ---- what a killed process leaves ----------------------------------------------------------------


def test_what_was_set_aside_when_a_process_was_killed_is_put_back(tmp_path: Path):
    folder = written(tmp_path / "x", "old")
    killed(folder, "between the renames")
    assert not folder.exists()
    sweep(folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert [(folder / name).read_text() for name in ("a.txt", "b.txt")] == ["old", "old"]


@pytest.mark.parametrize("there", [True, False])
def test_half_of_what_was_replaced_is_removed_and_never_put_back(tmp_path: Path, there: bool):
    folder = written(tmp_path / "x", "old")
    killed(folder, "while the old one is removed")
    assert len(list(tmp_path.iterdir())) == 2
    if not there:
        shutil.rmtree(folder)
    sweep(folder)
    assert list(tmp_path.iterdir()) == [folder] * there
    assert not there or (folder / "a.txt").read_text() == "new"


@pytest.mark.parametrize("what", ["a folder of somebody else's", "no folder"])
def test_what_cannot_be_cleared_up_stays_and_is_in_nobody_s_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
):
    left = tmp_path / (aside_prefix(tmp_path / "x") + "a1b2c3d4")
    left.touch() if what == "no folder" else left.mkdir(mode=0)
    os.utime(left, (0, 0))
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)  # whose parents another user may not enter
    caplog.set_level("INFO", logger="lanistr.leftovers")
    user = os.geteuid()
    if not user:  # who may do everything
        os.seteuid(65534)
    try:
        sweep(Path("x"))
    finally:
        os.seteuid(user)
    assert list(tmp_path.iterdir()) == [left]
    assert f"could not remove {left.name}, left by an interrupted run: " in caplog.text


@pytest.mark.parametrize("why", ["it is held", "it is young"])
def test_what_another_process_is_just_replacing_is_left_to_it(tmp_path: Path, why: str):
    aside = tmp_path / (aside_prefix(tmp_path / "x") + "a1b2c3d4")
    (aside / "x").mkdir(parents=True)
    with held(aside if why == "it is held" else tmp_path):
        if why == "it is held":
            os.utime(aside, (0, 0))
        sweep(tmp_path / "x")
        assert (aside / "x").is_dir()
