"""Patience: what is tried again, how long to pause, and when to give up.

Owns the count of tries without progress and the pauses between them. Refuses to know HTTP.
"""

import threading
from collections.abc import Callable

from llmchat.errors import HubError, Interrupted
from llmchat.hub.config import HubConfig

MAX_RETRY_AFTER = 60.0
"""Seconds; a server that wants more is asked again sooner."""


class Transient(Exception):
    """Something that may pass: a broken connection, a busy server, an address that expired."""

    def __init__(self, reason: str, *, wait: float | None = None, limited: bool = False) -> None:
        super().__init__(reason)
        self.limited = limited
        """The server says that it is asked too often."""
        self.reason = reason
        self.wait = wait
        """Seconds that the server asked for."""


class Patience:
    """Counts tries in a row without progress, and pauses between them."""

    def __init__(
        self,
        config: HubConfig,
        stop: threading.Event,
        on_pause: Callable[[], None] = lambda: None,
        *,
        key: str = "hub.gave_up",
    ) -> None:
        self._config = config
        self._stop = stop
        self._on_pause = on_pause
        self._key = key
        self._failures = 0

    def failed(self, problem: Transient, *, progressed: bool = False) -> None:
        """Pause before the next try. One that brought new bytes begins the count again.

        Raises:
            HubError: too many tries without progress.
            Interrupted: the user stopped it.
        """
        self._failures = 0 if progressed else self._failures + 1
        if self._failures >= self._config.tries:
            raise HubError(
                "hub.rate_limited" if problem.limited else self._key,
                recoverable=True,
                tries=self._failures,
                reason=problem.reason,
                endpoint=self._config.endpoint,
            ) from problem
        delay = min(
            self._config.max_backoff, self._config.backoff * 2.0 ** max(0, self._failures - 1)
        )
        if problem.wait is not None:
            delay = max(delay, min(problem.wait, MAX_RETRY_AFTER))
        self._on_pause()
        if self._stop.wait(delay):
            raise Interrupted from problem
