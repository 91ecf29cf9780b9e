"""How long a worker stays: pure policy over wishes and times, no clock and no sockets of its own.

Idle counts from the end of the last request. The largest wish of the connected clients wins (-1,
"never leave", is larger than any number); a client without a wish takes what stands. When the last
one goes, what was in force stands on: 0 means that the worker leaves then.
"""

import math


class KeepAlive:
    """Wishes by connection, and when they say to leave. Times are monotonic seconds."""

    def __init__(self, seconds: float, now: float) -> None:
        self._standing = seconds
        self._wishes: dict[int, float] = {}
        self.last_request = now

    def joined(self, who: int, wish: float | None) -> None:
        """A client is there; without a wish it takes what is in force."""
        self._wishes[who] = self.seconds if wish is None else wish

    def left(self, who: int) -> None:
        """A client is gone; the last one's rule stands on. Unknown ones do not matter."""
        if who in self._wishes:
            self._standing = self.seconds
            del self._wishes[who]
            if self._wishes:
                self._standing = self.seconds

    def touched(self, now: float) -> None:
        """A request came, or ended."""
        self.last_request = now

    @property
    def clients(self) -> int:
        """How many have joined and not left."""
        return len(self._wishes)

    @property
    def seconds(self) -> float:
        """What is in force: 0 = leave with the last client, -1 = stay."""
        wishes = self._wishes.values()
        return max(wishes, key=lambda wish: math.inf if wish < 0 else wish, default=self._standing)

    def leaves_at(self, *, busy: bool) -> float:
        """When to leave if nothing else happens; `inf` = not from anything known now."""
        seconds = self.seconds
        if busy or seconds < 0:
            return math.inf
        if seconds == 0:
            return math.inf if self._wishes else self.last_request
        return self.last_request + seconds
