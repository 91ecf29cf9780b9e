"""Generation beside another program that keeps one core busy, against the same without it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Figure, alternate, median, spread
from benchmarks.worker import Worker, worker

TOKENS = 192


@contextmanager
def _busy_core() -> Iterator[None]:
    """A process that does nothing but compute, at our own priority."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _seconds(at: Worker) -> float:
    finished, _ = at.run(at.finish(at.request(16, TOKENS)))
    return finished.timings.generation


def measure(model: Path, home: Path, runs: int = 5) -> Figure:
    """One row: a step's time beside a busy program over a step's time alone."""
    n_threads = len(os.sched_getaffinity(0))

    def beside() -> float:
        with _busy_core():
            return _seconds(disturbed)

    # A worker of its own for the quiet time: one that had a neighbour remembers it for a while.
    with (
        worker(model, home / "disturbed", 2048, n_threads) as disturbed,
        worker(model, home / "quiet", 2048, n_threads) as alone,
    ):
        beside(), _seconds(alone)
        busy, quiet = alternate(runs, beside, lambda: _seconds(alone))
    return Figure(
        what="one reply beside a program that keeps a core busy",
        against="the same without it",
        ours=TOKENS / median(busy),
        floor=TOKENS / median(quiet),
        ratio=median(busy) / median(quiet),
        reach="<= 2.5",
        unit="tokens/s",
        runs=runs,
        note=f"time, not speed, is the ratio; s {spread(busy)} against {spread(quiet)}",
    )
