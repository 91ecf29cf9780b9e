"""One, four and eight replies at once through the socket, against a bare batched loop.

Both count from a reply's first token on. The requests arrive one after another, so the first reply
may write its first tokens while the other prompts are read; the bare loop reads all of them before
its clock starts. Each reply's own pace, added up, is what both have in common.
"""

import asyncio
import os
from pathlib import Path

from benchmarks.measure import Figure, alternate, median, spread
from benchmarks.worker import Bare, Worker, bare, worker

PROMPT, TOKENS = 16, 64


async def _together(at: Worker, sequences: int) -> float:
    """Tokens a second of replies that are written side by side, added up."""
    async with asyncio.TaskGroup() as group:
        requests = [at.request(PROMPT, TOKENS) for _ in range(sequences)]
        tasks = [group.create_task(at.finish(request)) for request in requests]
    return sum((TOKENS - 1) / task.result()[0].timings.generation for task in tasks)


def _figure(at: Worker, floor: Bare, sequences: int, reach: str, runs: int) -> Figure:
    def ours() -> float:
        return at.run(_together(at, sequences))

    def theirs() -> float:
        return sequences * (TOKENS - 1) / floor.seconds(sequences, PROMPT, TOKENS)

    ours(), theirs()  # pages and kernels
    mine, other = alternate(runs, ours, theirs)
    return Figure(
        what=f"{sequences} replies at once, through the socket"
        if sequences > 1
        else "one reply, through the socket",
        against="bare batched loop over the C API",
        ours=median(mine),
        floor=median(other),
        ratio=median(mine) / median(other),
        reach=reach,
        unit="tokens/s",
        runs=runs,
        note=f"{TOKENS} tokens each; {spread(mine)} against {spread(other)}",
    )


def measure(model: Path, home: Path, sequences: int, reach: str, runs: int = 5) -> Figure:
    """One row."""
    n_threads = len(os.sched_getaffinity(0))
    with worker(model, home, 2048, n_threads) as at:
        facts = at.session.facts
        arguments = (model, facts.n_threads, facts.pool, facts.n_seq_max)
        with bare("benchmarks.bare_batch", *arguments) as floor:
            return _figure(at, floor, sequences, reach, runs)
