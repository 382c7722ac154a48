"""Folders that appear as a whole or not at all."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lanistr.draft import draft_folder, settle


def written(folder: Path, words: str) -> Path:
    with draft_folder(folder) as draft:
        (draft / "a.txt").write_text(words)
        (draft / "b.txt").write_text(words)
    return folder


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
        settle(path)
        inside = "" if path == tmp_path else path.relative_to(draft).as_posix()
        stands = (folder / "a.txt").read_text() if folder.exists() else "none"
        settled.append((inside, stands))

    monkeypatch.setattr("lanistr.draft.settle", noted)
    with draft_folder(folder) as draft:
        (draft / "inner").mkdir()
        for name in ("a.txt", "inner/b.txt"):
            (draft / name).write_text("new")
    before = "old" if there else "none"
    assert settled[-1] == ("", "new")
    assert sorted(settled[:-1]) == [(p, before) for p in (".", "a.txt", "inner", "inner/b.txt")]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_lock_on_a_file_of_a_draft_is_kept(tmp_path: Path):
    with draft_folder(tmp_path / "x") as draft:
        file = (draft / ".lock").open("w")
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    another = "import fcntl as f, sys; f.lockf(open(sys.argv[1], 'r+'), f.LOCK_EX | f.LOCK_NB)"
    with file:
        words = [sys.executable, "-c", another, str(tmp_path / "x" / ".lock")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "BlockingIOError" in done.stderr
