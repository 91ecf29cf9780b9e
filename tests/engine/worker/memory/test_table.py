"""The sequence table over a memory that only keeps books."""

import numpy as np

from llmchat.engine.worker.memory import Kind, Parked, SequenceTable, Slot
from llmchat.engine.worker.memory.kinds import Bytes


class Books:
    """A memory as llama.cpp keeps it: positions per sequence."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.first: dict[int, int] = {}
        self.partial = True
        self.fits = True

    def seq_rm(self, seq: int, start: int = -1, end: int = -1) -> bool:
        self.calls.append(("rm", seq, start, end))
        return self.partial or start <= 0

    def seq_cp(self, source: int, target: int, end: int) -> None:
        self.calls.append(("cp", source, target, end))

    def pos_min(self, seq: int) -> int:
        return self.first.get(seq, 0)

    def state(self, seq: int, flags: int = 0) -> Bytes | None:
        self.calls.append(("state", seq, flags))
        return np.zeros(100, np.uint8)

    def restore(self, seq: int, data: Bytes, flags: int = 0) -> bool:
        self.calls.append(("restore", seq, flags))
        return self.fits


def table(n: int = 4, kind: Kind | None = None) -> tuple[SequenceTable, Books]:
    books = Books()
    kind = kind or Kind()
    sequences = SequenceTable(books, n, kind, n_cells=4096, shelves=[Parked(1 << 20, kind)])
    return sequences, books


def open_slot(sequences: SequenceTable, tokens: list[int]) -> Slot:
    slot = sequences.open(tokens)
    assert slot is not None
    return slot


def run(sequences: SequenceTable, tokens: list[int]) -> Slot:
    """A request that read and wrote `tokens`, and is over."""
    slot = open_slot(sequences, tokens)
    sequences.extend(slot, tokens[len(slot.tokens) :])
    sequences.release(slot)
    return slot


def test_the_next_turn_takes_its_conversation_over():
    sequences, _ = table()
    first = run(sequences, [1, 2, 3, 4])
    again = open_slot(sequences, [1, 2, 3, 4, 5, 6])
    assert again is first
    assert again.tokens == [1, 2, 3, 4]


def test_the_last_token_is_always_read_again_for_its_logits():
    sequences, _ = table()
    run(sequences, [1, 2, 3, 4])
    assert open_slot(sequences, [1, 2, 3, 4]).tokens == [1, 2, 3]


def test_a_busy_sequence_is_copied_from_not_taken():
    sequences, books = table()
    busy = open_slot(sequences, [1, 2, 3, 4])
    sequences.extend(busy, [1, 2, 3, 4])
    other = open_slot(sequences, [1, 2, 3, 9, 9])
    assert other is not busy
    assert other.tokens == [1, 2, 3]
    assert ("cp", busy.seq, other.seq, 3) in books.calls
    assert busy.tokens == [1, 2, 3, 4]
    assert sequences.pool.used == 4  # what is shared counts once


def test_a_short_shared_beginning_does_not_destroy_a_long_conversation():
    sequences, _ = table()
    long = run(sequences, list(range(100)))
    other = open_slot(sequences, [0, 1, 2, 999, 998])
    assert other is not long
    assert len(long.tokens) == 100


def test_idle_ones_are_evicted_oldest_first_and_busy_ones_never():
    sequences, _ = table(3)
    old, new = run(sequences, [1, 1, 1]), run(sequences, [2, 2, 2])
    busy = open_slot(sequences, [3, 3, 3])
    sequences.extend(busy, [3, 3, 3])
    assert sequences.evict()
    assert not old.tokens
    assert new.tokens
    assert sequences.evict()
    assert not sequences.evict()
    assert busy.tokens == [3, 3, 3]


def test_no_sequence_when_all_are_busy():
    sequences, _ = table(2)
    open_slot(sequences, [1])
    open_slot(sequences, [2])
    assert sequences.open([3]) is None
    assert sequences.free() == 0


def test_a_sliding_window_is_reused_only_where_the_window_is_still_there():
    """llama.cpp answers such a cut with True and computes garbage: 0.7 nats, another top token."""
    sequences, books = table(2, Kind(n_swa=512))
    slot = run(sequences, list(range(3000)))
    books.first[slot.seq] = 1976
    assert sequences.known([*range(3000), 1, 2]) == 3000  # going on is always right
    assert sequences.known([*range(900), -1, -1]) == 0
    assert sequences.known([*range(2900), -1, -1]) == 2900
    books.first[slot.seq] = 0
    assert sequences.known([*range(900), -1, -1]) == 900


def test_a_recurrent_state_is_reused_whole_or_not_at_all():
    sequences, _ = table(2, Kind(whole_only=True))
    run(sequences, [1, 2, 3, 4])
    assert sequences.known([1, 2, 3, 4, 5]) == 4
    assert sequences.known([1, 2, 3, 9]) == 0
    assert sequences.known([1, 2, 3, 4]) == 0


def test_after_a_broken_decode_only_what_is_there_counts():
    sequences, _ = table()
    slot = open_slot(sequences, list(range(10)))
    sequences.extend(slot, [0, 1])
    sequences.repair(slot, list(range(10)), 6)
    assert slot.tokens == list(range(6))
    sequences.repair(slot, list(range(10)), 3)
    assert slot.tokens == []


def test_a_memory_that_cannot_cut_is_emptied():
    sequences, books = table()
    books.partial = False
    slot = run(sequences, [1, 2, 3, 4])
    assert open_slot(sequences, [1, 2, 3, 9]).tokens == []
    assert slot.tokens == []


def test_idle_sequences_leave_while_somebody_runs_unless_they_are_not_worth_a_state():
    sequences, _ = table()
    run(sequences, list(range(1000, 1100)))
    run(sequences, list(range(2000, 2020)))
    assert not sequences.tidy(0)  # nobody runs
    running = open_slot(sequences, list(range(50)))
    sequences.extend(running, list(range(50)))
    assert sequences.tidy(50)
    assert sequences.parked()[0] == 1
    assert sequences.pool.used == 70
    assert not sequences.tidy(50)


def test_a_running_sequence_whose_state_does_not_go_back_is_empty_and_keeps_its_owner():
    sequences, books = table()
    idle = run(sequences, list(range(1000, 1700)))
    running = open_slot(sequences, list(range(50)))
    sequences.extend(running, list(range(50)))
    sequences.forget(idle)
    assert sequences.pool.highest == 750
    books.fits = False
    assert sequences.tidy(50)
    assert running.busy
    assert running.tokens == running.cells == []
    assert sequences.pool.used == sequences.pool.active == 0
    assert not sequences.tidy(50)
