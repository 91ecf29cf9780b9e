"""A real sliding-window model: a prefix is reused only where its window is still there.

llama.cpp cuts such a memory without a word and computes from what is gone: the answer differs by
0.7 nats. The rule refuses exactly those cuts, and what it allows equals a fresh read.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from llmchat.engine.worker import fit
from llmchat.engine.worker.capi import OK, Context, Floats
from llmchat.engine.worker.loader import ContextParams, ModelParams, open_context, open_model
from llmchat.engine.worker.log import Level, LogRing
from llmchat.engine.worker.memory import SequenceTable, Slot
from llmchat.engine.worker.vocab import Vocab
from llmchat.values import Wants
from tests.engine.worker.driver import Driver
from tests.engine.worker.gemma import gemma
from tests.engine.worker.test_batching import story, write

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
LENGTH = 1300


class Reader:
    """One context, one sequence table, no loop."""

    def __init__(self, model, swa_full: bool) -> None:
        params = ContextParams(
            n_ctx=2048, n_seq_max=1, n_batch=256, n_ubatch=256, n_threads=2, swa_full=swa_full
        )
        vocab = Vocab(model)
        self.context = Context(open_context(model, params, LogRing()), vocab.size, 256)
        kind = fit.memory_kind(model, swa_full)
        self.table = SequenceTable(self.context, 1, kind, n_cells=2048)

    def read(self, tokens: list[int]) -> tuple[Floats, int]:
        """The last row's logits, and how many tokens were reused."""
        slot = self.table.open(tokens)
        assert isinstance(slot, Slot)
        reused = len(slot.tokens)
        row = 0
        while len(slot.tokens) < len(tokens):
            start = len(slot.tokens)
            chunk = tokens[start : start + 256]
            self.context.batch.clear()
            row = self.context.batch.add(
                chunk, start, slot.seq, output=start + len(chunk) == len(tokens)
            )
            assert self.context.decode() == OK
            self.table.extend(slot, chunk)
        self.table.release(slot)
        return self.context.logits(row).copy(), reused


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


def divergence(one: Floats, two: Floats) -> float:
    """KL(one || two) in nats."""
    p, q = (x - x.max() - np.log(np.exp(x - x.max()).sum()) for x in (one, two))
    return float((np.exp(p) * (p - q)).sum())


@pytest.mark.parametrize("swa_full", [False, True])
def test_what_is_reused_equals_a_fresh_read(model, swa_full):
    random = np.random.default_rng(1)
    first = [2, *random.integers(1000, 50_000, LENGTH).tolist()]
    near = [*first[:1290], *random.integers(1000, 50_000, 20).tolist()]
    far = [*first[:600], *random.integers(1000, 50_000, 20).tolist()]
    for target, kept in ((near, 1290), (far, 600)):
        reader = Reader(model, swa_full)
        fresh, none = reader.read(target)
        assert none == 0
        reader.context.close()
        reader = Reader(model, swa_full)
        reader.read(first)
        again, reused = reader.read(target)
        reader.context.close()
        assert divergence(fresh, again) < 0.02
        if swa_full:
            assert reused == kept
        elif target is far:
            assert reused == 0  # the window before the cut is gone


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
