"""What waits to be sent to one client: the one place where the inference thread meets it.

Any thread puts events in, without ever blocking; the shell's thread takes frames out as fast as the
client reads. Deltas that wait are merged with the one before of the same request, choice and kind,
so a slow client costs memory for text and nothing else; text is never dropped. Order is kept within
a request's choice; different requests may overtake one another.

Text also waits up to 50 ms for more to join it. Nobody sees the difference, and a wake-up of this
thread and of the client for every token would take a small machine's cores from the threads that
compute.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from llmchat.engine.protocol import Delta, Event, Failed, ProtocolError, TokenInfo, encode
from llmchat.text import say

_EVENT_BYTES = 64
"""A guess at what an event costs beside its text; only the limit depends on it."""
_TOKEN_BYTES = 24
PACE: Final = 0.05
"""Seconds that text may wait for more, after text was sent."""


class _Waiting:
    """Deltas of one request, choice and kind that will leave as one."""

    __slots__ = ("first", "texts", "tokens")

    def __init__(self, first: Delta) -> None:
        self.first = first
        self.texts = [first.text]
        self.tokens: list[TokenInfo] = list(first.tokens)

    def merged(self) -> Delta:
        """The one delta that says it all."""
        if len(self.texts) == 1:
            return self.first
        return Delta(
            id=self.first.id,
            choice=self.first.choice,
            kind=self.first.kind,
            text="".join(self.texts),
            tokens=tuple(self.tokens),
        )


def _delta_bytes(delta: Delta) -> int:
    return len(delta.text) + _TOKEN_BYTES * len(delta.tokens)


class Outbox:
    """A queue of events. `wake` is called, from any thread, when something is due."""

    def __init__(self, limit: int, wake: Callable[[], None]) -> None:
        self._limit = limit
        self._wake = wake
        self._lock = threading.Lock()
        self._queue: deque[Event | _Waiting] = deque()
        self._open: dict[tuple[int, int], _Waiting] = {}
        self._bytes = 0
        self._urgent = 0
        self._paced_until = -math.inf
        self._closed = False
        self.overflown = False
        """More waits than the limit allows: the client is to be let go."""

    def put(self, event: Event) -> None:
        """Add an event; nothing happens once closed or overflown."""
        with self._lock:
            if self._closed or self.overflown:
                return
            if self._bytes > self._limit:
                self.overflown = True
            else:
                self._add(event)
            due = self.overflown or self._is_due(time.monotonic())
        if due:
            self._wake()

    def _is_due(self, now: float) -> bool:
        return self._urgent > 0 or (bool(self._queue) and now >= self._paced_until)

    def due(self, now: float) -> bool:
        """Something waits, and not just text that may yet be joined by more."""
        with self._lock:
            return self._is_due(now)

    def look_at(self, now: float) -> float:
        """When to look again for text that came without a wake-up; infinity if none can."""
        return self._paced_until if now < self._paced_until or self._queue else math.inf

    def _add(self, event: Event) -> None:
        if isinstance(event, Delta):
            key = (event.id, event.choice)
            waiting = self._open.get(key)
            self._bytes += _delta_bytes(event)
            if waiting is not None and waiting.first.kind == event.kind:
                waiting.texts.append(event.text)
                waiting.tokens.extend(event.tokens)
                return
            self._open[key] = waiting = _Waiting(event)
            self._queue.append(waiting)
        else:
            for key in [key for key in self._open if key[0] == event.id]:
                del self._open[key]
            self._queue.append(event)
            self._urgent += 1
        self._bytes += _EVENT_BYTES

    def take(self) -> bytes:
        """The next frame, or nothing when none waits."""
        with self._lock:
            if not self._queue:
                self._bytes = 0
                return b""
            item = self._queue.popleft()
            self._bytes -= _EVENT_BYTES
            if isinstance(item, _Waiting):
                event: Event = item.merged()
                self._bytes -= sum(map(len, item.texts)) + _TOKEN_BYTES * len(item.tokens)
                key = (item.first.id, item.first.choice)
                if self._open.get(key) is item:
                    del self._open[key]
                self._paced_until = time.monotonic() + PACE
            else:
                event = item
                self._urgent -= 1
        try:
            return encode(event)
        except ProtocolError as error:
            return encode(Failed(id=event.id, code="internal", message=str(error)))

    @property
    def empty(self) -> bool:
        """Nothing waits."""
        return not self._queue

    def close(self) -> None:
        """Forget what waits and take nothing more."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            self._open.clear()
            self._bytes = self._urgent = 0


def refusal(request: int, code: str, key: str, **values: object) -> Failed:
    """A Failed with a sentence from the catalogue."""
    return Failed(id=request, code=code, message=say(key, **values))
