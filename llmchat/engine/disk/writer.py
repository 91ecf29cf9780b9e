"""Writing behind the inference thread's back: one thread, one state at a time, a bound on each.

Owns the pace (bytes a minute), the queue's size in memory, and how long leaving may take. Refuses
to decide what is worth saving.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from llmchat.engine.disk.entry import Snapshot
from llmchat.engine.disk.shelf import Shelf
from llmchat.errors import LlmchatError

PER_MINUTE = 1024**3
"""Bytes a worker may write in a minute: a chat a minute must not wear out an SSD."""
QUEUED = 256 * 1024 * 1024
"""Bytes that may wait in memory; a larger state may, when it is the only one."""


class Allowance:
    """A minute's bytes, refilled as time goes by. One state may overdraw it: then others wait."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute)
        self._at = clock()

    def take(self, size: int) -> bool:
        """Whether `size` bytes may be written now; if so they are counted."""
        now = self._clock()
        refilled = self._left + (now - self._at) * self._per_minute / 60
        self._left, self._at = min(float(self._per_minute), refilled), now
        if self._left <= 0 or (size > self._left and self._left < self._per_minute):
            return False
        self._left -= size
        return True


class Writer:
    """A worker's writer thread."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        allowance: Allowance | None = None,
        queued: int = QUEUED,
    ) -> None:
        self._shelf = shelf
        self._allowance = allowance or Allowance(PER_MINUTE)
        self._most = queued
        self._waiting: deque[Snapshot | str] = deque()
        self._bytes = 0
        self._wake = threading.Condition()
        self._leaving = False
        self._stopped = False
        self._working = False
        self._thread = threading.Thread(target=self._run, name="kv-writer", daemon=True)
        self._thread.start()

    def room_for(self, size: int) -> bool:
        """Whether a state of `size` bytes would be taken: ask before making the copy."""
        with self._wake:
            return not self._leaving and self._fits(size)

    def _fits(self, size: int) -> bool:
        return self._bytes == 0 or self._bytes + size <= self._most

    def offer(self, snapshot: Snapshot) -> bool:
        """Write it soon. False: too much waits, or this minute has had enough. Never blocks."""
        size = snapshot.size
        with self._wake:
            if self._leaving or not self._fits(size) or not self._allowance.take(size):
                return False
            self._bytes += size
            self._waiting.append(snapshot)
            self._wake.notify_all()
            return True

    def touch(self, name: str) -> None:
        """An entry was used."""
        with self._wake:
            if not self._leaving:
                self._waiting.append(name)
                self._wake.notify_all()

    def wait(self, seconds: float) -> bool:
        """Until nothing waits. False: not in time."""
        with self._wake:
            return self._wake.wait_for(
                lambda: not self._waiting and not self._working, max(0.0, seconds)
            )

    def close(self, seconds: float) -> bool:
        """Take no more, write what waits, but no longer than `seconds`. True: all is written."""
        with self._wake:
            self._leaving = True
            self._wake.notify_all()
        self._thread.join(max(0.0, seconds))
        finished = not self._thread.is_alive()
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if not finished:
            self._thread.join(1.0)  # a chunk, and the removal of what was begun
        return finished

    def _run(self) -> None:
        while self._work_one():
            pass

    def _work_one(self) -> bool:
        """In a function of its own, so that no state stays in memory while nothing waits."""
        item = self._next()
        if item is None:
            return False
        try:
            if isinstance(item, Snapshot):
                self._shelf.put(item, stopped=lambda: self._stopped)
            else:
                self._shelf.folder.touch(item)
        except (OSError, LlmchatError, MemoryError) as error:
            # The prompt will be read again some day: a line in the log is all this is worth.
            sys.stderr.write(
                f"llmchat: a KV state was not saved: {str(error) or type(error).__name__}\n"
            )
            sys.stderr.flush()
        finally:
            self._done(item)
        return True

    def _next(self) -> Snapshot | str | None:
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._leaving)
            if self._stopped or not self._waiting:
                return None
            self._working = True
            return self._waiting.popleft()

    def _done(self, item: Snapshot | str) -> None:
        with self._wake:
            if isinstance(item, Snapshot):
                self._bytes -= item.size
            self._working = False
            self._wake.notify_all()
