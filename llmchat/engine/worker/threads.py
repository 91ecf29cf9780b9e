"""How many threads generate: all of them, fewer while other programs keep taking their cores.

llmchat's threads wait for each other many times a token, spinning. When one has lost its core, all
wait for it: two threads on two cores beside one busy program take five times as long as two alone,
and one thread hardly longer than one alone. What a step's threads did not get of their cores is
their CPU time less than their wall time; that says it from the first token on, and says nothing on
a quiet machine. Pure policy: no clock of its own, no ctypes.
"""

import math
from statistics import median
from typing import Final


class ThreadGovernor:
    """Threads for steps that only generate.

    Fewer are a trial: where they do not help (a GPU computes, or threads sleep), all come back.
    """

    WINDOW: Final = 8
    """Steps that are judged together."""
    LONG: Final = 0.5
    """Seconds after which fewer steps will do."""
    STOLEN: Final = 0.4
    """Cores, out of all that the threads should have had, that count as taken by others."""
    HELPS: Final = 0.95
    """A trial's step, as a share of one before, that is kept."""
    FIRST_PAUSE: Final = 5.0
    LAST_PAUSE: Final = 60.0
    """Seconds until all are tried again; twice as long each time that it was too early."""

    def __init__(self, n_threads: int) -> None:
        self.most = n_threads
        self.n = n_threads
        self._seconds: list[float] = []
        self._cpu = 0.0
        self._before = 0.0
        """A step's seconds with all threads, when fewer are on trial."""
        self._on_trial = False
        self._lowered = self._raised = self._hold = -math.inf
        self._pause = self.FIRST_PAUSE

    def observe(self, seconds: float, cpu: float, now: float) -> int:
        """A step took `seconds` and `cpu` seconds of this process; the threads for the next."""
        if self.most == 1:
            return 1
        self._seconds.append(seconds)
        self._cpu += cpu
        steps = len(self._seconds)
        if steps == self.WINDOW or (steps > 1 and sum(self._seconds) >= self.LONG):
            self._judge(now)
        return self.n

    def forget(self) -> None:
        """The steps to come are of another size: measure anew."""
        self._seconds.clear()
        self._cpu = 0.0

    def _judge(self, now: float) -> None:
        typical = median(self._seconds)
        stolen = self.n - self._cpu / max(1e-9, sum(self._seconds))
        self.forget()
        if self._on_trial:
            self._on_trial = False
            if typical > self.HELPS * self._before:
                self.n, self._hold = self.most, now + self._pause
                self._pause = min(2 * self._pause, self.LAST_PAUSE)
        elif self.n < self.most:
            if now - self._lowered >= self._pause:
                self.n, self._raised = self.most, now
        elif stolen >= self.STOLEN and now >= self._hold:
            too_early = now - self._raised < self.FIRST_PAUSE
            self._pause = min(2 * self._pause, self.LAST_PAUSE) if too_early else self._pause
            self._lowered, self._before, self._on_trial = now, typical, True
            self.n = max(1, self.n - math.ceil(stolen))
        elif now - self._raised >= self.LAST_PAUSE:
            self._pause = self.FIRST_PAUSE
