"""One state on its way at a time: who waits for it, who for the next, and who gives way."""

from collections.abc import Callable, Sequence
from typing import Literal, cast

from llmchat.engine.worker.fetching import Fetching
from llmchat.engine.worker.memory import Kept, Near, SequenceTable
from llmchat.engine.worker.reply import Reply, Task


class Disk:
    """Has all of every prompt, and lands what is asked for when it is told to."""

    origin: Literal["disk"] = "disk"

    def __init__(self) -> None:
        self.asked: list[Sequence[int]] = []
        self.given_up = 0
        self.empty = False
        self.land: Callable[[Near | None], None] = lambda _brought: None

    def find(self, tokens: Sequence[int]) -> int:
        return len(tokens)

    def put(self, _kept: Kept) -> Sequence[Kept]:
        return []

    def fetch(
        self, tokens: Sequence[int], ready: Callable[[Near | None], None]
    ) -> Callable[[], None] | None:
        if self.empty:
            return None
        self.asked.append(tokens)
        self.land = ready
        return self._give_up

    def _give_up(self) -> None:
        self.given_up += 1


class Brought:
    """A state."""


class Bench:
    """`memory`: prompts that memory has as well."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.memory: list[Sequence[int]] = []
        self.woken = 0
        self.fetching = Fetching(cast(SequenceTable, self), self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def far(self, tokens: Sequence[int]) -> Disk | None:
        return None if tokens in self.memory else self.disk

    def land(self) -> Near:
        brought = cast(Near, Brought())
        self.disk.land(brought)
        return brought


def task() -> Task:
    return object.__new__(Task)


def reply() -> Reply:
    return object.__new__(Reply)


ONE, TWO, THREE = [1], [2], [3]


def test_it_is_away_until_it_lands_and_what_came_is_taken_once():
    bench, one = Bench(), task()
    assert not bench.fetching.is_away(one)
    assert bench.fetching.sends(one, ONE)
    assert bench.fetching.is_away(one)
    assert bench.fetching.sends(one, ONE)
    assert bench.fetching.take(one) is None
    brought = bench.land()
    assert bench.woken == 1
    assert not bench.fetching.is_away(one)
    assert not bench.fetching.sends(one, ONE)
    assert bench.fetching.take(one) is brought
    assert bench.fetching.take(one) is None
    assert bench.disk.asked == [ONE]


def test_what_memory_has_or_a_disk_has_no_more_is_not_waited_for():
    bench, one = Bench(), task()
    bench.memory.append(ONE)
    assert not bench.fetching.sends(one, ONE)
    bench.memory.clear()
    bench.disk.empty = True
    assert not bench.fetching.sends(one, ONE)
    assert not bench.fetching.is_away(one)
    assert bench.fetching.take(one) is None


def test_what_was_bad_is_not_asked_for_again():
    bench, one = Bench(), task()
    assert bench.fetching.sends(one, ONE)
    bench.disk.land(None)
    assert not bench.fetching.sends(one, ONE)
    assert bench.fetching.take(one) is None
    assert bench.disk.asked == [ONE]


def test_others_wait_until_the_place_is_free_and_look_again_then():
    bench, one, two, three = Bench(), task(), task(), task()
    assert bench.fetching.sends(one, ONE)
    assert bench.fetching.sends(two, TWO)
    assert bench.fetching.sends(three, THREE)
    bench.land()
    assert bench.fetching.is_away(two)  # what landed still lies there
    assert bench.fetching.take(one) is not None
    assert not bench.fetching.is_away(two)
    bench.memory.append(TWO)
    assert not bench.fetching.sends(two, TWO)
    assert bench.fetching.sends(three, THREE)
    assert bench.disk.asked == [ONE, THREE]


def test_what_is_given_up_keeps_its_place_until_its_thread_is_done():
    bench, one, two = Bench(), task(), task()
    assert bench.fetching.sends(one, ONE)
    bench.fetching.drop(one)
    assert bench.disk.given_up == 1
    assert bench.fetching.sends(two, TWO)
    assert bench.fetching.is_away(two)
    assert bench.disk.asked == [ONE]
    bench.land()
    assert not bench.fetching.is_away(two)
    assert bench.fetching.sends(two, TWO)
    assert bench.disk.asked == [ONE, TWO]
    assert bench.fetching.is_away(two)


def test_what_landed_for_one_who_ends_is_let_go():
    bench, one, two = Bench(), task(), task()
    assert bench.fetching.sends(one, ONE)
    assert bench.fetching.sends(two, TWO)
    bench.land()
    bench.fetching.drop(one)
    assert not bench.fetching.is_away(two)
    assert bench.fetching.take(one) is None
    assert bench.fetching.sends(two, TWO)
    bench.fetching.drop(two)
    bench.fetching.drop(two)


def test_a_reply_that_gave_way_goes_before_one_who_waits_for_its_room():
    bench, waits, runs, younger = Bench(), task(), reply(), reply()
    assert bench.fetching.sends(waits, ONE)
    assert bench.fetching.sends(runs, TWO)
    assert bench.disk.asked == [ONE]  # what is just being read is read
    assert bench.fetching.is_away(runs)
    bench.land()
    assert not bench.fetching.is_away(runs)
    assert bench.fetching.sends(runs, TWO)
    assert bench.disk.asked == [ONE, TWO]
    assert bench.fetching.take(waits) is None
    assert bench.fetching.sends(waits, ONE)
    assert bench.fetching.sends(younger, THREE)
    bench.land()
    assert bench.fetching.is_away(waits)
    assert bench.fetching.is_away(younger)  # only who was not let in yet gives way
    assert bench.fetching.take(runs) is not None
    assert not bench.fetching.is_away(younger)
