"""Which sequence of the pool a prompt goes on in, and what it need not read.

Owns the one lookup over the pool and the shelves below it: the longest known beginning is taken
over, copied (metadata only in a unified pool) or brought back from a shelf, and what must give way
to it leaves (`leaving.py`). Refuses policy about requests, the books (`sequences.py`), and reuse
that would be silently wrong (`kinds.py`).
"""

from collections.abc import Sequence
from typing import Final

from llmchat.engine.worker.memory import leaving
from llmchat.engine.worker.memory.kinds import Kept, Kind, Memory
from llmchat.engine.worker.memory.parked import TAIL, Parked
from llmchat.engine.worker.memory.sequences import Sequences, Slot
from llmchat.engine.worker.memory.shelf import Far, Near, Shelf
from llmchat.engine.worker.memory.trie import common_prefix

WORTH_A_STATE: Final = 16
"""Tokens that a shelf must have more than the pool, to be asked for a state."""


class SequenceTable(Sequences):
    """The pool's sequences, and the shelves below it. For the inference thread alone.

    A kind of `Sequences`, not a holder of one: what happens for each token costs one call.
    """

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
        super().__init__(
            memory, n_seq_max, kind, n_cells=n_cells, checkpoint_bytes=checkpoint_bytes
        )
        self.shelves = list(shelves)

    def free(self) -> int:
        """Sequences that a request could get, idle ones parked."""
        return sum(not slot.busy for slot in self.slots)

    def parked(self) -> tuple[int, int]:
        """How many sequences lie in RAM, and their bytes; from any thread."""
        shelves = [shelf for shelf in self.shelves if isinstance(shelf, Parked)]
        return sum(map(len, shelves)), sum(shelf.size for shelf in shelves)

    # what is known

    def best(self, tokens: Sequence[int]) -> tuple[Slot | None, int]:
        """The sequence of the pool with the longest prefix to spare, idle ones first on a tie.

        Never all of `tokens`: the last one's row must be computed again for its logits.
        """
        found: Slot | None = None
        most = 0
        for common, slot in self.matches(tokens[:-1]):
            if common < most:
                break
            reached = self.reach(slot, common)
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

    def far(self, tokens: Sequence[int]) -> Far | None:
        """The shelf that has so much more of a prompt than memory that it is worth waiting for.

        To be asked before `open`, which takes only what is there at once.
        """
        wanted = tokens[:-1]
        far = next((shelf for shelf in self.shelves if isinstance(shelf, Far)), None)
        most = far.find(wanted) if far is not None else 0
        if most < WORTH_A_STATE:
            return None
        _, in_pool = self.best(tokens)
        near = max((shelf.find(wanted) for shelf in self.shelves if shelf is not far), default=0)
        return far if most >= in_pool + WORTH_A_STATE and most > near else None

    # who gets a sequence

    def open(self, tokens: Sequence[int], brought: Near | None = None) -> Slot | None:
        """A running sequence that begins with the longest prefix of `tokens` that is at hand.

        `brought`: what a `far` shelf gave for them; memory may have become as good meanwhile. An
        idle donor is taken over when nearly all of it is wanted, else copied from. None: every
        sequence is busy.
        """
        donor, in_pool = self.best(tokens)
        slot = self._from_shelf(tokens[:-1], in_pool, donor, brought)
        if slot is not None:
            return slot
        if donor is None:
            return self.empty()
        tail = len(donor.tokens) - in_pool
        spare = any(not slot.busy and slot is not donor for slot in self.slots)
        if donor.busy or (tail >= TAIL and spare):
            slot = self.empty(keep=donor)
            if slot is not None:
                self.share(donor, slot, in_pool)
            return slot
        if tail >= TAIL:
            leaving.shelve(self, self.shelves, donor)
        self.cut(donor, in_pool)
        return self.run(donor)

    def empty(self, keep: Slot | None = None) -> Slot | None:
        """A running sequence with nothing in it; `keep` stays. None: every sequence is busy."""
        idle = [slot for slot in self.slots if not slot.busy and slot is not keep]
        if not idle:
            return None
        slot = min(idle, key=lambda slot: (bool(slot.tokens), slot.used))
        self.park(slot)
        return self.run(slot)

    def _from_shelf(
        self, wanted: Sequence[int], in_pool: int, donor: Slot | None, brought: Near | None
    ) -> Slot | None:
        """A sequence out of the shelf that has most, if that is worth a state."""
        shelves = [shelf for shelf in (*self.shelves, brought) if isinstance(shelf, Near)]
        found = [(shelf.find(wanted), -place) for place, shelf in enumerate(shelves)]
        most, place = max(found, default=(0, 0))
        if most < in_pool + WORTH_A_STATE or not self.free():
            return None
        shelf = shelves[-place]
        kept = shelf.take(wanted)
        if kept is None:
            return None
        if donor is not None and not donor.busy and len(donor.tokens) == in_pool:
            self.forget(donor)  # all it has is in what comes
        slot = self.empty()
        if slot is None:
            return None
        if not self._bring_back(slot, kept, shelf):
            self.release(slot)
            return None
        # A shelf promises at least: now the tokens are there to be compared one by one.
        self.cut(slot, kept.reach(self.kind, common_prefix(kept.tokens, wanted)))
        slot.from_disk = len(slot.tokens) if shelf.origin == "disk" else 0
        return slot

    def _bring_back(self, slot: Slot, kept: Kept, shelf: Near) -> bool:
        """Put a state into an empty sequence. False: it does not fit, the prompt is read."""
        if self.kind.cells:
            while self.pool.free < len(kept.tokens) and self.evict():
                pass
            if self.pool.free < len(kept.tokens):
                shelf.put(kept)
                return False
        if not self.restore(slot, kept):
            shelf.refused(kept)
            return False
        return True

    # who leaves

    def park(self, slot: Slot) -> None:
        """Take a sequence out of the pool; its state goes to the shelves if it is worth one."""
        leaving.park(self, self.shelves, slot)

    def evict(self) -> bool:
        """Park the idle sequence that was used longest ago. False: none holds anything."""
        return leaving.evict(self, self.shelves)

    def tidy(self, wanted: int) -> bool:
        """One step so that idle sequences cost the running ones nothing: see `leaving.tidy`."""
        return leaving.tidy(self, self.shelves, wanted)
