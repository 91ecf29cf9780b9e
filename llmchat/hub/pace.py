"""How fast bytes may come: one limit over all connections of a pull.

Owns `--limit-rate`: whoever has received bytes pauses until they are paid for. Refuses to drop or
to hurry anything: TCP slows the sender down.
"""

import threading
import time
from collections.abc import Callable

_BURST = 0.25
"""Seconds' worth of bytes that may come at once after a pause."""


class Pace:
    """Bytes a second, shared by threads. 0 = as fast as they come."""

    def __init__(self, limit: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._paid = float("-inf")
        """The time at which everything that came so far is paid for."""

    def came(self, count: int, stop: threading.Event) -> None:
        """Count `count` bytes, and wait as long as they ask for; `stop` ends the wait."""
        if self.limit <= 0:
            return
        with self._lock:
            now = self._clock()
            self._paid = max(self._paid, now - _BURST) + count / self.limit
            wait = self._paid - now
        if wait > 0:
            stop.wait(wait)
