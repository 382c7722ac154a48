"""The graphs of one bundle, run by a thread of this process."""

from lanistr.bundle import Bundle
from lanistr.modalities import Modality
from service.engine.backends.onnx import OnnxBackend
from service.engine.batching import paying
from service.engine.cache import TokenCache
from service.engine.cost import Cost
from service.engine.runner import Job, Result, Runner
from service.engine.scheduler import Scheduler
from service.metrics import Metrics
from service.settings import Settings


class LocalEngine(Scheduler[Job, Result]):
    """See `service.engine.engine.Engine`.

    Args:
        bundle: whose graphs.
        settings: where and how they are run.
        cache: of what encoders return.
        metrics: where queue, batches and runs are noted.

    Raises:
        BundleError: see `OnnxBackend`.
    """

    available = True

    def __init__(
        self, bundle: Bundle, settings: Settings, cache: TokenCache, metrics: Metrics
    ) -> None:
        backend = OnnxBackend(bundle, settings.device, settings.precision, settings.threads)
        self.build, self.device = backend.build, backend.device
        width, sizes = bundle.manifest.width, bundle.preprocessor.dimensions()
        words = sizes.get(Modality.TEXT, {}).get("max_tokens", 1)
        noted, budget = metrics.task(bundle.task.name), settings.batch_tokens
        runner = Runner(
            backend,
            Cost(backend.build.graphs),
            cache,
            width=width,
            budget=budget,
            together=paying(backend, width, words),
            metrics=noted,
        )
        super().__init__(runner, runner.cost, budget=budget, metrics=noted)
