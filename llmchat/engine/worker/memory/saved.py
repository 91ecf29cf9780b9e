"""The last shelf: states in files, which outlive the worker (`engine/disk/`).

Owns what is worth a write and how a sequence becomes an entry and back. Refuses files, budgets and
keys (`engine/disk/`), and when to look for what should be saved (`engine/worker/saving.py`).
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

from llmchat.engine.disk import BLOCK, Meta, Shelf, Snapshot, Writer
from llmchat.engine.worker.memory.kinds import Checkpoint, Kept, Kind, reach

CHECKPOINTS: Final = 3
"""Of a sequence's checkpoints the last ones: the others are large and seldom gone back to."""

MOSTLY: Final = 8
"""For less than one in so many of its tokens an entry is not read: that would take as long."""


def usable(kind: Kind) -> Callable[[Meta, int], int]:
    """What of an entry a prompt may take over: the one rule that holds in the pool, too."""

    def usable_of(meta: Meta, common: int) -> int:
        points = [end for end, _ in meta.checkpoints]
        reached = reach(kind, meta.n_tokens, meta.pos_min, common, points)
        return reached if reached * MOSTLY >= meta.n_tokens else 0

    return usable_of


class Saved:
    """A `memory.Shelf` on disk. Writing happens behind one's back; a state is copied once."""

    def __init__(
        self, shelf: Shelf, writer: Writer, *, pace: Callable[[], float] = lambda: 0.0
    ) -> None:
        """`pace`: seconds that reading a token takes here, 0 while nobody knows."""
        self.writer = writer
        self._shelf = shelf
        self._pace = pace
        self._taken: tuple[Kept, Meta] | None = None

    @property
    def origin(self) -> Literal["disk"]:
        """How a reply reports it."""
        return "disk"

    def find(self, tokens: Sequence[int]) -> int:
        """How many leading tokens it could give, at least."""
        candidate = self._shelf.find(tokens)
        return candidate.at_least if candidate is not None else 0

    def take(self, tokens: Sequence[int]) -> Kept | None:
        """The entry that has most, read and checked; the files stay."""
        candidate = self._shelf.find(tokens)
        found = self._shelf.read(candidate) if candidate is not None else None
        if found is None:
            return None
        self.writer.touch(found.meta.name)
        points = tuple(Checkpoint(end, state) for end, state in found.checkpoints)
        kept = Kept(found.tokens, found.state, found.meta.pos_min, points)
        self._taken = (kept, found.meta)
        return kept

    def refused(self, kept: Kept) -> None:
        """llama.cpp would not have what `take` gave: forget it."""
        if self._taken is not None and self._taken[0] is kept:
            self._shelf.discard(self._taken[1])
            self._taken = None

    def put(self, kept: Kept) -> Sequence[Kept]:
        """What falls from the shelf above: written if it is worth it, else gone."""
        if self.is_new(kept.tag, kept.tokens) and self.may_hold(kept.size):
            self.save(kept)
        return []

    def may_hold(self, size: int) -> bool:
        """Whether the budget allows a state of `size` bytes at all: ask before copying it."""
        return size < self._shelf.folder.budget()

    def is_new(self, tag: str, tokens: Sequence[int]) -> bool:
        """Whether a conversation may be written, and has a block of tokens that no entry has."""
        return bool(tag) and len(tokens) - self.find(tokens) >= BLOCK

    def save(self, kept: Kept) -> bool:
        """Hand a state to the writer. False: too much waits, try again later."""
        points = kept.checkpoints[-CHECKPOINTS:]
        return self.writer.offer(
            Snapshot(
                tokens=tuple(kept.tokens),
                state=kept.state,
                tag=kept.tag,
                pos_min=kept.first,
                checkpoints=tuple((point.end, point.state) for point in points),
                seconds=len(kept.tokens) * self._pace(),
            )
        )
