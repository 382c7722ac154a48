"""Everything that the OpenAPI document offers, and much that it does not, asked of a real server.

More of it, 10,000 cases and as many as wanted: see `schemathesis.toml`.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT


def test_every_answer_is_as_the_document_says_and_none_a_fault_of_ours(server, tmp_path: Path):
    report = tmp_path / "report.json"
    command = [
        Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json",
        "--phases", "examples,fuzzing", "--max-examples", "6",
        "--report", "json", "--report-json-path", report,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    said = json.loads(report.read_text())
    assert said["operations"]["tested"] == said["operations"]["total"]
    assert said["test_cases"]["generated"] > 100
    assert not said["errors"]
    assert "internal" not in server.log()
