"""A long chat opened after its worker has ended: how long until the first token."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.measure import Figure, median, spread
from benchmarks.worker import GREEDY, Worker, worker
from llmchat.engine.protocol import Finished, Generate, RawTokens

PROMPT, MORE = 1500, 12
BUDGET = 1024**3
N_CTX = 4096


def _ask(at: Worker, tokens: tuple[int, ...], n: int = 1, tag: str = "chat") -> Finished:
    prompt = RawTokens(tokens=tokens)
    request = Generate(prompt=prompt, sampling=GREEDY, max_tokens=n, ignore_eos=True, tag=tag)
    finished, _ = at.run(at.finish(request))
    return finished


@contextmanager
def _fresh(model: Path, home: Path) -> Iterator[Worker]:
    """A worker that has read nothing; it has ended, and written what it had, afterwards."""
    n_threads = len(os.sched_getaffinity(0))
    with worker(model, home, N_CTX, n_threads, BUDGET) as at:
        pid = at.run(at.session.status()).pid
        yield at
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            time.sleep(0.02)


def after_restart(model: Path, home: Path, runs: int) -> Figure:
    """Seconds to the first token of a second turn: with the states on disk, and read afresh.

    Each run is a new worker that has read nothing. The other chat is as long and not on the disk;
    which of the two is asked first alternates.
    """
    with _fresh(model, home) as at:
        chat = at.tokens(PROMPT)
        chat += _ask(at, chat, MORE).tokens
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(runs):
        with _fresh(model, home) as at:
            other = at.tokens(2 * PROMPT + MORE)[PROMPT:]
            for mine in (True, False) if turn % 2 == 0 else (False, True):
                words = (chat if mine else other) + at.tokens(MORE)
                found = _ask(at, words, tag="chat" if mine else "")
                assert (found.usage.from_disk > PROMPT) == mine, found.usage
                (ours if mine else theirs).append(found.timings.first_token)
    return Figure(
        what=f"First token of a chat of {PROMPT} tokens, after a restart",
        against="read from nothing",
        ours=1000 * median(ours),
        floor=1000 * median(theirs),
        ratio=median(ours) / median(theirs),
        reach="<= 0.1",
        unit="ms",
        runs=runs,
        note=f"{spread([1000 * value for value in ours])} ms; states of 23 KB a token",
    )
