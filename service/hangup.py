"""SIGHUP: whoever has read a file looks at it again."""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_log = logging.getLogger(__name__)


@contextmanager
def on_hangup(actions: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Call the actions, which must not take long, on the running loop whenever the signal comes."""
    if threading.current_thread() is not threading.main_thread():  # only it gets signals
        yield
        return

    def act() -> None:
        _log.info("SIGHUP: looking at %s", ", ".join(actions))
        for action in actions.values():
            action()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, act)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # not the default, which ends the process
