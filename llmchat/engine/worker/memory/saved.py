"""The last shelf: states in files, which outlive the worker (`engine/disk/`).

Owns what is worth a write and how a sequence becomes an entry and back. Refuses files, budgets and
keys (`engine/disk/`), and when to look for what should be saved (`engine/worker/saving.py`).
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

from llmchat.engine.disk import BLOCK, Found, Meta, Reader, Shelf, Snapshot, Writer
from llmchat.engine.worker.memory.kinds import Checkpoint, Kept, Kind, reach
from llmchat.engine.worker.memory.shelf import Near
from llmchat.engine.worker.memory.trie import common_prefix

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
    """A `memory.Far` on disk. Writing and reading happen behind one's back; a copy is made once."""

    def __init__(
        self,
        shelf: Shelf,
        writer: Writer,
        kind: Kind,
        *,
        reader: Reader | None = None,
        pace: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`pace`: seconds that reading a token takes here, 0 while nobody knows."""
        self.writer = writer
        self.reader = reader or Reader(shelf.read)
        self._kind = kind
        self._shelf = shelf
        self._pace = pace

    @property
    def origin(self) -> Literal["disk"]:
        """How a reply reports it."""
        return "disk"

    def find(self, tokens: Sequence[int]) -> int:
        """How many leading tokens it could give, at least."""
        candidate = self._shelf.find(tokens)
        return candidate.at_least if candidate is not None else 0

    def fetch(
        self, tokens: Sequence[int], ready: Callable[[Near | None], None]
    ) -> Callable[[], None] | None:
        """Begin to read and check the entry that has most; the files stay.

        None: there is none, it is larger than the budget is by now, or no thread can be had.
        """
        candidate = self._shelf.find(tokens)
        if candidate is None or candidate.meta.size > self._shelf.folder.budget():
            return None

        def brought(found: Found | None) -> None:
            ready(Brought(found, self._kind, self) if found is not None else None)

        try:
            self.reader.start(candidate, brought)
        except RuntimeError:  # threading's word for a system without room for a stack
            return None
        return self.reader.give_up

    def used(self, meta: Meta) -> None:
        """An entry goes into the pool."""
        self.writer.touch(meta.name)

    def discard(self, meta: Meta) -> None:
        """Forget an entry that is of no use to anybody."""
        self._shelf.discard(meta)

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


class Brought:
    """A `memory.Near` of one sequence: what was read from the disk, and checked."""

    def __init__(self, found: Found, kind: Kind, saved: Saved) -> None:
        points = tuple(Checkpoint(end, state) for end, state in found.checkpoints)
        self._kept = Kept(found.tokens, found.state, found.meta.pos_min, points)
        self._meta = found.meta
        self._kind = kind
        self._saved = saved

    @property
    def origin(self) -> Literal["disk"]:
        """It still counts as that."""
        return "disk"

    def find(self, tokens: Sequence[int]) -> int:
        """How many leading tokens it gives: now they are there to be compared one by one."""
        return self._kept.reach(self._kind, common_prefix(self._kept.tokens, tokens))

    def take(self, _tokens: Sequence[int]) -> Kept | None:
        """The sequence; the files stay."""
        self._saved.used(self._meta)
        return self._kept

    def refused(self, _kept: Kept) -> None:
        """Forget the entry."""
        self._saved.discard(self._meta)

    def put(self, _kept: Kept) -> Sequence[Kept]:
        """It found no room in the pool: the files are still there."""
        return []
