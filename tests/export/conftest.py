"""The runs of `tests/fixtures_runs.py`, and one thread: a second would only wait."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.fixtures_runs")


@pytest.fixture(autouse=True, scope="session")
def _one_thread(one_thread: None) -> None:
    pass
