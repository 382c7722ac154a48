"""Which build of a bundle is run: the fastest one that is known to predict as well as the model."""

import logging
from collections.abc import Sequence
from typing import Literal

from lanistr.bundle import Bundle
from lanistr.manifest import MOST_FALL, Build, Precision, Runtime

_log = logging.getLogger(__name__)


def choose_build(
    bundle: Bundle,
    runtime: Runtime,
    precision: Literal["auto"] | Precision,
    fastest: Sequence[Precision],
) -> Build:
    """Return the build to be run.

    Args:
        bundle: whose builds.
        runtime: that they are for.
        precision: asked for by name, it is taken whatever it costs. auto: the first of `fastest`
            that costs no more of the task's metric than `MOST_FALL` points; or whatever there is.
        fastest: all precisions of the runtime, on the device that is meant.

    Raises:
        BundleError: there is no such build.
    """
    if precision != "auto":
        return bundle.build(runtime, precision)
    unfit = _unfit(bundle, runtime)
    return bundle.build(runtime, *sorted(fastest, key=lambda each: each in unfit))


def _unfit(bundle: Bundle, runtime: Runtime) -> set[Precision]:
    """Return what costs too much of the metric, or nobody knows how much; and say so."""
    found: set[Precision] = set()
    for build in bundle.manifest.builds:
        known = build.fall is not None and build.fall <= MOST_FALL
        if build.runtime == runtime and build.precision != "fp32" and not known:
            found.add(build.precision)
            lost = "unknown" if build.fall is None else f"{build.fall:g}"
            _log.warning(
                "%s: %s is used only if --precision asks for it or there is nothing else: points "
                "of %s lost: %s; accepted: at most %g",
                *(bundle.folder, build.name, bundle.manifest.metric or "the metric"),
                *(lost, MOST_FALL),
            )
    return found
