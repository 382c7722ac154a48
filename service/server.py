"""One process that answers HTTP: its socket, its server, and what it says of itself."""

import json
import logging
import shlex
import signal
import socket
import sys
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from lanistr.errors import ConfigError
from service.api.access import record_rejection
from service.examples import example
from service.garbage import freeze_objects
from service.models import Models, named
from service.protocol import bounded
from service.settings import Settings

_log = logging.getLogger(__name__)


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Take the port, so that nobody else does while the bundles are read.

    Args:
        host: address of this machine, or its name.
        port: 0 for any that is free.
        shared: with other processes that take it so too.

    Raises:
        ConfigError: the address is none of this machine, or the port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _socket(family, kind, protocol, address, shared=shared)
    except (OSError, UnicodeError) as exc:
        # Python's codec for names is asked before the system: 127.0.0..1 is none of any.
        fault = exc.strerror if isinstance(exc, OSError) else "not a valid host name"
        raise ConfigError(
            f"cannot listen: {fault}",
            code="no_port",
            field="port",
            seen=f"{host}:{port}",
            accepted="a --host of this machine and a free --port, such as --port 8001",
        ) from exc


def listen_together(host: str, port: int, processes: int) -> list[socket.socket]:
    """Take the port for several processes, a socket each: the system deals connections out.

    Raises:
        ConfigError: see `listen`.
    """
    with listen(host, port) as alone:  # which fails if anyone is there, also if they would share
        port = alone.getsockname()[1]
    return [listen(host, port, shared=True) for _ in range(processes)]


def listen_anew(listener: socket.socket) -> socket.socket:
    """Return a replacement for a socket of `listen_together`, on which nobody listens yet.

    Connections that wait at the old one are cut off; new ones go to the others.

    Raises:
        OSError: there cannot be another just now; the old one stays.
    """
    kind = listener.family, listener.type, listener.proto
    fresh = _socket(*kind, listener.getsockname(), shared=True)
    listener.close()
    return fresh


def _socket(family: int, kind: int, protocol: int, address: Any, *, shared: bool) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def announce(app: FastAPI, host: str, port: int) -> None:
    """Log what is served, where, and a request to try."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    models: Models = app.state.models
    for task in models:
        for each in models.versions(task).values():
            build = each.engine.build.precision
            place = each.bundle.folder
            _log.info("%s, %s, on %s, from %s", named(each), build, each.engine.device, place)
            if each.bundle.manifest.demo:
                _log.warning("%s: DEMO WEIGHTS, PREDICTIONS MEAN NOTHING", task)
    settings: Settings = app.state.settings
    if settings.keys is None:
        _log.warning(
            "no API keys: anyone who can reach this address can use the service (see --keys)"
        )
    first = next(iter(models.values())).bundle.task
    body = shlex.quote(json.dumps(example(first)))
    _log.info("listening on %s, documentation on %s/docs, for example:", url, url)
    _log.info(
        "curl -s %s/predict/%s -H 'Content-Type: application/json' -d %s", url, first.name, body
    )


def serve(app: FastAPI, listener: socket.socket, settings: Settings) -> None:
    """Serve until SIGTERM or an interrupt, then finish what is under way."""
    if sys.platform == "linux":  # connections take it over: none waits longer to be read
        patience = int(min(1e3 * settings.body_seconds, 2**31 - 1))  # milliseconds
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            http=bounded(
                settings.header_seconds,
                settings.header_bytes,
                settings.body_seconds,
                partial(record_rejection, app.state.metrics),
            ),
            ws="none",
            timeout_keep_alive=settings.idle_seconds,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )
    freeze_objects()

    def leave(*_: object) -> None:
        server.should_exit = True

    # Until uvicorn listens to them itself, and when it has finished, as it then raises them again.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `service.child.WAITING`
    server.run(sockets=[listener])
