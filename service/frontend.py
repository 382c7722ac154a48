"""A front end: a process that answers HTTP, reads and preprocesses, and has runners compute.

python -m service.frontend              started by `service.supervisor`
"""

import os
import signal

from lanistr.command import leave_when_asked, run_command
from service import logs
from service.app import create_app
from service.child import Child
from service.server import announce, serve
from service.settings import read_settings


def main() -> None:
    """Serve until told to stop."""
    child, settings = Child.from_environment(), read_settings()
    logs.set_up(settings.log_format)
    leave_when_asked()
    try:
        ready = child.live(lambda: os.kill(os.getpid(), signal.SIGTERM))
        with child.socket() as listener:
            app = create_app(settings, child)
            listener.listen()
            if child.announces:
                announce(app, settings.host, listener.getsockname()[1])
            ready()
            serve(app, listener, settings)
    finally:
        child.leave()


if __name__ == "__main__":
    run_command(main)
