"""Serving needs no training stack."""

import os
import subprocess
import sys

from service.settings import DEMO_BUNDLES

PROGRAM = """
import sys
from pathlib import Path
from service.app import create_app
from service.settings import Settings
import service.__main__
create_app(Settings(bundles=Path(sys.argv[1])))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_service_on_onnx_imports_no_torch():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(DEMO_BUNDLES)],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(done.stdout.split())
    assert "onnxruntime" in imported
    assert not imported & {"torch", "transformers", "torchvision", "timm", "pyarrow", "onnx"}


def test_onnxruntime_keeps_no_book_of_sessions_to_report(tmp_path):
    program = (
        "from lanistr.session import open_session\n"
        "from service.engine.backends.onnx import OnnxBackend\n"
    )
    home = {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=os.environ | home, check=True)
    assert list(tmp_path.iterdir()) == []
