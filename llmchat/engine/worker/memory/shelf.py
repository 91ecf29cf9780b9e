"""The seam between the pool and the places where sequences lie outside it."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

from llmchat.engine.worker.memory.kinds import Kept


class Shelf(Protocol):
    """A place for sequences outside the pool: RAM (`parked.py`), disk (`saved.py`), in that order.

    Everything is called on the inference thread between two steps: `find` at each admission, so it
    must be cheap; `put` may copy a state once. A shelf knows the model's `Kind` and answers by
    `reach`, so that what it promises can be used.
    """

    @property
    def origin(self) -> Literal["memory", "disk"]:
        """How a reply reports the tokens that came from here."""
        ...

    def find(self, tokens: Sequence[int]) -> int:
        """How many leading tokens of `tokens` it could give; 0 = none.

        The prompt's last token is already left out: all of `tokens` may be given.
        """
        ...

    def put(self, kept: Kept) -> Sequence[Kept]:
        """Keep a sequence that leaves the pool, or the shelf above.

        Returns what has no place here (any more), the new one itself perhaps: it is offered to the
        next shelf below. A shelf that refuses or writes behind one's back returns nothing.
        """
        ...


@runtime_checkable
class Near(Shelf, Protocol):
    """A shelf that gives at once: what it has is in RAM."""

    def take(self, tokens: Sequence[int]) -> Kept | None:
        """The sequence that `find` counted on; None when it is not there after all.

        It may be longer than what is wanted: the pool cuts it. The shelf may keep it as well (in
        RAM it stays when much of it is not wanted), or let it go.
        """
        ...

    def refused(self, kept: Kept) -> None:
        """llama.cpp would not have what `take` gave: it is of no use to anybody."""
        ...


@runtime_checkable
class Far(Shelf, Protocol):
    """A shelf that takes seconds to give: who wants something waits elsewhere meanwhile."""

    def fetch(
        self, tokens: Sequence[int], ready: Callable[[Near | None], None]
    ) -> Callable[[], None] | None:
        """Begin to bring what `find` counted on, on another thread; one at a time.

        `ready` is called there, once: with a shelf of that one sequence, or None when it is gone,
        damaged or given up. Returns the function that gives it up; None: there is nothing to
        bring, and `ready` is not called.
        """
        ...
