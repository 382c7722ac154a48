"""The runs of `tests/fixtures_runs.py`, and one thread: a second would only wait."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export.graphs import GraphSource
from export.onnx import Signature
from lanistr.bundle import Bundle
from tests.forked import preload

preload("export.__main__", "service.__main__", "service.engine.backends.onnx")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.fixtures_runs")


@pytest.fixture(autouse=True, scope="session")
def _one_thread(one_thread: None) -> None:
    pass


@pytest.fixture
def take_graphs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that has exports take the ONNX graphs in float32 of a bundle.

    torch takes seconds for each. They are compared as ever, so the bundle must be of the same run.
    """

    def take(bundle: Path) -> None:
        graphs = Bundle.open(bundle).build("onnx", "fp32").graphs

        def copy(source: GraphSource, path: Path) -> Signature:
            graph = graphs[path.stem]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / graph.file, path)
            return Signature(dict(graph.inputs), dict(graph.outputs))

        monkeypatch.setattr("export.builds.export_onnx", copy)

    return take


@pytest.fixture
def stars_graphs(take_graphs: Callable[[Path], None], stars_bundle: Path) -> None:
    """Exports of `stars_finetuned` take the graphs of its bundle."""
    take_graphs(stars_bundle)
