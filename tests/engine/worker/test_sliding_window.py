"""A real sliding-window model: a prefix is reused only where its window is still there.

llama.cpp cuts such a memory without a word and computes from what is gone: the answer differs by
0.7 nats. The rule refuses exactly those cuts, and what it allows equals a fresh read.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from llmchat.engine.worker.capi import Floats
from llmchat.engine.worker.loader import ModelParams, open_model
from llmchat.engine.worker.log import Level, LogRing
from llmchat.values import Wants
from tests.engine.worker.driver import Driver
from tests.engine.worker.gemma import gemma
from tests.engine.worker.memory.reader import Reader, divergence
from tests.engine.worker.test_batching import story, write

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
LENGTH = 1500


@pytest.fixture(scope="module")
def path() -> Path:
    return gemma()


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[object]:
    log = LogRing(echo=Level.CONT)
    log.install()
    pointer = open_model([str(path)], ModelParams(n_gpu_layers=0), log)
    yield pointer
    lib.llama_model_free(pointer)


NOISE = 0.02
"""Nats; the same rows in other batches give about 0.007, a window that is gone 0.7."""
random = np.random.default_rng(1)
FIRST = [2, *random.integers(1000, 50_000, LENGTH).tolist()]
NEAR = [*FIRST, *random.integers(1000, 50_000, 20).tolist()]
FAR = [*FIRST[:600], *random.integers(1000, 50_000, 20).tolist()]
KEPT = 560


@pytest.fixture(scope="module")
def fresh(model) -> Floats:
    """FAR with nothing reused: the truth."""
    reader = Reader(model, n_seq_max=1)
    logits = reader.read(FAR)
    assert reader.reused == 0
    reader.close()
    return logits


@pytest.fixture(scope="module")
def whole(model, fresh: Floats) -> Floats:
    """NEAR by a memory that keeps everything, which is itself held against a fresh read."""
    reader = Reader(model, swa_full=True)
    reader.read(FIRST)
    assert divergence(fresh, reader.read(FAR)) < NOISE
    assert reader.reused == 600
    near = reader.read(NEAR)
    assert reader.reused == LENGTH + 1
    reader.close()
    return near


def test_what_is_reused_equals_a_fresh_read(model, fresh: Floats, whole: Floats):
    """Copied from, parked, brought back and cut: from the window's checkpoint, or not at all."""
    reader = Reader(model, n_seq_max=2)
    slot, _ = reader.open(FIRST, marks=[KEPT])
    assert reader.context.pos_min(slot.seq) > 600 - 512  # the window before the cut is gone
    points, slot.checkpoints = slot.checkpoints, []
    assert reader.table.known(FAR) == 0
    slot.checkpoints = points
    assert divergence(fresh, reader.read(FAR)) < NOISE
    assert reader.reused == KEPT
    (copy,) = reader.table.idle()
    reader.table.forget(copy)
    reader.table.release(slot)
    reader.table.park(slot)
    assert divergence(fresh, reader.read(FAR)) < NOISE
    assert reader.reused == KEPT
    for idle in list(reader.table.idle()):
        reader.table.forget(idle)
    assert divergence(whole, reader.read(NEAR)) < NOISE  # the parked one is still whole
    assert reader.reused == LENGTH + 1
    reader.close()


def test_a_whole_window_is_only_a_window_once_a_state_was_taken(model, fresh: Floats):
    """`swa_full` keeps all cells in the pool; llama.cpp's states leave out those behind it."""
    reader = Reader(model, swa_full=True, n_seq_max=2)
    slot, _ = reader.open(FIRST)
    assert reader.context.pos_min(slot.seq) == 0
    assert reader.table.known(FAR) == 600
    reader.table.release(slot)
    reader.table.park(slot)
    assert reader.table.known(FAR) == 0
    assert divergence(fresh, reader.read(FAR)) < NOISE
    assert reader.reused == 0
    reader.close()


def test_a_whole_window_goes_back_to_a_checkpoint_after_parking(model, fresh: Floats):
    reader = Reader(model, swa_full=True, n_seq_max=2)
    slot, _ = reader.open(FIRST, marks=[KEPT])
    reader.table.release(slot)
    reader.table.park(slot)
    assert divergence(fresh, reader.read(FAR)) < NOISE
    assert reader.reused == KEPT
    reader.close()


def test_a_sliding_window_model_runs_in_the_loop(path: Path):
    driver = Driver(path, Wants(n_ctx=512, n_threads=1))
    try:
        assert "swa" in driver.facts.capabilities
        first = driver.ask(write(story(30, "Once"), 8)).wait()
        again = driver.ask(write(story(30, "Once"), 8)).wait()
        assert again.finished().usage.from_memory > 0
        assert again.text() == first.text()
    finally:
        driver.close()
