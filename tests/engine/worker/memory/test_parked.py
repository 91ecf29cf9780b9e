"""The shelf in RAM: its budget, who leaves, and what falls to the shelf below."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from llmchat.engine.worker.memory import Kept, Kind, Near, Parked, SequenceTable, budget
from llmchat.engine.worker.memory.kinds import Checkpoint
from llmchat.engine.worker.memory.trie import common_prefix
from tests.engine.worker.memory.fake import Pool


def kept(tokens: Sequence[int], size: int = 100, points: Sequence[int] = ()) -> Kept:
    return Kept(
        list(tokens),
        np.zeros(size, np.uint8),
        0,
        tuple(Checkpoint(end, np.zeros(10, np.uint8)) for end in points),
    )


def test_the_budget_is_a_tenth_of_what_is_free_and_at_most_two_gib():
    assert budget(8 << 30) == (8 << 30) // 10
    assert budget(500 << 30) == 2 << 30


def test_what_is_wanted_whole_leaves_and_what_more_hangs_on_stays():
    shelf = Parked(1000, Kind())
    shelf.put(kept(range(100)))
    assert shelf.find([*range(50), -1]) == 50
    taken = shelf.take(list(range(50)))
    assert taken is not None
    assert taken.tokens == list(range(100))
    assert len(shelf) == 1
    assert shelf.take([*range(100), 7]) is taken
    assert len(shelf) == 0
    assert shelf.size == 0
    assert shelf.take([1, 2]) is None


def test_the_cheapest_to_rebuild_leaves_first():
    shelf = Parked(350, Kind())
    long, short = kept(range(300)), kept([*range(500, 520)])
    shelf.put(short)
    shelf.put(long)
    shelf.put(kept(range(1000, 1200)))
    (fallen,) = shelf.put(kept(range(2000, 2200)))
    assert fallen is short
    assert shelf.size == 300


def test_what_another_one_holds_too_is_worth_only_its_own_end():
    shelf = Parked(350, Kind())
    story = list(range(300))
    branch = kept([*story, *range(900, 910)])
    shelf.put(kept([*story, *range(400, 500)]))
    shelf.put(branch)
    shelf.put(kept(range(2000, 2060)))
    (fallen,) = shelf.put(kept(range(3000, 3060)))
    assert fallen is branch


def test_age_counts():
    shelf = Parked(250, Kind())
    first = kept(range(120))
    shelf.put(first)
    fallen = [
        gone
        for start in range(1000, 9000, 1000)
        for gone in shelf.put(kept(range(start, start + 100)))
    ]
    assert first in fallen


def test_a_state_beyond_the_whole_budget_is_not_kept():
    shelf = Parked(50, Kind())
    large = kept(range(100))
    assert shelf.put(large) == [large]
    assert shelf.size == 0


def test_a_longer_one_takes_the_place_of_its_own_beginning():
    shelf = Parked(1000, Kind())
    shelf.put(kept(range(100)))
    shelf.put(kept(range(200)))
    assert len(shelf) == 1
    state = Parked(1000, Kind(whole_only=True))
    state.put(kept(range(100)))
    state.put(kept(range(200)))  # it cannot go back to 100
    assert len(state) == 2
    state.put(kept(range(300), points=[100, 200]))
    assert len(state) == 1
    assert state.find(range(250)) == 200


class Below:
    """A disk that keeps everything."""

    origin: Literal["disk"] = "disk"

    def __init__(self) -> None:
        self.held: list[Kept] = []

    def find(self, tokens: Sequence[int]) -> int:
        best = 0
        for one in self.held:
            if list(tokens[: len(one.tokens)]) == one.tokens:
                best = max(best, len(one.tokens))
        return best

    def fetch(
        self, tokens: Sequence[int], ready: Callable[[Near | None], None]
    ) -> Callable[[], None] | None:
        ready(Hand(next(one for one in self.held if len(one.tokens) == self.find(tokens))))
        return lambda: None

    def put(self, one: Kept) -> Sequence[Kept]:
        self.held.append(one)
        return []


class Hand:
    """One sequence that was brought from below."""

    origin: Literal["disk"] = "disk"

    def __init__(self, one: Kept) -> None:
        self.one = one
        self.taken = 0

    def find(self, tokens: Sequence[int]) -> int:
        return common_prefix(self.one.tokens, tokens)

    def take(self, _tokens: Sequence[int]) -> Kept | None:
        self.taken += 1
        return self.one

    def refused(self, _one: Kept) -> None:
        raise AssertionError

    def put(self, _one: Kept) -> Sequence[Kept]:
        return []


def test_what_ram_lets_go_falls_to_the_disk_and_comes_back_from_there():
    kind = Kind()
    pool, below = Pool(1000, 2, kind), Below()
    table = SequenceTable(pool, 2, kind, n_cells=1000, shelves=[Parked(2500, kind), below])
    stories = [list(range(start, start + 80)) for start in (0, 1000, 2000, 3000, 4000)]
    for story in stories:
        slot = table.open([*story, 9])
        assert slot is not None
        assert pool.decode(slot.seq, story, 0)
        table.extend(slot, story)
        table.release(slot)
    gone = below.held[0].tokens
    assert table.far([*gone, 5]) is below
    slot = table.open([*gone, 5], Hand(below.held[0]))
    assert slot is not None
    assert slot.tokens == gone
    assert slot.from_disk == 80
    assert pool.right(slot.seq, gone)
    table.release(slot)
    assert table.far([*gone, 5]) is None  # memory is as good
    late = Hand(below.held[0])
    assert table.open([*gone, 5], late) is slot
    assert late.taken == 0
    table.release(slot)
    assert table.far([*stories[-1], 5]) is None
    again = table.open([*stories[-1], 5])
    assert again is not None
    assert again.from_disk == 0
    assert again.tokens == stories[-1]


def test_a_state_that_finds_no_room_stays_on_its_shelf():
    kind = Kind()
    pool = Pool(100, 3, kind)
    shelf = Parked(100_000, kind)
    table = SequenceTable(pool, 3, kind, n_cells=100, shelves=[shelf])
    story = list(range(80))
    slot = table.open([*story, 9])
    assert slot is not None
    pool.decode(slot.seq, story, 0)
    table.extend(slot, story)
    table.release(slot)
    table.park(slot)
    busy = table.open([500] * 50)
    assert busy is not None
    pool.decode(busy.seq, [500] * 49, 0)
    table.extend(busy, [500] * 49)
    other = table.open([*story, 1])
    assert other is not None
    assert other.tokens == []
    assert other.busy
    assert len(shelf) == 1
