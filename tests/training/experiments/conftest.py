"""The commands of a table's jobs, forked."""

import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from tests.forked import Command
from training.experiments import jobs


@pytest.fixture
def forked_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the commands of the jobs: to import takes longer than all that they do here.

    One test of `test_jobs` has its command started as users have.
    """

    @contextmanager
    def popen(words: list[str], stdout: IO[bytes], env: dict[str, str], **_: Any) -> Any:
        assert words[:2] == [sys.executable, "-m"]
        process = Command(words[2:], Path(stdout.name), variables=env)
        yield process
        process.wait()

    monkeypatch.setattr(jobs, "subprocess", SimpleNamespace(Popen=popen))
