"""SIGHUP: whoever has a file reads or opens it again."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_log = logging.getLogger(__name__)


@contextmanager
def on_hangup(actions: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Run the actions, each in a thread, whenever the signal comes; on the running event loop."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def act() -> None:
        _log.info("hangup: %s", ", ".join(actions) or "nothing to do")
        for action in actions.values():
            await asyncio.to_thread(action)

    def start() -> None:
        task = loop.create_task(act())
        running.add(task)  # the loop itself holds a task only weakly
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, start)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # not the default, which ends the process
