"""One, four and eight replies at once through the socket, against a bare batched loop."""

import asyncio
import os
from pathlib import Path

from benchmarks.measure import Figure, alternate, median, spread
from benchmarks.worker import Bare, Worker, bare, worker

PROMPT, TOKENS = 16, 64


async def _together(at: Worker, sequences: int) -> float:
    """Seconds from the first token of replies that are written side by side to the last."""
    async with asyncio.TaskGroup() as group:
        requests = [at.request(PROMPT, TOKENS) for _ in range(sequences)]
        tasks = [group.create_task(at.finish(request)) for request in requests]
    ends = [task.result() for task in tasks]
    begin = min(end - finished.timings.generation for finished, end in ends)
    return max(end for _, end in ends) - begin


def _figure(at: Worker, floor: Bare, sequences: int, reach: str, runs: int) -> Figure:
    def ours() -> float:
        return at.run(_together(at, sequences))

    def theirs() -> float:
        return floor.seconds(sequences, PROMPT, TOKENS)

    ours(), theirs()  # pages and kernels
    mine, other = alternate(runs, ours, theirs)
    total = sequences * (TOKENS - 1)
    return Figure(
        what=f"{sequences} replies at once, through the socket"
        if sequences > 1
        else "one reply, through the socket",
        against="bare batched loop over the C API",
        ours=total / median(mine),
        floor=total / median(other),
        ratio=median(other) / median(mine),
        reach=reach,
        unit="tokens/s",
        runs=runs,
        note=f"{TOKENS} tokens each; seconds {spread(mine)} against {spread(other)}",
    )


def measure(model: Path, home: Path, sequences: int, reach: str, runs: int = 5) -> Figure:
    """One row."""
    n_threads = len(os.sched_getaffinity(0))
    with worker(model, home, 2048, n_threads) as at:
        facts = at.session.facts
        arguments = (model, facts.n_threads, facts.pool, facts.n_seq_max)
        with bare("benchmarks.bare_batch", *arguments) as floor:
            return _figure(at, floor, sequences, reach, runs)
