"""SIGHUP: what was read from files (keys, bundles) is looked at again.

In a command the signal is blocked from the import of the package on, until something handles it.
Threads and processes started meanwhile inherit that. Unblocked, it would end a service that is
still starting; ignored, a rotated audit log would be written to for good.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_log = logging.getLogger(__name__)


def end_on_hangup() -> None:
    """Let the signal end a command that reads no file again, as it ends other programs."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


@contextmanager
def on_hangup(actions: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Call the actions, which must not take long, on the running loop whenever the signal comes."""
    if threading.current_thread() is not threading.main_thread():  # only it gets signals
        yield
        return

    def act() -> None:
        _log.info("SIGHUP: checking %s", ", ".join(actions))
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
