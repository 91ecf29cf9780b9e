"""Who waits until the beginning of its prompt has come from a disk: nobody else does.

Owns the one state that is on its way into memory, or lies there for who asked: reading and checking
a few GiB takes seconds, in which the others go on. On the inference thread, but for the moment when
it has come. Refuses what is worth it (`memory/table.py`), reading (`engine/disk/`), and the line
(`admission.py`).
"""

from collections.abc import Callable, Sequence
from functools import partial

from llmchat.engine.worker.memory import Far, Near, SequenceTable
from llmchat.engine.worker.reply import Reply, Task

Who = Task | Reply
"""A request that was not let in yet, or a reply that gave way."""


class _Flight:
    """One state on its way."""

    def __init__(self, who: Who) -> None:
        self.who: Who | None = who
        """None: it is not wanted any more."""
        self.landed = False
        self.brought: Near | None = None
        self.behind: set[Who] = set()
        """Those who found it on its way, and ask again when it is over."""
        self.give_up: Callable[[], None] = lambda: None


class Fetching:
    """At most one state at a time, whoever asks for how many."""

    def __init__(self, table: SequenceTable, wake: Callable[[], None]) -> None:
        """`wake`: tells the inference thread, from another one, that there is something to do."""
        self._table = table
        self._wake = wake
        self._flight: _Flight | None = None

    @property
    def nobody_is_away(self) -> bool:
        """Nothing was asked of a disk that has not been used or forgotten."""
        return self._flight is None

    def is_away(self, who: Who) -> bool:
        """Whether there is nothing to do for it now: it waits for a disk."""
        flight = self._flight
        if flight is None or (flight.landed and flight.who is None):
            return False
        if flight.who is who:
            return not flight.landed
        return who in flight.behind and not _gives_way(flight, who)

    def sends(self, who: Who, tokens: Sequence[int]) -> bool:
        """Whether it has to wait, since a disk has more of its prompt than memory.

        False: let it in, with what `take` gives.
        """
        flight = self._current()
        if flight is not None and flight.who is who:
            return not flight.landed
        far = self._table.far(tokens)
        if far is None:
            return False
        if flight is not None and not _gives_way(flight, who):
            flight.behind.add(who)
            return True
        self._flight = None
        return self._fetch(who, tokens, far)

    def _fetch(self, who: Who, tokens: Sequence[int], far: Far) -> bool:
        flight = _Flight(who)
        give_up = far.fetch(tokens, partial(self._land, flight))
        if give_up is None:
            return False
        flight.give_up = give_up
        self._flight = flight
        return True

    def _land(self, flight: _Flight, brought: Near | None) -> None:
        """On the thread that reads."""
        flight.brought = brought
        flight.landed = True
        if flight.who is None:  # asked after `landed` was said, so that `drop` or this forgets it
            flight.brought = None
        self._wake()

    def _current(self) -> _Flight | None:
        """The state that takes the place of every other: somebody's, or still given up."""
        if self._flight is not None and self._flight.landed and self._flight.who is None:
            self._flight = None
        return self._flight

    def take(self, who: Who) -> Near | None:
        """What came for it, which is forgotten here; None: nothing, its prompt is read."""
        flight = self._flight
        if flight is None or flight.who is not who or not flight.landed:
            return None
        self._flight = None
        return flight.brought

    def drop(self, who: Who) -> None:
        """It ends, wherever it is: nobody wants what comes for it."""
        flight = self._flight
        if flight is None:
            return
        flight.behind.discard(who)
        if flight.who is who:
            flight.who = None
            flight.give_up()
            self._current()


def _gives_way(flight: _Flight, who: Who) -> bool:
    """Whether what lies here for a request goes: it waits for room, perhaps for that of `who`."""
    return flight.landed and isinstance(flight.who, Task) and isinstance(who, Reply)
