"""When a service that is too busy is asked again: after longer and longer pauses, drawn at random.

Only 429 and 503 say that the same request may be answered later. Whatever else goes wrong may go
wrong again, or has been done already, so it is the caller's to decide.
"""

import random

_FIRST, _LONGEST = 0.5, 16.0
"""Seconds of the first pause at most, and of any."""


class Patience:
    """The pauses of one request, which double; half of each is drawn, lest all come back at once.

    Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

    Args:
        seconds: of all pauses together at most; 0: the request is not repeated.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._most = _FIRST

    def pause(self, retry_after: float | None) -> float | None:
        """Return how long to wait before the request is repeated; None: no longer.

        Args:
            retry_after: seconds that the service asks for at the least, where it does.
        """
        seconds = (retry_after or 0.0) + random.uniform(self._most / 2, self._most)
        self._most = min(2 * self._most, _LONGEST)
        if seconds > self._left:
            return None
        self._left -= seconds
        return seconds
