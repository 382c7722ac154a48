"""A real browser: the machine's Chromium or Chrome, or one that `playwright install` fetched."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

_ADVICE = (
    "the playground's tests need Chromium or Chrome: install it from your system's packages, or run"
    " `.venv/bin/playwright install chromium`, or name one by LANISTR_CHROMIUM"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless browser; without one, skip and say so."""
    with sync_playwright() as playwright:
        named = os.environ.get("LANISTR_CHROMIUM")
        found = [named] if named else [path for name in _NAMES if (path := shutil.which(name))]
        own = playwright.chromium.executable_path
        path = next(iter(found), own if Path(own).is_file() else None)
        if path is None:
            pytest.skip(_ADVICE)
        # Containers run as root and have a small /dev/shm.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield browser
        finally:
            browser.close()
