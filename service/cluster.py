"""The service on many machines: an application of Ray Serve, whose replicas are services each.

    serve run service.cluster:application bundles=bundles/mortality device=cpu
    serve deploy deploy/cluster/ray-serve.yaml

Ray speaks HTTP, deals requests out, and starts, stops and exchanges replicas; everything else of a
replica is as in a service of one process, its queue and batches too. A replica is used once its
models are warm, and replaced when they cannot answer any more. Needs the extra `cluster`.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from lanistr.errors import ConfigError, unknown_name
from service import logs
from service.api.health import status_of
from service.app import create_app
from service.garbage import freeze_objects
from service.settings import Settings

_RAYS = frozenset(
    {"host", "port", "workers", "header_seconds", "header_bytes", "body_seconds", "idle_seconds",
     "drain_seconds"}
)  # fmt: skip
"""Settings of connections and processes, which are Ray's here."""

_LOOK = 0.05
"""Seconds between two looks whether the models are warm."""


@serve.ingress()
class Service:
    """One replica.

    Args:
        settings: of the service; where they name no number of threads, Ray's `num_cpus` holds.

    Raises:
        BundleError: see `create_app`.
        ConfigError: likewise.
    """

    def __init__(self, settings: Settings) -> None:
        logs.set_up(settings.log_format)
        if "threads" not in settings.model_fields_set:
            # The machine's cores are shared with other replicas, which only Ray knows.
            cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
            settings = settings.model_copy(update={"threads": max(1, int(cores))})
        self._app = create_app(settings)
        freeze_objects()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return what answers."""
        return self._app

    async def check_health(self) -> None:
        """Wait until the models are warm.

        Raises:
            RuntimeError: they cannot answer; Ray replaces the replica.
        """
        while (status := status_of(self._app)) == "starting":  # noqa: ASYNC110  Ray awaits this
            await asyncio.sleep(_LOOK)
        if status != "ready":
            raise RuntimeError(f"the service is not ready: {status}")


def application(arguments: Mapping[str, Any]) -> serve.Application:
    """Return the application that serves a folder of bundles.

    Args:
        arguments: settings of the service by name, as options of `python -m service`.

    Raises:
        ConfigError: a setting is wrong, or Ray's to choose.
    """
    for name in sorted(_RAYS & set(arguments)):
        raise ConfigError(
            "this setting is controlled by Ray",
            code="not_here",
            field=name,
            seen=arguments[name],
            accepted=unknown_name(name, set(Settings.model_fields) - _RAYS),
        )
    settings = Settings.parse(dict(arguments), ConfigError, "args")
    return serve.deployment(Service).bind(settings)
