"""While one request's state comes from a slow disk: nobody else waits, and all can still happen."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmchat.engine.disk import Candidate, Folder, Found, Reader
from llmchat.engine.protocol import Delta, Finished, PromptProgress, Queued
from llmchat.engine.worker.capi import NO_SLOT, Context
from llmchat.engine.worker.memory import Parked
from llmchat.engine.worker.memory.saved import Saved
from tests.engine.worker import test_disk
from tests.engine.worker.driver import DEADLINE, Asked, Driver
from tests.engine.worker.test_batching import story, write
from tests.engine.worker.test_disk import OTHER, a_worker, ask, chosen, difference, usage

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
left, read_once = test_disk.left, test_disk.read_once


class SlowDisk:
    """Reads when it is told to; gives up at once."""

    def __init__(self, saved: Saved) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.reads = 0
        self._saved = saved

    def read(self, candidate: Candidate, unwanted: Callable[[], bool]) -> Found | None:
        self.reads += 1
        self.began.set()
        while not self.go_on.wait(0.005):
            if unwanted():
                return None
        return self._saved._shelf.read(candidate, unwanted)


@contextmanager
def slow_disk(worker: Driver) -> Iterator[SlowDisk]:
    """The worker reads states only when it may."""
    assert worker.backend._opened is not None
    saved = worker.backend._opened.table.shelves[-1]
    assert isinstance(saved, Saved)
    disk = SlowDisk(saved)
    saved.reader = Reader(disk.read)
    try:
        yield disk
    finally:
        disk.go_on.set()


def start(worker: Driver, tag: str = "one") -> Asked:
    """Ask for what goes on from the saved state."""
    return worker.ask(write(OTHER, 12, tag=tag, top_logprobs=5))


def deltas(asked: Asked) -> int:
    return sum(isinstance(event, Delta) for event in asked.events)


def test_a_neighbour_writes_on_while_a_state_is_read(starter: Path, left: Path):
    with a_worker(starter, left) as worker, slow_disk(worker) as disk:
        neighbour = worker.ask(write(story(20, "Neighbour"), 60, 2))
        neighbour.until(lambda events: any(isinstance(event, Delta) for event in events))
        waits = start(worker)
        assert disk.began.wait(DEADLINE)
        third = worker.ask(write(story(20, "Third"), 5, 3))  # comes later, and is let in
        assert third.wait().finished().usage.completion_tokens == 5
        assert neighbour.wait().finished().usage.completion_tokens == 60
        assert waits.events == []  # it was not told that it is in line either
        disk.go_on.set()
        assert usage(waits.wait()).from_disk > 256
        assert disk.reads == 1
    with a_worker(starter, left) as alone:  # whose cells lie elsewhere: sums are rounded otherwise
        assert difference(waits, ask(alone, OTHER)) < 0.3


def test_nothing_turns_while_everybody_waits_for_the_disk(starter: Path, left: Path):
    with a_worker(starter, left) as worker, slow_disk(worker) as disk:
        waits = start(worker)
        assert disk.began.wait(DEADLINE)
        generation = worker.backend._generation
        assert generation is not None
        deadline = time.monotonic() + DEADLINE
        while generation.busy:  # the turn that sent it away is about to end
            assert time.monotonic() < deadline
            time.sleep(0.001)
        disk.go_on.set()
        assert usage(waits.wait()).from_disk > 256
    with a_worker(starter, left) as alone:
        assert chosen(waits) == chosen(ask(alone, OTHER))


def test_who_cancels_while_it_is_read_does_not_wait(starter: Path, left: Path):
    with a_worker(starter, left) as worker, slow_disk(worker) as disk:
        waits = start(worker)
        assert disk.began.wait(DEADLINE)
        waits.cancel()
        assert waits.wait().finished().reason == "cancelled"
        assert not disk.go_on.is_set()
        again = start(worker)  # the thread has to end before the next state is read
        disk.go_on.set()
        assert usage(again.wait()).from_disk > 256
        assert not any(isinstance(event, PromptProgress) for event in waits.events)


@pytest.mark.parametrize("what", ["damaged", "gone"])
def test_a_file_that_goes_bad_meanwhile_means_reading_the_prompt(
    starter: Path, left: Path, what: str
):
    with a_worker(starter, left) as worker, slow_disk(worker) as disk:
        waits = start(worker, tag="")
        assert disk.began.wait(DEADLINE)
        state = next(left.glob("*.state"))
        if what == "damaged":
            data = bytearray(state.read_bytes())
            data[len(data) // 2] ^= 4
            state.write_bytes(data)
        else:
            Folder(left).clear()
        disk.go_on.set()
        assert usage(waits.wait()).from_disk == 0
        assert Folder(left).kept().entries == 0
        assert disk.reads == 1
    with a_worker(starter, None) as alone:
        assert chosen(waits) == chosen(ask(alone, OTHER))


def test_two_who_want_it_read_it_once(starter: Path, left: Path):
    with a_worker(starter, left) as worker, slow_disk(worker) as disk:
        first, second = start(worker), start(worker)
        assert disk.began.wait(DEADLINE)
        disk.go_on.set()
        assert usage(first.wait()).from_disk > 256
        shared = usage(second.wait())
        assert (shared.from_disk, shared.from_memory > 256) == (0, True)
        assert disk.reads == 1
        assert not any(isinstance(event, Queued) for event in second.events)


def test_leaving_while_it_is_read_leaves_no_thread(starter: Path, left: Path):
    with a_worker(starter, left) as worker, slow_disk(worker) as disk:
        waits = start(worker)
        assert disk.began.wait(DEADLINE)
        worker.close()
        assert waits.wait().finished().reason == "cancelled"
        assert not disk.go_on.is_set()
        assert not any(thread.name == "kv-reader" for thread in threading.enumerate())
    assert Folder(left).kept().entries == 1


def test_a_reply_that_gave_way_comes_back_from_the_disk_beside_a_neighbour(
    starter: Path, left: Path, monkeypatch: pytest.MonkeyPatch
):
    full = threading.Event()
    decode = Context.decode

    def decode_or_not(context: Context) -> int:
        if full.is_set():
            full.clear()
            return NO_SLOT
        return decode(context)

    monkeypatch.setattr(Context, "decode", decode_or_not)
    with a_worker(starter, left) as worker, slow_disk(worker) as disk:
        assert worker.backend._opened is not None
        in_ram = worker.backend._opened.table.shelves[0]
        assert isinstance(in_ram, Parked)
        in_ram.most = 0
        neighbour = worker.ask(write(story(20, "Neighbour"), 900, 2))
        neighbour.until(lambda events: any(isinstance(event, Delta) for event in events))
        disk.go_on.set()
        gives_way = worker.ask(write(OTHER, 200, tag="one"))
        gives_way.until(lambda events: any(isinstance(event, Delta) for event in events))
        disk.go_on.clear()
        disk.began.clear()
        full.set()
        assert disk.began.wait(DEADLINE)
        before = deltas(neighbour)
        neighbour.until(lambda _events: deltas(neighbour) >= before + 5)
        assert not any(isinstance(event, Finished) for event in gives_way.events)
        disk.go_on.set()
        assert gives_way.wait().finished().usage.completion_tokens == 200
        assert disk.reads == 2
        neighbour.cancel()
        neighbour.wait()
