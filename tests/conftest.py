"""What every test may ask for."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Each client of httpx reads the certificates of every authority, for 45 ms: no test speaks TLS.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull

# A shell has what it starts in the background ignore interrupts, and so would what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("house", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def open_data() -> Path:
    """The folder of open records that stands beside the project."""
    folder = Path(os.environ.get("LANISTR_OPEN_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        reason = f"no open data at {folder}; set LANISTR_OPEN_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
