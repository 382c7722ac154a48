"""Serving needs no training stack, tells nobody, and leaves nothing behind."""

import os
import subprocess
import sys

PROGRAM = """
import asyncio, sys
from service.app import create_app
from service.settings import Settings
import service.__main__
app = create_app(Settings())
async def live():
    async with app.router.lifespan_context(app): pass
asyncio.run(live())
print(*sorted(sys.modules))
"""


def test_the_service_on_onnx_imports_neither_torch_nor_telemetry_and_keeps_no_book(tmp_path):
    """A book of sessions to report, as onnxruntime would."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = done.stdout.split()
    imported = {name.partition(".")[0] for name in modules}
    assert "onnxruntime" in imported
    assert not imported & {"torch", "transformers", "torchvision", "timm", "pyarrow", "onnx"}
    assert not [name for name in modules if name.startswith("opentelemetry.sdk")]
    assert list(tmp_path.iterdir()) == []
