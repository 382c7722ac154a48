"""SIGHUP: whoever has read a file looks at it again.

The signal waits from before the first file is opened until there is someone to act on it: were it
lost meanwhile, an audit log that was moved away would be written on for good.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_log = logging.getLogger(__name__)


def keep_hangup_waiting() -> None:
    """Have the signal wait until `on_hangup`; threads and processes begun meanwhile inherit it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


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
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # not the default, which ends the process
