"""When states are written: quiet for long enough, on the way out, and never what may not be."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmchat.engine.disk import Folder, Shelf, Writer
from llmchat.engine.disk.writer import Allowance
from llmchat.engine.worker.memory import Kept, Kind, Near, Parked, SequenceTable, Slot
from llmchat.engine.worker.memory.kinds import Bytes, Checkpoint
from llmchat.engine.worker.memory.saved import CHECKPOINTS, Saved, usable
from llmchat.engine.worker.saving import AGAIN, QUIET, Saver
from tests.engine.disk.states import HERE, conversation, state_of


class States:
    """A memory whose states follow from the tokens."""

    def __init__(self) -> None:
        self.table: SequenceTable | None = None
        self.copied = 0

    def seq_rm(self, _seq: int, _start: int = -1, _end: int = -1) -> bool:
        return True

    def seq_cp(self, _source: int, _target: int, _end: int) -> None:
        return

    def pos_min(self, _seq: int) -> int:
        return 0

    def state(self, seq: int, _flags: int = 0) -> Bytes:
        assert self.table is not None
        self.copied += 1
        return state_of(self.table.slots[seq].tokens)

    def restore(self, _seq: int, _data: Bytes, _flags: int = 0) -> bool:
        return True


class Bench:
    """A table, a folder and a clock that is told the time."""

    def __init__(self, path: Path, *, allowance: int = 10**9, budget: int = 10**9) -> None:
        self.now = 1000.0
        self.memory = States()
        self.folder = Folder(path)
        self.folder.set_budget(budget)
        kind = Kind()
        self.parked = Parked(10**9, kind)
        self.table = SequenceTable(self.memory, 8, kind, n_cells=16384, shelves=[self.parked])
        self.memory.table = self.table
        shelf = Shelf(self.folder, HERE, usable(kind))
        self.writer = Writer(shelf, allowance=Allowance(allowance, clock=lambda: self.now))
        self.saved = Saved(shelf, self.writer, kind, pace=lambda: 0.01)
        self.table.shelves.append(self.saved)
        self.saver = Saver(
            self.table,
            self.saved,
            self.parked,
            size_of=lambda slot: 64 * len(slot.tokens),
            free_ram=lambda: 10**9,
            clock=lambda: self.now,
        )

    def hold(self, seed: int, length: int, tag: str = "chat") -> Slot:
        """A conversation that has just had its reply."""
        tokens = list(conversation(seed, length))
        slot = self.table.open(tokens)
        assert slot is not None
        self.table.extend(slot, tokens[len(slot.tokens) :])
        slot.tag = tag
        self.table.release(slot)
        self.saver.wait()  # as the loop does when nothing is left to do
        return slot

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.saver.look()
        assert self.writer.wait(10)

    def on_disk(self) -> list[int]:
        return sorted(meta.n_tokens for meta in self.folder.entries())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "kv")
    yield made
    made.writer.close(5)


def test_quiet_for_long_enough(bench: Bench):
    assert bench.saver.wait() is None
    bench.hold(1, 600)
    assert bench.saver.wait() == QUIET
    bench.later(QUIET - 1)
    assert bench.on_disk() == []
    assert bench.saver.wait() == 1.0
    bench.later(1)
    assert bench.on_disk() == [600]
    assert bench.saver.wait() is None
    copied = bench.memory.copied
    bench.later(1000)
    assert bench.memory.copied == copied


def test_one_at_a_time_and_each_after_its_own_silence(bench: Bench):
    bench.hold(1, 600, "one")
    bench.later(20)
    bench.hold(2, 700, "two")
    bench.later(10)
    assert bench.on_disk() == [600]
    bench.later(20)
    assert bench.on_disk() == [600, 700]


def test_a_reply_starts_the_wait_anew_and_little_new_is_not_written(bench: Bench):
    bench.hold(1, 600)
    bench.later(QUIET - 1)
    bench.hold(1, 620)
    bench.later(QUIET - 1)
    assert bench.on_disk() == []
    bench.later(1)
    assert bench.on_disk() == [620]
    bench.hold(1, 620 + 255)
    bench.later(QUIET)
    assert bench.on_disk() == [620]
    bench.hold(1, 620 + 256)
    bench.later(QUIET)
    assert bench.on_disk() == [876]


@pytest.mark.parametrize(
    ("length", "tag", "budget"),
    [(600, "", 10**9), (600, "a", 0), (255, "a", 10**9), (600, "a", 20_000)],
)
def test_what_may_not_or_need_not_be_written_is_not_even_copied(
    tmp_path: Path, length: int, tag: str, budget: int
):
    bench = Bench(tmp_path / "kv", budget=budget)
    bench.hold(1, length, tag)
    bench.later(QUIET)
    assert bench.memory.copied == 0
    bench.saver.leave()
    assert bench.memory.copied == 0
    assert bench.on_disk() == []


def test_too_much_in_a_minute_is_tried_again(tmp_path: Path):
    bench = Bench(tmp_path / "kv", allowance=60_000)
    for seed in (1, 2):
        bench.hold(seed, 700, f"tag{seed}")
    bench.later(QUIET)
    bench.later(1)
    assert bench.on_disk() == [700]
    wait = bench.saver.wait()
    assert wait is not None
    assert 0 < wait <= AGAIN
    for _ in range(6):
        bench.later(AGAIN)
    assert bench.on_disk() == [700, 700]
    bench.writer.close(5)


def test_leaving_writes_what_is_warm_and_what_is_parked(bench: Bench):
    bench.hold(1, 600, "one")
    slot = bench.hold(2, 700, "two")
    bench.table.park(slot)
    bench.hold(3, 800, "")
    bench.saver.leave()
    assert bench.on_disk() == [600, 700]


def test_what_is_on_the_disk_is_parked_in_ram_all_the_same(bench: Bench):
    slot = bench.hold(1, 600)
    bench.later(QUIET)
    assert bench.on_disk() == [600]
    bench.table.park(slot)
    assert len(bench.parked) == 1
    back = bench.table.open(list(conversation(1, 650)))
    assert back is not None
    assert (len(back.tokens), back.from_disk) == (600, 0)


def test_leaving_has_an_end(bench: Bench):
    for seed in range(4):
        bench.hold(seed, 600, f"tag{seed}")
    bench.saver.leave(0.0)
    assert bench.on_disk() == []


def test_what_falls_out_of_ram_falls_onto_the_disk(bench: Bench):
    bench.parked.most = 64 * 1000
    for seed, length in ((1, 900), (2, 950)):
        bench.table.park(bench.hold(seed, length, f"tag{seed}"))
    assert bench.writer.wait(10)
    assert bench.on_disk() == [900]


def fetched(saved: Saved, tokens: list[int]) -> Near:
    """What the reading thread brings."""
    came: queue.SimpleQueue[Near | None] = queue.SimpleQueue()
    assert saved.fetch(tokens, came.put) is not None
    brought = came.get(timeout=20)
    assert brought is not None
    assert saved.reader.close(20)
    return brought


def test_an_entry_larger_than_the_budget_is_not_read(bench: Bench):
    bench.hold(1, 600)
    bench.saver.leave()
    bench.folder.path.joinpath("budget").write_text("600")  # nobody has evicted yet
    assert bench.saved.find(conversation(1, 650)) == 600
    assert bench.saved.fetch(conversation(1, 650), lambda _brought: None) is None


def test_without_a_thread_the_prompt_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.hold(1, 600)
    bench.saver.leave()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert bench.saved.fetch(conversation(1, 650), lambda _brought: None) is None
    assert bench.saved.reader.close(0)


def test_an_entry_comes_back_with_its_checkpoints(tmp_path: Path):
    folder = Folder(tmp_path / "kv")
    folder.set_budget(10**9)
    kind = Kind(whole_only=True)
    shelf = Shelf(folder, HERE, usable(kind))
    writer = Writer(shelf)
    saved = Saved(shelf, writer, kind)
    tokens = list(conversation(1, 900))
    points = tuple(Checkpoint(end, state_of(tokens[:end])) for end in (100, 300, 500, 700))
    kept = Kept(tokens, state_of(tokens), 0, points, "chat")
    assert saved.put(kept) == []
    assert writer.close(10)
    again = Saved(shelf, Writer(shelf), kind)
    branch = [*tokens[:800], *conversation(2, 50)]
    assert again.find(branch) == 700
    brought = fetched(again, branch)
    assert brought.find(branch) == 700
    back = brought.take(branch)
    assert back is not None
    assert back.tokens == tokens
    assert [point.end for point in back.checkpoints] == [300, 500, 700]
    assert len(back.checkpoints) == CHECKPOINTS
    assert back.reach(kind, 800) == 700
    assert again.find(tokens[:90]) == 0
    again.writer.close(10)


def test_an_entry_is_not_read_for_a_small_part_of_it(bench: Bench):
    bench.hold(1, 4000)
    bench.saver.leave()
    assert bench.saved.find(conversation(1, 4000)[:512]) == 512
    bench.folder.clear()
    fresh = Bench(bench.folder.path)
    fresh.hold(1, 8000)
    fresh.saver.leave()
    assert fresh.saved.find(conversation(1, 8000)[:512]) == 0
    assert fresh.saved.find(conversation(1, 8000)[:1024]) == 1024
