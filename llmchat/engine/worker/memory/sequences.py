"""The sequences of the pool: which tokens lie in each, kept equal to what llama.cpp holds.

Owns the books (tokens, cells, the trie, checkpoints) and every call that changes a sequence, so
that neither can be changed without the other. Refuses choosing: which sequence a prompt gets is
`table.py`, which one leaves the pool is `leaving.py`, and what may be reused is `kinds.py`.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from llmchat.engine.worker.memory import checkpoints
from llmchat.engine.worker.memory.cells import Cells
from llmchat.engine.worker.memory.kinds import Checkpoint, Kept, Kind, Memory, cuttable, ends, reach
from llmchat.engine.worker.memory.trie import Trie

PARTIAL_ONLY: Final = 1
"""llama.cpp's flag for the part of a state that cannot be cut."""


class Slot:
    """One sequence of the pool. `tokens` are those whose cells are computed."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.tokens: list[int] = []
        self.cells: list[int] = []
        self.checkpoints: list[Checkpoint] = []
        self.busy = False
        self.used = 0
        """Clock of the last release: the smallest leaves first."""
        self.from_disk = 0
        """Of the tokens that it was opened with, those that came from the disk."""
        self.indexed = 0
        """Of its tokens, those that the trie knows."""
        self.tag = ""
        """Of the request that ran on it last: see `Kept.tag`."""


class Sequences:
    """The books of a pool, and what can be done to a sequence. For the inference thread alone."""

    def __init__(
        self, memory: Memory, n_seq_max: int, kind: Kind, *, n_cells: int, checkpoint_bytes: int
    ) -> None:
        self.kind = kind
        self.pool = Cells(n_cells)
        self.slots = [Slot(seq) for seq in range(n_seq_max)]
        self._memory = memory
        self._trie: Trie[Slot] = Trie()
        self._clock = 0
        self._checkpoint_bytes = checkpoint_bytes

    # who holds what

    def matches(self, tokens: Sequence[int]) -> Iterator[tuple[int, Slot]]:
        """(how many leading tokens are the same, in which sequence), longest first, never 0."""
        for slot in self.slots:  # what was computed since the last look: those that run only grow
            if slot.indexed < len(slot.tokens):
                self._trie.extend(slot, slot.tokens[slot.indexed :])
                slot.indexed = len(slot.tokens)
        return self._trie.matches(tokens)

    def reach(self, slot: Slot, common: int) -> int:
        """How many of `common` leading tokens the sequence can spare a prompt."""
        points = ends(slot.checkpoints)
        return reach(self.kind, len(slot.tokens), self._pos_min(slot), common, points)

    def _pos_min(self, slot: Slot) -> int:
        """Where the window of a sequence begins; 0 without one."""
        return self._memory.pos_min(slot.seq) if self.kind.n_swa else 0

    def idle(self) -> Iterator[Slot]:
        """The warm sequences of the pool, the last used first: what a disk may want to keep."""
        warm = [slot for slot in self.slots if slot.tokens and not slot.busy]
        yield from sorted(warm, key=lambda slot: -slot.used)

    def snapshot(self, slot: Slot) -> Kept | None:
        """A copy of an idle or running sequence; None when llama.cpp gives no state."""
        state = self._memory.state(slot.seq)
        if state is None:
            return None
        first = self.kind.state_begins(len(slot.tokens), self._pos_min(slot))
        return Kept(list(slot.tokens), state, first, tuple(slot.checkpoints), slot.tag)

    # what happens to a sequence

    def run(self, slot: Slot) -> Slot:
        """An idle sequence has an owner now."""
        slot.busy, slot.from_disk = True, 0
        self.pool.wake(slot.cells)
        return slot

    def release(self, slot: Slot) -> None:
        """Nobody runs on it any more; its tokens stay warm."""
        self._clock += 1
        if slot.busy:
            self.pool.rest(slot.cells)
        slot.busy, slot.used = False, self._clock

    def extend(self, slot: Slot, tokens: Sequence[int]) -> None:
        """`tokens` were computed."""
        slot.tokens += tokens
        if self.kind.cells:
            slot.cells += self.pool.take(len(tokens))

    def share(self, source: Slot, target: Slot, count: int) -> None:
        """Let `target`, empty and running, begin with the first `count` tokens of `source`."""
        self._memory.seq_cp(source.seq, target.seq, count)
        target.tokens = source.tokens[:count]
        target.cells = source.cells[:count]
        self.pool.share(target.cells)
        target.checkpoints = [point for point in source.checkpoints if point.end <= count]
        if not cuttable(self.kind, len(source.tokens), self._pos_min(source), count):
            self._go_back(target, count)

    def cut(self, slot: Slot, count: int) -> None:
        """Keep the first `count` tokens, or as many as can be right: down to a checkpoint, or 0."""
        if count >= len(slot.tokens):
            return
        if not count or not cuttable(self.kind, len(slot.tokens), self._pos_min(slot), count):
            self._go_back(slot, count)
        elif self._memory.seq_rm(slot.seq, count, -1):
            self._drop_from(slot, count)
        else:
            self._go_back(slot, count)

    def _go_back(self, slot: Slot, count: int) -> None:
        """To the last checkpoint at or before `count`, or to nothing."""
        point = max(
            (point for point in slot.checkpoints if 0 < point.end <= count),
            key=lambda point: point.end,
            default=None,
        )
        if (
            point is not None
            and self._memory.restore(slot.seq, point.state, PARTIAL_ONLY)
            and self._memory.seq_rm(slot.seq, point.end, -1)
        ):
            self._drop_from(slot, point.end)
        else:
            self.forget(slot)

    def _drop_from(self, slot: Slot, count: int) -> None:
        """The books after the tokens from `count` on are gone."""
        self.pool.drop(slot.cells[count:], running=slot.busy)
        del slot.cells[count:]
        del slot.tokens[count:]
        slot.checkpoints = [point for point in slot.checkpoints if point.end <= count]
        if slot.indexed > count:
            self._trie.place(slot, slot.tokens)
            slot.indexed = len(slot.tokens)

    def forget(self, slot: Slot) -> None:
        """Empty the sequence; it keeps its owner, if it has one."""
        self._memory.seq_rm(slot.seq, -1, -1)
        self._drop_from(slot, 0)

    def restore(self, slot: Slot, kept: Kept) -> bool:
        """Put a state into an empty sequence. False: it does not fit, and the sequence is empty.

        The caller has seen to it that there are cells for its tokens.
        """
        if not self._memory.restore(slot.seq, kept.state):
            self.forget(slot)
            return False
        slot.tokens = list(kept.tokens)
        slot.checkpoints = list(kept.checkpoints)
        if self.kind.cells:
            slot.cells = self.pool.take(len(slot.tokens))
            if not slot.busy:
                self.pool.rest(slot.cells)
        return True

    def clear(self) -> None:
        """The memory was cleared, and the books cannot be trusted: begin anew."""
        self.pool = Cells(self.pool.size)
        self._trie = Trie()
        self.slots = [Slot(slot.seq) for slot in self.slots]

    def repair(self, slot: Slot, tokens: Sequence[int], count: int) -> None:
        """After a decode that stopped half-way: the first `count` of `tokens` have cells.

        A recurrent state that was being written is nobody's: back to a checkpoint.
        """
        before = len(slot.tokens)
        if count < before or (self.kind.whole_only and count != before):
            self._go_back(slot, min(count, before))
            return
        self.extend(slot, tokens[before:count])

    def checkpoint(self, slot: Slot) -> None:
        """Keep what the sequence is now, so that it can be taken up again here."""
        state = self._memory.state(slot.seq, PARTIAL_ONLY)
        if state is None:
            return
        slot.checkpoints = checkpoints.add(slot.checkpoints, Checkpoint(len(slot.tokens), state))
        holders = sorted(
            (other for other in self.slots if other.checkpoints and other is not slot),
            key=lambda other: (other.busy, other.used),
        )
        for other in [*holders, slot]:
            if self._checkpoint_size() <= self._checkpoint_bytes:
                return
            other.checkpoints = other.checkpoints[-1:] if other is slot else []

    def _checkpoint_size(self) -> int:
        points = {id(point): point for slot in self.slots for point in slot.checkpoints}
        return sum(point.state.nbytes for point in points.values())
