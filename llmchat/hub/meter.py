"""How far and how fast: turns byte counts into `Progress`, a few times a second.

Owns the sum over files and the rate over the last seconds. `done` never goes backwards, whatever a
retry does.
"""

import time
from collections import deque
from collections.abc import Callable

from llmchat.hub.plan import Progress, Stage

_EVERY = 0.1
"""Seconds between two reports of the same stage."""
_WINDOW = 5.0
"""Seconds that the rate looks back."""


class Meter:
    """Reports the progress of one pull to one listener, on the thread that pulls."""

    def __init__(
        self,
        total: int,
        listen: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._listen = listen
        self._clock = clock
        self._finished = 0
        self._shown = 0
        self._stage: Stage | None = None
        self._file = ""
        self._reported = float("-inf")
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, file: str) -> None:
        """The file that the next counts speak of."""
        self._file = file
        self._samples.clear()

    def file_done(self, size: int) -> None:
        """A file is whole."""
        self._finished += size
        self.at("verifying", 0)

    def at(self, stage: Stage, count: int = 0) -> None:
        """`count` bytes of the current file are had in this stage."""
        now = self._clock()
        self._shown = max(self._shown, min(self._total, self._finished + count))
        if stage == self._stage and now - self._reported < _EVERY:
            return
        if stage != self._stage:
            self._samples.clear()
        self._stage, self._reported = stage, now
        self._samples.append((now, count))
        while now - self._samples[0][0] > _WINDOW:
            self._samples.popleft()
        self._listen(
            Progress(
                stage=stage,
                done=self._shown,
                total=self._total,
                rate=self._rate() if stage in ("downloading", "waiting") else 0.0,
                file=self._file,
            )
        )

    def _rate(self) -> float:
        (first, low), (last, high) = self._samples[0], self._samples[-1]
        return max(0.0, (high - low) / (last - first)) if last > first else 0.0
