"""A request of a scripted worker, from the queue to its end.

Owns what every request has: where its events go, whether anybody still wants it, waiting on it, and
how it ends before it was answered. Refuses what it is answered with (`reading.py`, `writing.py`).
"""

import threading
import time
from typing import Final

from llmchat.engine.backend import Emit, Work
from llmchat.engine.protocol import Failed, Finished, Generate
from llmchat.values import Usage

_LOOK: Final = 0.05
"""Seconds after which a wait looks whether the worker is to stop."""


class Job:
    """A request in the queue. `stopping` is the worker's own: it ends every request."""

    def __init__(self, work: Work, emit: Emit, stopping: threading.Event) -> None:
        self.work = work
        self.emit = emit
        self.arrived = time.monotonic()
        self._cancelled = threading.Event()
        self._stopping = stopping

    def cancel(self) -> None:
        """Nobody wants it any more; from any thread."""
        self._cancelled.set()

    @property
    def unwanted(self) -> bool:
        """Whether it is to end early."""
        return self._cancelled.is_set() or self._stopping.is_set()

    def pause(self, seconds: float, *, deaf: bool) -> bool:
        """Wait; True as soon as it is unwanted, unless the script is deaf to that."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if deaf:
                time.sleep(min(left, _LOOK))
            elif self._cancelled.wait(min(left, _LOOK)) or self._stopping.is_set():
                return True
        return False

    def end(self, prompt: int = 0) -> None:
        """Finish it, unwanted, before anything was written; `prompt`: tokens that it had."""
        if not isinstance(self.work, Generate):
            self.emit(Failed(id=self.work.id, code="not_ready", message="The model is leaving."))
            return
        for choice in range(self.work.n):
            self.emit(
                Finished(
                    id=self.work.id,
                    choice=choice,
                    reason="cancelled",
                    usage=Usage(prompt_tokens=prompt),
                )
            )
