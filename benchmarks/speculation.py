"""N-gram guesses: what they gain where a reply copies, and that they cost nothing elsewhere."""

import os
from pathlib import Path
from typing import Literal

from benchmarks.measure import Figure, alternate, median, spread
from benchmarks.worker import GREEDY, Worker, worker
from llmchat.engine.protocol import Generate, RawText

LINE = "The ship left the harbour at dawn, and nobody on the pier said a word about it.\n"
COPYING = LINE * 4
FREE = "Once upon a time, in a land far away, there lived"
TOKENS = 128


def _seconds(at: Worker, text: str, speculation: Literal["off", "ngram"]) -> float:
    request = Generate(
        prompt=RawText(text=text),
        sampling=GREEDY,
        max_tokens=TOKENS,
        ignore_eos=True,
        speculation=speculation,
    )
    finished, _ = at.run(at.finish(request))
    return finished.timings.generation


def measure(model: Path, home: Path, *, copies: bool, runs: int = 5) -> Figure:
    """One row: a text that repeats itself, or one that does not."""
    text, reach = (COPYING, ">= 1.1") if copies else (FREE, ">= 0.97")
    with worker(model, home, 2048, len(os.sched_getaffinity(0))) as at:
        for wish in ("off", "ngram"):
            _seconds(at, text, wish)
        ours, floor = alternate(
            runs, lambda: _seconds(at, text, "ngram"), lambda: _seconds(at, text, "off")
        )
    return Figure(
        what="speculation = ngram, " + ("a text that repeats itself" if copies else "a new text"),
        against="the same without",
        ours=(TOKENS - 1) / median(ours),
        floor=(TOKENS - 1) / median(floor),
        ratio=median(floor) / median(ours),
        reach=reach,
        unit="tokens/s",
        runs=runs,
        note=f"seconds {spread(ours)} against {spread(floor)}",
    )
