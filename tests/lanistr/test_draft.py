"""Folders that appear as a whole or not at all."""

import os
from pathlib import Path

import pytest

from lanistr.draft import draft_folder


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
