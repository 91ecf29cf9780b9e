"""Parked, brought back, moved down, copied: with a real model, bit for bit."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from llmchat.engine.worker.loader import ModelParams, open_model
from llmchat.engine.worker.log import Level, LogRing
from tests.engine.worker.memory.reader import Reader

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model(starter: Path) -> Iterator[object]:
    log = LogRing(echo=Level.CONT)
    log.install()
    pointer = open_model([str(starter)], ModelParams(n_gpu_layers=0), log)
    yield pointer
    lib.llama_model_free(pointer)


@pytest.fixture
def reader(model) -> Iterator[Reader]:
    reader = Reader(model)
    yield reader
    reader.close()


def words(seed: int, count: int) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(100, 40_000, count).tolist()
    return found


def test_what_was_parked_goes_on_bit_for_bit(reader: Reader):
    story = words(1, 100)
    slot, _ = reader.open(story)
    fresh = reader.go_on(slot, [*story, 5])
    reader.table.cut(slot, 100)
    reader.table.release(slot)
    reader.table.park(slot)
    assert reader.table.pool.used == 0
    assert reader.table.parked()[0] == 1
    again = reader.read([*story, 5])
    assert reader.reused == 100
    assert np.array_equal(again, fresh)
    assert reader.table.parked() == (0, 0)


def test_an_idle_conversation_leaves_and_the_running_one_is_moved_down(reader: Reader):
    idle, live = words(2, 700), words(3, 60)
    reader.read(idle)
    slot, _ = reader.open(live)
    assert reader.table.pool.highest == 760
    fresh = reader.go_on(slot, [*live, 5])
    reader.table.cut(slot, 60)
    steps = 0
    while reader.table.tidy(len(slot.tokens)):
        steps += 1
    assert steps == 2  # one parked, one moved
    assert reader.table.pool.used == reader.table.pool.highest == 60
    assert slot.busy
    again = reader.go_on(slot, [*live, 5])
    assert np.array_equal(again, fresh)
    reader.table.release(slot)
    reader.read([*idle, 7])
    assert reader.reused == 700


def test_a_state_that_does_not_fit_means_the_prompt_is_read(model, reader: Reader):
    story = words(4, 80)
    slot, fresh = reader.open(story)
    reader.table.release(slot)
    kept = reader.table.snapshot(slot)
    assert kept is not None
    reader.table.forget(slot)
    kept.state[:64] = 255  # what a broken file would hold
    (shelf,) = reader.table.shelves
    shelf.put(kept)
    again = reader.read(story)
    assert reader.reused == 0
    assert np.array_equal(again, fresh)


def test_the_books_say_what_llama_cpp_says(model, monkeypatch: pytest.MonkeyPatch):
    """Its own debug lines tell where its cells are; nothing else does."""
    monkeypatch.setenv("LLAMA_KV_CACHE_DEBUG", "1")
    lines: list[str] = []

    def keep(_level: int, text: bytes, _data: object) -> None:
        lines.append(text.decode("utf-8", "replace"))

    callback = lib.llama_log_callback(keep)
    reader = Reader(model)  # before the log is ours: its parts install none
    lib.llama_log_set(callback, None)
    try:
        random = np.random.default_rng(5)
        stories = [words(10 + place, 260) for place in range(5)]
        for _turn in range(12):
            story = stories[int(random.integers(5))]
            slot, _ = reader.open([*story[: int(random.integers(50, 260))], 1, 2])
            _compare(reader, lines)
            reader.go_on(slot, [*slot.tokens, 9])
            if random.random() < 0.7:
                reader.table.tidy(len(slot.tokens))
            reader.table.release(slot)
    finally:
        reader.close()
        LogRing(echo=Level.CONT).install()


def _compare(reader: Reader, lines: list[str]) -> None:
    """What llama.cpp sees right before it takes one more cell."""
    (slot, *_) = [slot for slot in reader.table.slots if slot.busy]
    pool = reader.table.pool
    used, highest = pool.used, pool.highest
    lines.clear()
    reader.go_on(slot, [*slot.tokens, 3])
    seen = [re.search(r"n = +(\d+), used = +(\d+)", line) for line in lines]
    highest_there, used_there = next(match.groups() for match in seen if match)
    assert (int(highest_there), int(used_there)) == (highest, used)
