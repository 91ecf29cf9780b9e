"""One budget under one lock: never exceeded, and what is cheapest to read again goes first."""

import os
import subprocess
import sys
from pathlib import Path

from llmchat.engine.disk import Folder, Shelf, Snapshot, Writer
from llmchat.engine.disk.folder import HALF_LIFE
from llmchat.engine.disk.writer import Allowance
from tests.engine.disk.states import (
    HERE,
    anywhere,
    check_everything,
    conversation,
    shelf,
    snapshot,
    state_of,
)

SLACK = 16 * 1024
"""Meta files are counted once they are there: a few hundred bytes each."""


def folder_size(path: Path) -> int:
    return sum(found.stat().st_size for found in path.iterdir())


def test_the_budget_is_never_exceeded(tmp_path: Path):
    budget = 200_000
    mine = shelf(tmp_path / "kv", budget)
    for number in range(40):
        mine.put(snapshot(conversation(number, 300 + 17 * number), f"tag{number}"))
        assert folder_size(tmp_path / "kv") <= budget + SLACK
    assert check_everything(mine.folder) > 2
    assert not mine.put(snapshot(conversation(50, 4000), "too big"))


def test_what_is_cheap_to_read_again_goes_first(tmp_path: Path):
    now = [1_000_000.0]
    folder = Folder(tmp_path / "kv", clock=lambda: now[0])
    folder.set_budget(140_000)  # four entries of 31 KB
    mine = Shelf(folder, HERE, anywhere)
    for number, seconds in enumerate((9.0, 1.0, 5.0, 7.0)):
        mine.put(snapshot(conversation(number, 450), f"tag{number}", seconds=seconds))
    mine.put(snapshot(conversation(10, 450), "new", seconds=3.0))
    assert _tags(folder) == {"tag0", "tag2", "tag3", "new"}
    now[0] += 3 * HALF_LIFE
    folder.touch(_named(folder, "tag2"))
    mine.put(snapshot(conversation(11, 450), "newer", seconds=2.0))
    assert _tags(folder) == {"tag0", "tag2", "tag3", "newer"}  # tag2 was used: 5 beats 7/8
    mine.put(snapshot(conversation(12, 450), "newest", seconds=2.0))
    assert _tags(folder) == {"tag0", "tag2", "newer", "newest"}


def _tags(folder: Folder) -> set[str]:
    return {tag for meta in folder.entries() for tag in meta.tags}


def _named(folder: Folder, tag: str) -> str:
    return next(meta.name for meta in folder.entries() if tag in meta.tags)


def test_a_smaller_budget_holds_at_once_and_zero_empties(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    for number in range(5):
        mine.put(snapshot(conversation(number, 500), f"tag{number}"))
    Folder(tmp_path / "kv").set_budget(80_000)
    assert 0 < mine.folder.kept().size <= 80_000
    Folder(tmp_path / "kv").set_budget(0)
    assert mine.folder.kept().entries == 0
    assert mine.folder.kept().size == 0
    assert not mine.put(snapshot(conversation(1, 500)))


def test_clearing_catches_what_is_being_written(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    mine.put(snapshot(conversation(1, 500)))
    cleared: list[bool] = []

    def clear_once() -> bool:
        if not cleared:
            cleared.append(True)
            Folder(tmp_path / "kv").clear()
        return False

    assert not mine.put(snapshot(conversation(2, 600), "two"), clear_once)
    assert mine.folder.kept().size == 0


def test_forgetting_catches_what_is_being_written(tmp_path: Path):
    mine = shelf(tmp_path / "kv")

    def forget() -> bool:
        Folder(tmp_path / "kv").forget("gone")
        return False

    assert not mine.put(snapshot(conversation(2, 600), "gone"), forget)
    assert mine.folder.kept().size == 0


def test_what_another_writes_right_now_is_left_alone(tmp_path: Path):
    mine, other = shelf(tmp_path / "kv"), shelf(tmp_path / "kv")
    put_meanwhile: list[bool] = []

    def meanwhile() -> bool:
        put_meanwhile.append(other.put(snapshot(conversation(3, 500), "other")))
        other.folder.sweep()
        return False

    assert mine.put(snapshot(conversation(2, 600), "mine"), meanwhile)
    assert put_meanwhile == [True, True]  # before each part: its tokens, its state
    assert {meta.n_tokens for meta in mine.folder.entries()} == {500, 600}


def test_stopping_in_the_middle_leaves_nothing(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    assert not mine.put(snapshot(conversation(2, 600)), lambda: True)
    assert sorted(found.name for found in (tmp_path / "kv").iterdir()) == ["budget", "lock"]


def test_a_minute_has_an_end():
    now = [0.0]
    allowance = Allowance(1000, clock=lambda: now[0])
    assert allowance.take(600)
    assert not allowance.take(600)
    now[0] = 12.0
    assert allowance.take(600)
    now[0] = 60 * 5
    assert allowance.take(4000)  # larger than a minute's worth: on its own, then a long pause
    now[0] += 179
    assert not allowance.take(1)
    now[0] += 2
    assert allowance.take(1)


def test_the_writer_writes_behind_and_bounds_what_waits(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    writer = Writer(mine, queued=100_000)
    try:
        size = state_of(conversation(1, 1000)).nbytes
        assert writer.room_for(size)
        with mine.folder.locked():  # it cannot begin: what is offered stays in the queue
            assert writer.offer(snapshot(conversation(1, 1000)))
            assert not writer.room_for(size)
            assert not writer.offer(snapshot(conversation(2, 1000), "two"))
        assert writer.wait(10)
        assert writer.offer(snapshot(conversation(2, 1000), "two"))
        writer.touch("0" * 32)  # gone meanwhile: nothing happens
    finally:
        assert writer.close(10)
    assert _tags(mine.folder) == {"one", "two"}
    assert not writer.offer(snapshot(conversation(3, 1000)))
    assert not writer.room_for(1)


def test_leaving_does_not_wait_for_a_slow_disk(tmp_path: Path):
    mine = shelf(tmp_path / "kv")
    writer = Writer(mine)
    with mine.folder.locked():
        assert writer.offer(snapshot(conversation(1, 1000)))
        assert not writer.close(0.05)
    mine.folder.sweep()


def test_many_workers_put_evict_and_forget_at_once(tmp_path: Path):
    """Four processes, 30 states each, one budget: what is left is right and within it."""
    budget = 400_000
    shelf(tmp_path / "kv", budget)
    command = [sys.executable, "-m", "tests.engine.disk.busy", str(tmp_path / "kv")]
    workers = [
        subprocess.Popen([*command, str(seed)], env={**os.environ, "PYTHONPATH": os.getcwd()})
        for seed in range(4)
    ]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert folder_size(tmp_path / "kv") <= budget + SLACK
    assert check_everything(Folder(tmp_path / "kv")) > 2
    assert not list((tmp_path / "kv").glob("*.tmp"))


def test_snapshots_of_one_conversation_are_found_by_another_process(tmp_path: Path):
    shelf(tmp_path / "kv").put(
        Snapshot(
            tokens=conversation(5, 900), state=state_of(conversation(5, 900)), tag="x", pos_min=4
        )
    )
    candidate = shelf(tmp_path / "kv").find(conversation(5, 901))
    assert candidate is not None
    assert candidate.meta.pos_min == 4
