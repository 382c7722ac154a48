"""The graphs of one bundle, run by threads of this process, one a device."""

from collections import Counter

from lanistr.bundle import Bundle
from lanistr.modalities import Modality
from service.engine.backends import Backend, open_backend
from service.engine.batching import measure
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
        inline: a single runner works in the event loop's own thread, see `Scheduler`.

    Raises:
        BundleError: see `open_backend`.
        ConfigError: likewise.
    """

    available = True

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings,
        cache: TokenCache,
        metrics: Metrics,
        *,
        inline: bool = False,
    ) -> None:
        backends = _open_backends(bundle, settings)
        self.build = backends[0].build
        self.device = " and ".join(dict.fromkeys(each.device for each in backends))
        width, sizes = bundle.manifest.width, bundle.preprocessor.dimensions()
        words = sizes.get(Modality.TEXT, {}).get("max_tokens", 1)
        cost, noted, budget = (
            Cost(self.build.graphs),
            metrics.task(bundle.task.name),
            settings.batch_tokens,
        )
        runners = []
        for each, times in Counter(backends).items():
            paces = measure(each, cost, width=width, longest=words, most=budget)
            runner = Runner(each, cost, cache, budget=budget, paces=paces, metrics=noted)
            runners += [runner] * each.ahead * times
        # Its tokens are spread over all graphs, each of which is run with so many.
        super().__init__(
            runners,
            runner.cost,
            budget=budget * len(self.build.graphs),
            added=runner.added if paces else None,
            metrics=noted,
            inline=inline and len(runners) == 1,
        )


def _open_backends(bundle: Bundle, settings: Settings) -> list[Backend]:
    """Load a bundle's graphs onto each device; shares of one CPU have them in common.

    All take the build that the first one chose: an answer must not depend on the device.
    """
    backends: list[Backend] = []
    for share in settings.shares():
        if backends and share.device == "cpu":
            backends.append(backends[0])
            continue
        precision = backends[0].build.precision if backends else share.precision
        backends.append(open_backend(bundle, share.backend, share.device, precision, share.threads))
    return backends
