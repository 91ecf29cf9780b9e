"""Several connections that fetch one file: who takes which bytes, and when another one helps.

Owns the claims on a part's holes and the helpers beside the one connection that must not fail. A
helper joins where a connection alone is slow and enough is left; one that breaks just ends, and
what it had claimed is taken by another. Refuses to retry: that is the main connection's.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from llmchat.errors import Interrupted, LlmchatError
from llmchat.hub.config import HubConfig
from llmchat.hub.partfile import PartFile
from llmchat.hub.retry import Transient

_REST = 10.0
"""Seconds without a new helper after one broke."""


@dataclass(slots=True, eq=False)
class Claim:
    """Bytes `[start, end)` that are one connection's; `place` moves through them."""

    start: int
    end: int
    place: int


class Claims:
    """Which of a part's holes are taken. Shared by threads."""

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._taken: list[Claim] = []
        self.lock = threading.Lock()

    def take(self, longest: int) -> Claim | None:
        """The first bytes that nobody fetches, at most `longest`; None when there are none."""
        with self.lock:
            for start, end in self._free():
                claim = Claim(start, min(end, start + longest), start)
                self._taken.append(claim)
                return claim
        return None

    def give_back(self, claim: Claim) -> None:
        """Whatever of it has not come is free again."""
        with self.lock:
            self._taken.remove(claim)

    def shorten(self, claim: Claim, longest: int) -> None:
        """Leave what is beyond the next `longest` bytes to others."""
        with self.lock:
            claim.end = min(claim.end, claim.place + longest)

    def restart(self, claim: Claim) -> None:
        """The part is empty: the claim is all of it."""
        with self.lock:
            claim.start, claim.end, claim.place = 0, self._part.file.size, 0

    def _free(self) -> list[tuple[int, int]]:
        free = self._part.gaps()
        for claim in self._taken:
            cut = []
            for start, end in free:
                cut += [(start, min(end, claim.start)), (max(start, claim.end), end)]
            free = [(start, end) for start, end in cut if start < end]
        return free


class Helpers:
    """The connections beside the main one. Leave it before the part is closed."""

    def __init__(
        self,
        claims: Claims,
        part: PartFile,
        config: HubConfig,
        fetch: Callable[[Claim], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims, self._part, self._config = claims, part, config
        self._fetch = fetch
        self._clock = clock
        self._threads: list[threading.Thread] = []
        self._looked = clock()
        self._had = part.here
        self._rest_until = 0.0
        self.over = threading.Event()
        """Set: helpers end."""
        self.problem: LlmchatError | None = None
        """What a helper met that no retry mends."""

    @property
    def at_work(self) -> bool:
        """Whether any helper is fetching."""
        return any(thread.is_alive() for thread in self._threads)

    def consider(self, main: Claim) -> None:
        """Let another one join, when that is worth it. Called by the main connection."""
        now = self._clock()
        if now - self._looked < self._config.grow_after:
            return
        here = self._part.here
        rate = (here - self._had) / max(1e-9, now - self._looked)
        self._looked, self._had = now, here
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        left = self._part.file.size - here
        if (
            len(self._threads) + 1 < self._config.connections
            and left >= 2 * self._config.step * (len(self._threads) + 2)
            and rate < self._config.fast
            and now >= self._rest_until
        ):
            self._claims.shorten(main, self._config.step)
            thread = threading.Thread(target=self._help, name="llmchat-pull-helper", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _help(self) -> None:
        try:
            while not self.over.is_set() and (claim := self._claims.take(self._config.step)):
                try:
                    self._fetch(claim)
                finally:
                    self._claims.give_back(claim)
        except Transient:
            self._rest_until = self._clock() + _REST
        except Interrupted:
            return
        except LlmchatError as error:
            self.problem = error

    def end(self) -> None:
        """Ask every helper to leave, and wait for it."""
        self.over.set()
        for thread in self._threads:
            thread.join()
