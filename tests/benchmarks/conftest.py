"""The bundles of `tests/fixtures_runs.py`: the demo bundles have no TorchScript."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.fixtures_runs")
