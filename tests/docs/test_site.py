"""The documentation as a site: no broken link, no page left out, nothing fetched from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_site_is_whole_and_works_without_a_network(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {page.stem for page in pages}
    for page in pages:
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*>", page.read_text("utf-8"))
        elsewhere = [each for each in loaded if re.search(r'(?:src|href)="(?:https?:)?//', each)]
        assert [each for each in elsewhere if 'rel="canonical"' not in each] == [], page.name
    assert "predict_many" in (tmp_path / "site" / "python.html").read_text("utf-8")
