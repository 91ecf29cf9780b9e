"""Which tokens lie in which sequence of the pool, and what of them a new prompt can take over.

Owns the sequence table: idle sequences stay warm until their place is needed, the longest common
prefix is taken over or copied (metadata only in a unified pool), and a sliding window, recurrent
or hybrid memory is never reused where it would be silently wrong. Refuses policy about requests.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Memory(Protocol):
    """What the table asks of a context; `capi.Context` has it, and so do the tests' fakes."""

    def seq_rm(self, seq: int, start: int = -1, end: int = -1) -> bool:
        """Forget positions [start, end)."""
        ...

    def seq_cp(self, source: int, target: int, end: int) -> None:
        """Share positions [0, end)."""
        ...

    def pos_min(self, seq: int) -> int:
        """First position that is still there, -1 when empty."""
        ...


class Kind(Struct, frozen=True, kw_only=True):
    """What a model's memory can do."""

    n_swa: int = 0
    """Width of the sliding window when old cells are dropped; 0 = everything stays."""
    whole_only: bool = False
    """Recurrent and hybrid: a state stands for its whole prefix, it cannot be cut."""


class Slot:
    """One sequence of the pool. `tokens` are those whose cells are computed."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.tokens: list[int] = []
        self.shared = 0
        """Leading cells that belong to the sequence it was copied from."""
        self.busy = False
        self.used = 0
        """Clock of the last release: the smallest is evicted first."""


def common_prefix(one: Sequence[int], two: Sequence[int]) -> int:
    """How many leading tokens are the same."""
    limit = min(len(one), len(two))
    if one[:limit] == two[:limit]:
        return limit
    low, high = 0, limit  # slices compare in C: a binary search beats a loop in Python
    while low + 1 < high:
        middle = (low + high) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle
    return low


class SequenceTable:
    """The pool's sequences."""

    def __init__(self, memory: Memory, n_seq_max: int, kind: Kind) -> None:
        self._memory = memory
        self._kind = kind
        self._slots = [Slot(seq) for seq in range(n_seq_max)]
        self._clock = 0

    @property
    def slots(self) -> list[Slot]:
        """All of them, for counting."""
        return self._slots

    def cells(self) -> int:
        """Cells in use, about: what is shared counts once."""
        return sum(len(slot.tokens) - slot.shared for slot in self._slots)

    def active_cells(self) -> int:
        """Cells that running requests hold, about."""
        return sum(len(slot.tokens) - slot.shared for slot in self._slots if slot.busy)

    def free(self) -> int:
        """Sequences that a request could get, idle ones evicted."""
        return sum(not slot.busy for slot in self._slots)

    def reusable(self, slot: Slot, tokens: Sequence[int]) -> int:
        """How many tokens of a prompt this sequence can spare it; never the last one.

        The last token's row must be computed again for its logits. The rule for windows is
        llama.cpp's own (tools/server/server-context.cpp): the window before the cut must be there.
        """
        prefix = min(common_prefix(slot.tokens, tokens), len(tokens) - 1)
        if prefix <= 0:
            return 0
        if self._kind.whole_only:
            return prefix if prefix == len(slot.tokens) else 0
        if self._kind.n_swa and not self._window_is_there(slot, prefix):
            return 0
        return prefix

    def _window_is_there(self, slot: Slot, prefix: int) -> bool:
        if prefix == len(slot.tokens):
            return True
        first = self._memory.pos_min(slot.seq)
        return first == 0 or 0 <= first < max(0, prefix - self._kind.n_swa)

    def best(self, tokens: Sequence[int]) -> tuple[Slot | None, int]:
        """The sequence with the longest prefix to spare, idle ones first on a tie."""
        ranked = [
            (self.reusable(slot, tokens), not slot.busy, slot)
            for slot in self._slots
            if slot.tokens
        ]
        if not ranked:
            return None, 0
        prefix, _, slot = max(ranked, key=lambda item: item[:2])
        return (slot, prefix) if prefix else (None, 0)

    def open(self, tokens: Sequence[int]) -> Slot | None:
        """A busy sequence that begins with the longest known prefix of `tokens`.

        An idle donor is taken over when most of it is wanted, else copied from. None: every
        sequence is busy.
        """
        donor, prefix = self.best(tokens)
        if donor is None:
            return self._empty()
        if not donor.busy and (prefix * 2 >= len(donor.tokens) or not self._spare(donor)):
            self.cut(donor, prefix)
            return self._take(donor)
        slot = self._empty(keep=donor)
        if slot is not None:
            self.share(donor, slot, prefix)
        return slot

    def _spare(self, donor: Slot) -> bool:
        return any(not slot.busy and slot is not donor for slot in self._slots)

    def _take(self, slot: Slot) -> Slot:
        slot.busy = True
        return slot

    def _empty(self, keep: Slot | None = None) -> Slot | None:
        idle = [slot for slot in self._slots if not slot.busy and slot is not keep]
        if not idle:
            return None
        slot = min(idle, key=lambda slot: (bool(slot.tokens), slot.used))
        self.forget(slot)
        return self._take(slot)

    def empty(self) -> Slot | None:
        """A busy sequence with nothing in it, for a copy. None: every sequence is busy."""
        return self._empty()

    def share(self, source: Slot, target: Slot, count: int) -> None:
        """Let `target`, an empty sequence, begin with the first `count` tokens of `source`."""
        self._memory.seq_cp(source.seq, target.seq, count if not self._kind.whole_only else -1)
        target.tokens = source.tokens[:count]
        target.shared = count

    def cut(self, slot: Slot, count: int) -> None:
        """Keep the first `count` tokens."""
        if count < len(slot.tokens):
            if count == 0 or not self._memory.seq_rm(slot.seq, count, -1):
                self.forget(slot)
                return
            del slot.tokens[count:]
            slot.shared = min(slot.shared, count)

    def forget(self, slot: Slot) -> None:
        """Empty the sequence; it keeps its owner, if it has one."""
        self._memory.seq_rm(slot.seq, -1, -1)
        slot.tokens = []
        slot.shared = 0

    def repair(self, slot: Slot, tokens: Sequence[int], count: int) -> None:
        """After a decode that stopped half-way: the first `count` of `tokens` have cells."""
        if self._kind.whole_only and count != len(slot.tokens):
            self.forget(slot)
            return
        if count < len(slot.tokens):
            self.forget(slot)
            return
        slot.tokens = list(tokens[:count])

    def release(self, slot: Slot) -> None:
        """Nobody runs on it any more; its tokens stay warm."""
        self._clock += 1
        slot.busy, slot.used = False, self._clock

    def evict(self) -> bool:
        """Empty the idle sequence that was used longest ago. False: none holds anything."""
        idle = [slot for slot in self._slots if not slot.busy and slot.tokens]
        if not idle:
            return False
        self.forget(min(idle, key=lambda slot: slot.used))
        return True
