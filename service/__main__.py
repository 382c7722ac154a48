"""Serve exported bundles over HTTP.

    python -m service --bundles bundles/

A wrong setting, a damaged bundle, a port in use: one line and exit code 2. SIGTERM stops accepting,
finishes what is under way, and leaves with 0.
"""

import argparse
import json
import logging
import shlex
import signal
import socket

import uvicorn
from fastapi import FastAPI

from lanistr.command import CommandParser, run_command
from lanistr.errors import ConfigError
from service.api.examples import example
from service.app import create_app
from service.models import Models, named
from service.settings import Settings

_EXAMPLE = """example:
  python -m service --bundles bundles/ --port 8000
  curl -s http://127.0.0.1:8000/tasks
"""

_log = logging.getLogger("service")


def main() -> None:
    """Read the command line, open everything, serve until told to stop."""
    settings = read_settings()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # `api.access` logs every exchange
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings quote the body
    with listen(settings.host, settings.port) as listener:
        app = create_app(settings)
        listener.listen()
        announce(app, settings.host, listener.getsockname()[1])
        serve(app, listener, settings.drain_seconds)
    _log.info("left")


def serve(app: FastAPI, listener: socket.socket, drain_seconds: int) -> None:
    """Serve until SIGTERM or an interrupt, then finish what is under way."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=drain_seconds,
        )
    )
    # uvicorn finishes, then raises the signal again: by now there is nothing left to end.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: None)
    server.run(sockets=[listener])


def read_settings(arguments: list[str] | None = None) -> Settings:
    """Read the command line; every field of `Settings` is an option.

    Raises:
        ConfigError: a value is not what its option takes.
    """
    parser = CommandParser(
        prog="python -m service",
        description="Serve exported bundles over HTTP.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or not field.default else f" ({field.default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.split("_")[-1].upper(),
            default=argparse.SUPPRESS,
            help=f"{field.description}{default}",
        )
    return Settings.parse(vars(parser.parse_args(arguments)), ConfigError, "settings")


def listen(host: str, port: int) -> socket.socket:
    """Take the port, so that nobody else does while the bundles are read.

    Raises:
        ConfigError: the address is none of this machine, or the port is in use.
    """
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as exc:
        if listener is not None:
            listener.close()
        raise ConfigError(
            f"cannot listen: {exc.strerror}",
            code="no_port",
            field="port",
            seen=f"{host}:{port}",
            accepted="an address of this machine and a free port, such as --port 8001",
        ) from exc
    return listener


def announce(app: FastAPI, host: str, port: int) -> None:
    """Log what is served, where, and a request to try."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    models: Models = app.state.models
    for task in models:
        for each in models.versions(task).values():
            build = each.backend.build.precision
            place = each.bundle.folder
            _log.info("%s, %s, on %s, from %s", named(each), build, each.backend.device, place)
            if each.bundle.manifest.demo:
                _log.warning("%s: DEMO WEIGHTS, PREDICTIONS MEAN NOTHING", task)
    first = next(iter(models.values())).bundle.task
    body = shlex.quote(json.dumps(example(first)))
    _log.info("listening on %s, documentation on %s/docs, for example:", url, url)
    _log.info(
        "curl -s %s/predict/%s -H 'Content-Type: application/json' -d %s", url, first.name, body
    )


if __name__ == "__main__":
    run_command(main)
