"""Late in a long answer: is the worker as close to the bare loop there as at its beginning?

The answer's first tokens are forced, so that they are in the reply (parsed, streamed, counted) at
the speed of reading; then 100 are generated, at tokens 50 to 150 and at 1,900 to 2,000.
"""

import os
from pathlib import Path

from benchmarks.measure import Figure, alternate, median, spread
from benchmarks.worker import bare, worker

PROMPT, TOKENS = 16, 100
EARLY, LATE = 50, 1900


def _ratios(model: Path, home: Path, forced: int, runs: int) -> list[float]:
    """Bare seconds over ours, of each run: 1 = nothing lost."""
    n_threads = len(os.sched_getaffinity(0))
    with worker(model, home, 4096, n_threads) as at:
        # The same request each time: what was read once stays in memory, here as in the bare loop.
        request = at.request(PROMPT, TOKENS, forced=at.tokens(forced))
        facts = at.session.facts
        arguments = (model, facts.n_threads, facts.pool, facts.n_seq_max)
        with bare("benchmarks.bare_batch", *arguments) as floor:

            def ours() -> float:
                finished, _ = at.run(at.finish(request))
                return finished.timings.generation

            def theirs() -> float:
                return floor.seconds(1, PROMPT + forced, TOKENS)

            ours(), theirs()
            mine, other = alternate(runs, ours, theirs)
    return [bare_seconds / seconds for bare_seconds, seconds in zip(other, mine, strict=True)]


def measure(model: Path, home: Path, runs: int = 5) -> Figure:
    """One row: how much of the ratio is lost on the way to token 1,900."""
    early = _ratios(model, home, EARLY, runs)
    late = _ratios(model, home, LATE, runs)
    lost = median(early) - median(late)
    return Figure(
        what="ratio to the bare loop at tokens 1,900 to 2,000 of an answer",
        against="the ratio at tokens 50 to 150",
        ours=median(late),
        floor=median(early),
        ratio=lost,
        reach="<= 0.02",
        unit="",
        runs=runs,
        note=f"{spread(late)} against {spread(early)}; the column is the difference",
    )
