"""The clients stand alone."""

import subprocess
import sys

CHECK = """
import sys
import clients, clients.__main__
others = {"lanistr", "service", "training", "export", "benchmarks", "torch", "numpy", "pydantic"}
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(others & loaded))
"""


def test_importing_the_clients_brings_in_nothing_else_of_the_repository():
    outcome = subprocess.run(
        [sys.executable, "-c", CHECK], capture_output=True, text=True, check=False, timeout=60
    )
    assert (outcome.returncode, outcome.stdout.split(), outcome.stderr) == (0, [], "")
