"""Every example of docs/clients.md does what the page says."""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
ADDRESS = "http://127.0.0.1:8000"


def test_every_example_does_what_stands_below_it(server, tmp_path, monkeypatch):
    for name in ("examples", "service"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANISTR_URL", server.url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    names = {"__name__": "examples"}
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```python") + page.count("```sh") > 8
    for language, code, wanted in blocks:
        code = code.replace("--seconds 2", "--seconds 0.2")
        if language == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(code.replace(ADDRESS, server.url), names)
            output = said.getvalue()
        else:
            done = subprocess.run(["bash", "-e"], input=code, capture_output=True, text=True)
            assert done.returncode == 0, (code, done.stderr)
            output = done.stdout
        alike = doctest.OutputChecker().check_output(wanted, output, doctest.ELLIPSIS)
        assert alike or not wanted, (code, output)
