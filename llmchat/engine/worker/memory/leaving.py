"""What leaves the pool, and when: so that a running sequence never pays for an idle one.

Owns which sequence is parked or moved next, whether it is worth a state, and its way down the
shelves. Functions over the pool's sequences and the shelves below them; they keep nothing. Refuses
the books (`sequences.py`), what a shelf keeps, and bringing anything back (`table.py`).
"""

from collections.abc import Sequence
from typing import Final

from llmchat.engine.worker.memory.parked import TAIL
from llmchat.engine.worker.memory.sequences import Sequences, Slot
from llmchat.engine.worker.memory.shelf import Shelf

STEP: Final = 256
"""Attention spans cells in steps of so many (`llama_kv_cache::get_n_kv`)."""
SPREAD: Final = 1.25
"""A sequence is moved down when attention spans more than this many times what it has to."""
NOT_LOWER: Final = 0.8
"""A sequence stays when moving it leaves more than this part of the cells to be spanned."""


def park(sequences: Sequences, shelves: Sequence[Shelf], slot: Slot) -> None:
    """Take a sequence out of the pool; its state goes to the shelves if it is worth one."""
    if slot.tokens and _alone(sequences, shelves, slot) >= TAIL:
        shelve(sequences, shelves, slot)
    sequences.forget(slot)


def _alone(sequences: Sequences, shelves: Sequence[Shelf], slot: Slot) -> int:
    """How many of its tokens could not be had from elsewhere as fast: a disk does not count."""
    others = 0
    for common, other in sequences.matches(slot.tokens):
        if common <= others:
            break
        if other is not slot:
            others = max(others, sequences.reach(other, common))
    in_ram = [shelf for shelf in shelves if shelf.origin == "memory"]
    on_shelves = [shelf.find(slot.tokens) for shelf in in_ram]
    return len(slot.tokens) - max([others, *on_shelves])


def shelve(sequences: Sequences, shelves: Sequence[Shelf], slot: Slot) -> None:
    """Copy a sequence's state to the first shelf; what has no room on one falls to the next."""
    kept = sequences.snapshot(slot) if shelves else None
    falling = [kept] if kept is not None else []
    for shelf in shelves:
        falling = [fallen for one in falling for fallen in shelf.put(one)]


def evict(sequences: Sequences, shelves: Sequence[Shelf]) -> bool:
    """Park the idle sequence that was used longest ago. False: none holds anything."""
    idle = [slot for slot in sequences.slots if not slot.busy and slot.tokens]
    if not idle:
        return False
    park(sequences, shelves, min(idle, key=lambda slot: slot.used))
    return True


def tidy(sequences: Sequences, shelves: Sequence[Shelf], wanted: int) -> bool:
    """One step so that idle sequences cost the running ones nothing. False: all is well.

    `wanted` are the cells that the running requests will hold soon. A step copies one state:
    it is called between two decodes until it has nothing to do. Copying a cell out and back
    costs a CPU as much as attending to it for some seven tokens.
    """
    pool = sequences.pool
    if not pool.active and not wanted:
        return False
    if pool.used - pool.active >= TAIL:
        return evict(sequences, shelves)
    if _span(pool.highest) > SPREAD * _span(pool.used):
        return _move_down(sequences)
    return False


def _move_down(sequences: Sequences) -> bool:
    """Put the sequence that holds the highest cell into the lowest free ones."""
    holders = [slot for slot in sequences.slots if slot.cells]
    slot = max(holders, key=lambda slot: max(slot.cells))
    if sequences.pool.lowest_without(slot.cells) > NOT_LOWER * sequences.pool.highest:
        return False
    kept = sequences.snapshot(slot)
    if kept is None:
        return False
    sequences.forget(slot)
    sequences.restore(slot, kept)  # where llama.cpp refuses it, a running reply reads it again
    return True


def _span(cells: int) -> int:
    """Cells that attention spans when the first `cells` are in use."""
    return -(-cells // STEP) * STEP
