"""Serve exported bundles over HTTP.

    python -m service --bundles bundles/
    python -m service keys new ward-7 >> keys.yaml

A wrong setting, a damaged bundle, a port in use: one line and exit code 2. SIGTERM stops accepting,
finishes what is under way, and leaves with 0; before it serves it leaves with 143, or with 0 if it
has begun to start `--workers`. SIGHUP looks at bundles and keys now, and opens the audit log anew.
"""

import logging
import sys

from lanistr.command import CommandParser, leave_when_asked, run_command
from service import logs
from service.api.key_file import new_key
from service.app import create_app
from service.hangup import end_on_hangup
from service.server import announce, listen, serve
from service.settings import read_settings
from service.supervisor import supervise

_NEW_KEY_EXAMPLE = """example:
  python -m service keys new ward-7 --tasks mortality --per-minute 120 >> keys.yaml
  python -m service --keys keys.yaml
"""

_log = logging.getLogger("service")


def main() -> None:
    """Read the command line, open everything, serve until told to stop."""
    if sys.argv[1:2] == ["keys"]:
        end_on_hangup()
        make_key(sys.argv[2:])
        return
    leave_when_asked()
    settings = read_settings()
    logs.set_up(settings.log_format)
    if settings.workers:
        supervise(settings, sys.argv[1:])
        return
    with listen(settings.host, settings.port) as listener:
        app = create_app(settings)
        listener.listen()
        announce(app, settings.host, listener.getsockname()[1])
        serve(app, listener, settings)
    _log.info("left")


def make_key(arguments: list[str]) -> None:
    """Make an API key: the key itself to the terminal, its line for the file to standard output.

    Raises:
        ConfigError: no such name or limit.
    """
    parser = CommandParser(
        prog="python -m service keys",
        description="Make an API key. The key is shown once, on standard error. The line for the "
        "key file, which contains only its hash, goes to standard output.",
        epilog=_NEW_KEY_EXAMPLE,
    )
    parser.add_argument("new", choices=["new"], metavar="new")
    parser.add_argument("name", help="name of the key's holder, for logs")
    parser.add_argument("--tasks", nargs="*", help="tasks that the key gives access to (all)")
    parser.add_argument("--metrics", action="store_true", help="allow the key to read /metrics")
    parser.add_argument("--per-minute", type=float, help="maximum requests per minute (no limit)")
    parser.add_argument("--burst", type=int, help="maximum requests at once (same as per minute)")
    chosen = vars(parser.parse_args(arguments))
    del chosen["new"]
    key, line = new_key(**{name: each for name, each in chosen.items() if each is not None})
    print(key, file=sys.stderr)
    print(line)


if __name__ == "__main__":
    run_command(main)
