"""The bundles of `tests/fixtures_runs.py`: the demo bundles have no TorchScript."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.forked import Command, preload

preload("service.__main__", "service.engine.backends.onnx", "service.engine.backends.torch")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.fixtures_runs")


@pytest.fixture
def forked_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers find imported what takes longer to import than they run for."""

    def start(words: list[str], **_: Any) -> Command:
        return Command(words[2:], Path(os.devnull))

    started = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr("benchmarks.servers.subprocess", started)
