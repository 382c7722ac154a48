"""The shared core of LANISTR: what a record, a task, a batch, a bundle and a model are.

Everything outside `lanistr.model` imports without torch, so that serving stays small.
"""

import os

# Unless it reads this when it is imported, onnxruntime reports each session to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
