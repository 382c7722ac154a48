"""The runs of `tests/fixtures_runs.py`, and one thread: a second would only wait."""

import pytest

from tests.forked import preload

preload("training.pretrain", "training.finetune", "training.prepare.__main__")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.fixtures_runs")


@pytest.fixture(autouse=True, scope="session")
def _one_thread(one_thread: None) -> None:
    pass
