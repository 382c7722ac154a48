"""Serve exported bundles over HTTP.

    python -m service --bundles bundles/
    python -m service keys new ward-7 >> keys.yaml

A wrong setting, a damaged bundle, a port in use: one line and exit code 2. SIGTERM stops accepting,
finishes what is under way, and leaves with 0. SIGHUP reads the keys again.
"""

import argparse
import json
import logging
import shlex
import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI

from lanistr.command import CommandParser, run_command
from lanistr.errors import ConfigError
from service import logs
from service.api.examples import example
from service.api.keys import new_key
from service.app import create_app
from service.models import Models, named
from service.protocol import bounded
from service.settings import Settings

_EXAMPLE = """example:
  python -m service --bundles bundles/ --port 8000
  curl -s http://127.0.0.1:8000/tasks
"""

_NEW_KEY_EXAMPLE = """example:
  python -m service keys new ward-7 --tasks mortality --per-minute 120 >> keys.yaml
  python -m service --keys keys.yaml
"""

_log = logging.getLogger("service")


def main() -> None:
    """Read the command line, open everything, serve until told to stop."""
    if sys.argv[1:2] == ["keys"]:
        make_key(sys.argv[2:])
        return
    settings = read_settings()
    logs.set_up(settings.log_format)
    with listen(settings.host, settings.port) as listener:
        app = create_app(settings)
        listener.listen()
        announce(app, settings.host, listener.getsockname()[1])
        serve(app, listener, settings)
    _log.info("left")


def serve(app: FastAPI, listener: socket.socket, settings: Settings) -> None:
    """Serve until SIGTERM or an interrupt, then finish what is under way."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            http=bounded(settings.header_seconds, settings.header_bytes, settings.body_seconds),
            ws="none",
            timeout_keep_alive=settings.idle_seconds,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )
    # uvicorn finishes, then raises the signal again: by now there is nothing left to end.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # before and after the application listens to it
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


def make_key(arguments: list[str]) -> None:
    """Make an API key: the key itself to the terminal, its line for the file to standard output.

    Raises:
        ConfigError: no such name or limit.
    """
    parser = CommandParser(
        prog="python -m service keys",
        description="Make an API key. It is shown once, on standard error; the line that lets its "
        "holder in, which holds its hash alone, goes to standard output.",
        epilog=_NEW_KEY_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("new", choices=["new"], metavar="new")
    parser.add_argument("name", help="of whoever will hold it, for logs")
    parser.add_argument("--tasks", nargs="*", help="that it may ask (all)")
    parser.add_argument("--metrics", action="store_true", help="let it read /metrics")
    parser.add_argument("--per-minute", type=float, help="requests (no limit)")
    parser.add_argument("--burst", type=int, help="requests at once (as many as in a minute)")
    chosen = vars(parser.parse_args(arguments))
    del chosen["new"]
    key, line = new_key(**{name: each for name, each in chosen.items() if each is not None})
    print(key, file=sys.stderr)
    print(line)


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
            precision, place = each.build.precision, each.bundle.folder
            devices = " and ".join(each.devices)
            _log.info("%s, %s, on %s, from %s", named(each), precision, devices, place)
            if each.bundle.manifest.demo:
                _log.warning("%s: DEMO WEIGHTS, PREDICTIONS MEAN NOTHING", task)
    settings: Settings = app.state.settings
    if settings.keys is None:
        _log.warning("open: everyone who reaches this address is answered (--keys)")
    first = next(iter(models.values())).bundle.task
    body = shlex.quote(json.dumps(example(first)))
    _log.info("listening on %s, documentation on %s/docs, for example:", url, url)
    _log.info(
        "curl -s %s/predict/%s -H 'Content-Type: application/json' -d %s", url, first.name, body
    )


if __name__ == "__main__":
    run_command(main)
