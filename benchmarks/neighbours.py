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

    def beside() -> float:
        with _busy_core():
            return _seconds(at)

    with worker(model, home, 2048, len(os.sched_getaffinity(0))) as at:
        beside(), _seconds(at)
        busy, quiet = alternate(runs, beside, lambda: _seconds(at))
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
