"""Whatever is asked in whatever order: sequences hold what was decoded, and nobody is lost."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmchat.engine.worker.memory import Kind, Parked, SequenceTable, Slot
from tests.engine.worker.memory.fake import Pool

KINDS = {
    "full": Kind(),
    "window": Kind(n_swa=6),
    "whole window": Kind(n_swa=6, swa_full=True),
    "recurrent": Kind(whole_only=True, cells=False),
    "hybrid": Kind(whole_only=True),
}
CELLS, SEQUENCES = 120, 4


class Torture:
    """Requests that come, read, write, copy, give way and end, over a memory that keeps books."""

    def __init__(self, kind: Kind, seed: int, shelf_bytes: int = 4000) -> None:
        self.random = random.Random(seed)
        self.pool = Pool(CELLS, SEQUENCES, kind)
        self.shelf = Parked(shelf_bytes, kind)
        self.table = SequenceTable(
            self.pool, SEQUENCES, kind, n_cells=CELLS, shelves=[self.shelf], checkpoint_bytes=2000
        )
        self.running: dict[Slot, list[int]] = {}
        self.histories: list[list[int]] = [[1, 2, 3]]
        self.reused = 0

    def step(self) -> None:
        self.random.choice(
            [
                self.ask,
                self.ask,
                self.write,
                self.write,
                self.end,
                self.give_way,
                self.tidy,
                self.alternative,
                self.take_back,
            ]
        )()
        self.check()

    def ask(self) -> None:
        before = self.random.choice(self.histories)
        cut = self.random.randrange(len(before) + 1)
        fresh = [self.random.randrange(4) for _ in range(self.random.randrange(1, 30))]
        prompt = (before[:cut] + fresh)[:60]
        if not self.table.free():
            return
        known = self.table.known(prompt)
        slot = self.table.open(prompt)
        assert slot is not None
        assert slot.busy
        assert slot.tokens == prompt[: len(slot.tokens)]
        assert len(slot.tokens) < len(prompt)
        assert len(slot.tokens) <= known
        self.reused += len(slot.tokens)
        self.running[slot] = prompt
        self.read(slot)

    def read(self, slot: Slot) -> None:
        """All of the prompt, in chunks, with a checkpoint now and then, evicting when full."""
        wanted = self.running[slot]
        while len(slot.tokens) < len(wanted):
            start = len(slot.tokens)
            chunk = wanted[start : start + self.random.randrange(1, 9)]
            if not self.decode(slot, chunk):
                return
            if self.random.random() < 0.3:
                self.table.checkpoint(slot)

    def decode(self, slot: Slot, chunk: list[int]) -> bool:
        assert self.pool.right(slot.seq, slot.tokens)
        while not self.pool.decode(slot.seq, chunk, len(slot.tokens)):
            if not self.table.evict():
                self.stop(slot)
                return False
        self.table.extend(slot, chunk)
        return True

    def write(self) -> None:
        if self.running:
            slot = self.random.choice(list(self.running))
            self.decode(slot, [self.random.randrange(4)])

    def end(self) -> None:
        if self.running:
            self.stop(self.random.choice(list(self.running)))

    def stop(self, slot: Slot) -> None:
        self.histories = [*self.histories[-12:], list(slot.tokens) or [1]]
        self.table.release(slot)
        del self.running[slot]

    def alternative(self) -> None:
        """Another reply to a prompt that has just been read."""
        if self.running and self.table.free():
            first = self.random.choice(list(self.running))
            slot = self.table.empty()
            assert slot is not None
            self.table.share(first, slot, len(first.tokens))
            assert slot.tokens == first.tokens
            self.running[slot] = list(slot.tokens)

    def take_back(self) -> None:
        """Guesses that were wrong."""
        if self.running:
            slot = self.random.choice(list(self.running))
            before = len(slot.tokens)
            count = max(0, before - self.random.randrange(4))
            self.table.cut(slot, count)
            assert len(slot.tokens) <= count

    def give_way(self) -> None:
        if len(self.running) > 1:
            slot = self.random.choice(list(self.running))
            self.table.park(slot)
            assert not slot.tokens
            self.table.release(slot)
            del self.running[slot]

    def tidy(self) -> None:
        for _ in range(20):
            if not self.table.tidy(sum(map(len, self.running.values()))):
                return
        raise AssertionError("tidying does not end")

    def check(self) -> None:
        for slot in self.table.slots:
            assert slot.busy == (slot in self.running)
            assert self.pool.right(slot.seq, slot.tokens) or not slot.tokens
            if not slot.tokens:
                assert not self.pool.held(slot.seq)
            assert all(point.end <= len(slot.tokens) for point in slot.checkpoints)
        books = self.table.pool
        assert books.used == self.pool.used <= CELLS
        assert books.highest == self.pool.highest
        running = {cell for slot in self.running for cell in slot.cells}
        assert books.active == len(running)
        assert self.shelf.size == sum(kept.size for kept in self.shelf._since) <= self.shelf.most


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**9))
def test_a_sequence_is_always_what_was_decoded(name, seed):
    torture = Torture(KINDS[name], seed)
    for _ in range(60):
        torture.step()
    for slot in list(torture.running):
        torture.stop(slot)
    assert torture.table.free() == SEQUENCES


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", KINDS)
def test_a_long_day(name, seed):
    torture = Torture(KINDS[name], seed)
    for _ in range(1500):
        torture.step()
    assert torture.reused


@pytest.mark.parametrize("name", KINDS)
def test_something_is_reused(name):
    torture = Torture(KINDS[name], 7)
    for _ in range(600):
        torture.step()
    assert torture.reused > 100
