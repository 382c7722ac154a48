"""What several files of tests here share."""

import pytest

from tests.training.prepare.tables import as_csv, prepared, rows
from training.data.store import Dataset


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The good table."""
    return prepared(tmp_path_factory.mktemp("usual"), as_csv(rows()))
