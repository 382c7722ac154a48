"""What runs the graphs of a bundle. One module a backend; only the chosen one is imported."""

from collections.abc import Callable
from typing import Literal

from lanistr.bundle import Bundle
from lanistr.command import signals_waiting
from lanistr.errors import ConfigError
from lanistr.manifest import Precision
from service.engine.backends.backend import Backend, Floats, Tokens

__all__ = ["Backend", "BackendName", "Floats", "Tokens", "open_backend"]

BackendName = Literal["onnx", "torch"]


def open_backend(
    bundle: Bundle,
    backend: BackendName,
    device: str,
    precision: Literal["auto"] | Precision,
    threads: int,
) -> Backend:
    """Load the graphs of a bundle onto one device, and try them.

    Args:
        bundle: whose graphs.
        backend: onnx, by onnxruntime; torch, by TorchScript, whose graphs are programs.
        device: cpu; cuda or cuda:N, a GPU; auto, the first GPU that the backend finds, else the
            CPU.
        precision: auto, the fastest on that device that keeps the task's metric.
        threads: of a graph on the CPU; one graph of a bundle runs at a time.

    Raises:
        BundleError: the bundle has no such graphs, or one cannot be loaded, is not what the
            manifest says, or does not compute.
        ConfigError: the backend's library is not installed, or there is no such device.
    """
    try:
        with signals_waiting():
            load = _loader(backend)
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"{exc.name} is not installed",
            code="no_backend",
            field="backend",
            seen=backend,
            accepted="onnx, which needs onnxruntime (extra `cpu` or `gpu`); or torch, which needs "
            "torch (extra `torch`)",
        ) from exc
    return load(bundle, device, precision, threads)


def _loader(backend: BackendName) -> Callable[..., Backend]:
    if backend == "torch":
        from service.engine.backends.torch import TorchBackend

        return TorchBackend
    from service.engine.backends.onnx import OnnxBackend

    return OnnxBackend
