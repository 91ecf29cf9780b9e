"""How many threads generate: all of them, fewer while other programs keep taking their cores.

llmchat's threads wait for each other many times a token, spinning. When one has lost its core, all
wait for it: two threads on two cores beside one busy program take five times as long as two alone,
and one thread hardly longer than one alone. What a step's threads did not get of their cores is
their CPU time less than their wall time; that says it from the first token on, and says nothing on
a quiet machine. A virtual machine's host takes cores, too, for moments: so fewer threads are only a
trial, and all of them are tried again soon. Pure policy: no clock of its own, no ctypes.
"""

import math
from typing import Final, Literal


class ThreadGovernor:
    """Threads for steps that only generate."""

    WINDOW: Final = 8
    """Steps that are judged together."""
    LONG: Final = 0.5
    """Seconds after which fewer steps will do."""
    STOLEN: Final = 0.4
    """Cores, out of all that the threads should have had, that count as taken by others."""
    HELPS: Final = 0.95
    """A trial's step, as a share of one before, that is kept."""
    PROBE: Final = 4
    """Steps with all threads again, to see whether the cores are back."""
    FIRST_PAUSE: Final = 0.5
    LAST_PAUSE: Final = 4.0
    """Seconds of fewer threads before a probe; twice as long each time that it was too early."""
    WORTH: Final = 10.0
    """At least so many times what the last probe took: beside a program that never rests, a single
    step with all threads was seen to take 3 s."""
    LONGEST: Final = 30.0
    """Seconds before a probe, at most."""
    LAST_HOLD: Final = 16.0
    """Seconds without a trial, at most, where fewer threads did not help (a GPU computes)."""

    def __init__(self, n_threads: int) -> None:
        self.most = n_threads
        self.n = n_threads
        self._phase: Literal["all", "trial", "fewer", "probe"] = "all"
        self._seconds: list[float] = []
        self._cpu = 0.0
        self._typical = math.inf
        """A step's seconds: before a trial with all threads, before a probe with fewer."""
        self._few = n_threads
        self._since = self._raised = self._held_until = -math.inf
        self._pause = self._hold = self.FIRST_PAUSE

    def observe(self, seconds: float, cpu: float, now: float) -> int:
        """A step took `seconds` and `cpu` seconds of this process; the threads for the next."""
        if self.most == 1:
            return 1
        self._seconds.append(seconds)
        self._cpu += cpu
        if self._phase == "probe":
            self._look_at_probe(now)
        elif self._is_enough(self.WINDOW):
            self._judge(now)
        return self.n

    def forget(self) -> None:
        """The steps to come are of another size: measure anew."""
        self._clear()
        if self._phase == "trial":  # what it is compared with says nothing any more
            self._phase, self.n = "all", self.most
        elif self._phase == "probe":
            self._phase, self.n = "fewer", self._few

    def _is_enough(self, steps: int) -> bool:
        seen = len(self._seconds)
        return seen == steps or (seen > 1 and sum(self._seconds) >= self.LONG)

    def _clear(self) -> None:
        self._seconds.clear()
        self._cpu = 0.0

    def _judge(self, now: float) -> None:
        spent = sum(self._seconds)
        typical = spent / len(self._seconds)  # the mean: one step of many may take all the time
        stolen = self.n - self._cpu / max(1e-9, spent)
        self._clear()
        if self._phase == "all":
            if stolen >= self.STOLEN and now >= self._held_until:
                self._few = max(1, self.n - math.ceil(stolen))
                self._phase, self.n, self._typical = "trial", self._few, typical
        elif self._phase == "trial" and typical > self.HELPS * self._typical:
            self._phase, self.n, self._held_until = "all", self.most, now + self._hold
            self._hold = min(2 * self._hold, self.LAST_HOLD)
        else:
            self._keep_fewer(typical, now)

    def _keep_fewer(self, typical: float, now: float) -> None:
        if self._phase == "trial":
            if now - self._raised > self.LAST_PAUSE:
                self._pause = self._hold = self.FIRST_PAUSE
            self._phase, self._since = "fewer", now
        self._typical = typical
        if now - self._since >= self._pause:
            self._phase, self.n = "probe", self.most

    def _look_at_probe(self, now: float) -> None:
        spent = sum(self._seconds)
        failed = spent > self.PROBE * self._typical
        if not failed and not self._is_enough(self.PROBE):
            return
        if failed or spent > len(self._seconds) * self._typical:
            longer = min(2 * self._pause, self.LAST_PAUSE)
            self._pause = min(max(longer, self.WORTH * spent), self.LONGEST)
            self._phase, self.n, self._since = "fewer", self._few, now
        else:
            self._phase, self.n, self._raised = "all", self.most, now
        self._clear()
