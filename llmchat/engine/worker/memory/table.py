"""Which tokens lie in which sequence of the pool, and what of them a new prompt can take over.

Owns the sequence table: idle sequences stay warm, the longest known prefix is taken over, copied
(metadata only in a unified pool) or brought back from a shelf, and what must leave the pool goes to
the shelves. Refuses policy about requests, and reuse that would be silently wrong (`kinds.py`).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from llmchat.engine.worker.memory import checkpoints
from llmchat.engine.worker.memory.cells import Cells
from llmchat.engine.worker.memory.kinds import Checkpoint, Kept, Kind, Memory, cuttable, ends, reach
from llmchat.engine.worker.memory.parked import TAIL, Parked
from llmchat.engine.worker.memory.shelf import Shelf
from llmchat.engine.worker.memory.trie import Trie, common_prefix

PARTIAL_ONLY: Final = 1
"""llama.cpp's flag for the part of a state that cannot be cut."""
STEP: Final = 256
"""Attention spans cells in steps of so many (`llama_kv_cache::get_n_kv`)."""
SPREAD: Final = 1.25
"""A sequence is moved down when attention spans more than this many times what it has to."""
WORTH_A_STATE: Final = 16
"""Tokens that a shelf must have more than the pool, to be asked for a state."""


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


class SequenceTable:
    """The pool's sequences, and the shelves below it. For the inference thread alone."""

    def __init__(
        self,
        memory: Memory,
        n_seq_max: int,
        kind: Kind,
        *,
        n_cells: int,
        shelves: Sequence[Shelf] = (),
        checkpoint_bytes: int = 1 << 30,
    ) -> None:
        self.kind = kind
        self.pool = Cells(n_cells)
        self.shelves = list(shelves)
        self._memory = memory
        self._slots = [Slot(seq) for seq in range(n_seq_max)]
        self._trie: Trie[Slot] = Trie()
        self._clock = 0
        self._checkpoint_bytes = checkpoint_bytes

    @property
    def slots(self) -> list[Slot]:
        """All of them, for counting."""
        return self._slots

    def free(self) -> int:
        """Sequences that a request could get, idle ones parked."""
        return sum(not slot.busy for slot in self._slots)

    def parked(self) -> tuple[int, int]:
        """How many sequences lie in RAM, and their bytes; from any thread."""
        shelves = [shelf for shelf in self.shelves if isinstance(shelf, Parked)]
        return sum(map(len, shelves)), sum(shelf.size for shelf in shelves)

    # what is known

    def best(self, tokens: Sequence[int]) -> tuple[Slot | None, int]:
        """The sequence of the pool with the longest prefix to spare, idle ones first on a tie.

        Never all of `tokens`: the last one's row must be computed again for its logits.
        """
        self._index()
        found: Slot | None = None
        most = 0
        for common, slot in self._trie.matches(tokens[:-1]):
            if common < most:
                break
            reached = self._reach(slot, common)
            if reached > most or (
                found is not None and reached == most and found.busy and not slot.busy
            ):
                found, most = slot, reached
        return found, most

    def known(self, tokens: Sequence[int]) -> int:
        """How many leading tokens of a prompt need not be read, from wherever."""
        _, in_pool = self.best(tokens)
        return max(in_pool, *(shelf.find(tokens[:-1]) for shelf in self.shelves), 0)

    def shared(self, tokens: Sequence[int]) -> int:
        """How many leading tokens of a prompt take no cells: a running sequence holds them."""
        slot, in_pool = self.best(tokens)
        return in_pool if slot is not None and slot.busy else 0

    def _reach(self, slot: Slot, common: int) -> int:
        first = self._memory.pos_min(slot.seq) if self.kind.n_swa else 0
        return reach(self.kind, len(slot.tokens), first, common, ends(slot.checkpoints))

    def _index(self) -> None:
        """Tell the trie what was computed since the last look: running sequences only grow."""
        for slot in self._slots:
            if slot.indexed < len(slot.tokens):
                self._trie.extend(slot, slot.tokens[slot.indexed :])
                slot.indexed = len(slot.tokens)

    # who gets a sequence

    def open(self, tokens: Sequence[int]) -> Slot | None:
        """A running sequence that begins with the longest known prefix of `tokens`.

        An idle donor is taken over when nearly all of it is wanted, else copied from. None: every
        sequence is busy.
        """
        donor, in_pool = self.best(tokens)
        slot = self._from_shelf(tokens[:-1], in_pool, donor)
        if slot is not None:
            return slot
        if donor is None:
            return self.empty()
        tail = len(donor.tokens) - in_pool
        spare = any(not slot.busy and slot is not donor for slot in self._slots)
        if donor.busy or (tail >= TAIL and spare):
            slot = self.empty(keep=donor)
            if slot is not None:
                self.share(donor, slot, in_pool)
            return slot
        if tail >= TAIL:
            self._shelve(donor)
        self.cut(donor, in_pool)
        return self._run(donor)

    def _run(self, slot: Slot, from_disk: int = 0) -> Slot:
        slot.busy, slot.from_disk = True, from_disk
        self.pool.wake(slot.cells)
        return slot

    def empty(self, keep: Slot | None = None) -> Slot | None:
        """A running sequence with nothing in it; `keep` stays. None: every sequence is busy."""
        idle = [slot for slot in self._slots if not slot.busy and slot is not keep]
        if not idle:
            return None
        slot = min(idle, key=lambda slot: (bool(slot.tokens), slot.used))
        self.park(slot)
        return self._run(slot)

    def _from_shelf(self, wanted: Sequence[int], in_pool: int, donor: Slot | None) -> Slot | None:
        """A sequence out of the shelf that has most, if that is worth a state."""
        found = [(shelf.find(wanted), -place) for place, shelf in enumerate(self.shelves)]
        most, place = max(found, default=(0, 0))
        if most < in_pool + WORTH_A_STATE or not self.free():
            return None
        shelf = self.shelves[-place]
        kept = shelf.take(wanted)
        if kept is None:
            return None
        if donor is not None and not donor.busy and len(donor.tokens) == in_pool:
            self.forget(donor)  # all it has is in what comes
        slot = self.empty()
        if slot is None:
            return None
        if not self._restore(slot, kept, shelf):
            self.release(slot)
            return None
        # A shelf promises at least: now the tokens are there to be compared one by one.
        self.cut(slot, kept.reach(self.kind, common_prefix(kept.tokens, wanted)))
        slot.from_disk = len(slot.tokens) if shelf.origin == "disk" else 0
        return slot

    def _restore(self, slot: Slot, kept: Kept, shelf: Shelf) -> bool:
        """Put a state into an empty sequence. False: it does not fit, the prompt is read."""
        if self.kind.cells:
            while self.pool.free < len(kept.tokens) and self.evict():
                pass
            if self.pool.free < len(kept.tokens):
                shelf.put(kept)
                return False
        if not self._memory.restore(slot.seq, kept.state):
            self.forget(slot)
            shelf.refused(kept)
            return False
        self._hold(slot, kept.tokens)
        slot.checkpoints = list(kept.checkpoints)
        return True

    def _hold(self, slot: Slot, tokens: Sequence[int]) -> None:
        """An empty, running sequence has cells for `tokens` now."""
        slot.tokens = list(tokens)
        if self.kind.cells:
            slot.cells = self.pool.take(len(tokens))

    def share(self, source: Slot, target: Slot, count: int) -> None:
        """Let `target`, empty and running, begin with the first `count` tokens of `source`."""
        self._memory.seq_cp(source.seq, target.seq, count)
        target.tokens = source.tokens[:count]
        target.cells = source.cells[:count]
        self.pool.share(target.cells)
        target.checkpoints = [point for point in source.checkpoints if point.end <= count]
        first = self._memory.pos_min(source.seq) if self.kind.n_swa else 0
        if not cuttable(self.kind, len(source.tokens), first, count):
            self._go_back(target, count)

    # what happens to a sequence

    def extend(self, slot: Slot, tokens: Sequence[int]) -> None:
        """`tokens` were computed."""
        slot.tokens += tokens
        if self.kind.cells:
            slot.cells += self.pool.take(len(tokens))

    def cut(self, slot: Slot, count: int) -> None:
        """Keep the first `count` tokens, or as many as can be right: down to a checkpoint, or 0."""
        if count >= len(slot.tokens):
            return
        first = self._memory.pos_min(slot.seq) if self.kind.n_swa else 0
        if not count or not cuttable(self.kind, len(slot.tokens), first, count):
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

    def clear(self) -> None:
        """The memory was cleared, and the books cannot be trusted: begin anew."""
        self.pool = Cells(self.pool.size)
        self._trie = Trie()
        self._slots = [Slot(slot.seq) for slot in self._slots]

    def repair(self, slot: Slot, tokens: Sequence[int], count: int) -> None:
        """After a decode that stopped half-way: the first `count` of `tokens` have cells.

        A recurrent state that was being written is nobody's: back to a checkpoint.
        """
        before = len(slot.tokens)
        if count < before or (self.kind.whole_only and count != before):
            self._go_back(slot, min(count, before))
            return
        self.extend(slot, tokens[before:count])

    def release(self, slot: Slot) -> None:
        """Nobody runs on it any more; its tokens stay warm."""
        self._clock += 1
        if slot.busy:
            self.pool.rest(slot.cells)
        slot.busy, slot.used = False, self._clock

    def checkpoint(self, slot: Slot) -> None:
        """Keep what the sequence is now, so that it can be taken up again here."""
        state = self._memory.state(slot.seq, PARTIAL_ONLY)
        if state is None:
            return
        slot.checkpoints = checkpoints.add(slot.checkpoints, Checkpoint(len(slot.tokens), state))
        holders = sorted(
            (other for other in self._slots if other.checkpoints and other is not slot),
            key=lambda other: (other.busy, other.used),
        )
        for other in [*holders, slot]:
            if self._checkpoint_size() <= self._checkpoint_bytes:
                return
            other.checkpoints = other.checkpoints[-1:] if other is slot else []

    def _checkpoint_size(self) -> int:
        points = {id(point): point for slot in self._slots for point in slot.checkpoints}
        return sum(point.state.nbytes for point in points.values())

    # what leaves the pool

    def park(self, slot: Slot) -> None:
        """Take a sequence out of the pool; its state goes to the shelves if it is worth one."""
        if slot.tokens and self._alone(slot) >= TAIL:
            self._shelve(slot)
        self.forget(slot)

    def _alone(self, slot: Slot) -> int:
        """How many of its tokens could not be had from elsewhere as fast: a disk does not count."""
        self._index()
        others = 0
        for common, other in self._trie.matches(slot.tokens):
            if common <= others:
                break
            if other is not slot:
                others = max(others, self._reach(other, common))
        in_ram = [shelf for shelf in self.shelves if shelf.origin == "memory"]
        on_shelves = [shelf.find(slot.tokens) for shelf in in_ram]
        return len(slot.tokens) - max([others, *on_shelves])

    def _shelve(self, slot: Slot) -> None:
        kept = self.snapshot(slot) if self.shelves else None
        falling = [kept] if kept is not None else []
        for shelf in self.shelves:
            falling = [fallen for one in falling for fallen in shelf.put(one)]

    def snapshot(self, slot: Slot) -> Kept | None:
        """A copy of an idle or running sequence; None when llama.cpp gives no state."""
        state = self._memory.state(slot.seq)
        if state is None:
            return None
        first = max(0, self._memory.pos_min(slot.seq)) if self.kind.n_swa else 0
        return Kept(list(slot.tokens), state, first, tuple(slot.checkpoints), slot.tag)

    def idle(self) -> Iterator[Slot]:
        """The warm sequences of the pool, the last used first: what a disk may want to keep."""
        warm = [slot for slot in self._slots if slot.tokens and not slot.busy]
        yield from sorted(warm, key=lambda slot: -slot.used)

    def evict(self) -> bool:
        """Park the idle sequence that was used longest ago. False: none holds anything."""
        idle = [slot for slot in self._slots if not slot.busy and slot.tokens]
        if not idle:
            return False
        self.park(min(idle, key=lambda slot: slot.used))
        return True

    def tidy(self, wanted: int) -> bool:
        """One step so that idle sequences cost the running ones nothing. False: all is well.

        `wanted` are the cells that the running requests will hold soon. A step copies one state:
        it is called between two decodes until it has nothing to do. Copying a cell out and back
        costs a CPU as much as attending to it for some seven tokens.
        """
        if not self.pool.active and not wanted:
            return False
        if self.pool.used - self.pool.active >= TAIL:
            return self.evict()
        if _span(self.pool.highest) > SPREAD * _span(self.pool.used):
            return self._move_down()
        return False

    def _move_down(self) -> bool:
        """Put the sequence that holds the highest cell into the lowest free ones."""
        holders = [slot for slot in self._slots if slot.cells]
        slot = max(holders, key=lambda slot: max(slot.cells))
        if self.pool.lowest_without(slot.cells) > 0.8 * self.pool.highest:
            return False
        state = self._memory.state(slot.seq)
        if state is None:
            return False
        tokens, points, busy = list(slot.tokens), slot.checkpoints, slot.busy
        self.forget(slot)
        if not self._memory.restore(slot.seq, state):
            self.forget(slot)  # a running reply reads it again
            return True
        if not busy:
            slot.busy = True  # for the books: what is taken is taken by one that runs
        self._hold(slot, tokens)
        slot.checkpoints = points
        if not busy:
            self.pool.rest(slot.cells)
            slot.busy = False
        return True


def _span(cells: int) -> int:
    """Cells that attention spans when the first `cells` are in use."""
    return -(-cells // STEP) * STEP
