"""The worker's memory at the socket: an idle neighbour, a second turn, alternatives."""

import os
import time
from contextlib import aclosing
from pathlib import Path

from benchmarks.measure import Figure, alternate, median, spread
from benchmarks.worker import GREEDY, Worker, worker
from llmchat.engine.protocol import Finished, Generate, RawTokens

IDLE, LIVE, WRITTEN = 7000, 32, 129
PROMPT, REPLY, MORE = 1500, 12, 12
SHARED, EACH, CHOICES = 500, 64, 4


def _ask(at: Worker, tokens: tuple[int, ...], n: int) -> Finished:
    request = Generate(
        prompt=RawTokens(tokens=tokens), sampling=GREEDY, max_tokens=n, ignore_eos=True
    )
    finished, _ = at.run(at.finish(request))
    return finished


async def _finish_all(at: Worker, request: Generate) -> None:
    """Until the last of its choices has ended."""
    async with aclosing(at.stream(request)) as events:
        async for _ in events:
            pass


def beside_idle(model: Path, home: Path, runs: int) -> Figure:
    """Tokens a second of a short chat in the worker that has just answered in a long one.

    Before each run the long conversation says one more token, so it lies in the pool when the
    short one begins; the other worker has never seen it.
    """
    n_threads = len(os.sched_getaffinity(0))
    n_ctx = IDLE + 1024
    with (
        worker(model, home / "beside", n_ctx, n_threads, 0) as busy,
        worker(model, home / "alone", n_ctx, n_threads, 0) as alone,
    ):
        idle = busy.tokens(IDLE)
        _ask(busy, idle, 1)

        def speed(at: Worker) -> float:
            return (WRITTEN - 1) / _ask(at, at.tokens(LIVE), WRITTEN).timings.generation

        def beside() -> float:
            assert _ask(busy, idle, 1).usage.from_memory == IDLE - 1
            return speed(busy)

        ours, floor = alternate(runs, beside, lambda: speed(alone))
    return Figure(
        what=f"one sequence beside an idle conversation of {IDLE:,} tokens",
        against="the same, with nothing else in the worker",
        ours=median(ours),
        floor=median(floor),
        ratio=median(ours) / median(floor),
        reach=">= 0.95",
        unit="tokens/s",
        runs=runs,
        note=f"{spread(ours)} against {spread(floor)}",
    )


def second_turn(model: Path, home: Path, runs: int) -> Figure:
    """Seconds to the first token of a second turn, and of the first one, read from nothing.

    Another conversation of the same length speaks in between: what is measured is switching back.
    """
    n_threads = len(os.sched_getaffinity(0))
    ours: list[float] = []
    floor: list[float] = []
    with worker(model, home / "turns", 4096, n_threads, 0) as at:
        for _ in range(runs):
            chat = at.tokens(PROMPT)
            first = _ask(at, chat, REPLY)
            floor.append(first.timings.first_token)
            floor.append(_ask(at, at.tokens(PROMPT), REPLY).timings.first_token)
            second = _ask(at, chat + first.tokens + at.tokens(MORE), REPLY)
            assert second.usage.from_memory >= PROMPT, second.usage
            ours.append(second.timings.first_token)
    return Figure(
        what=f"first token of a second turn after {PROMPT:,} tokens, back from another chat",
        against="read from nothing",
        ours=1000 * median(ours),
        floor=1000 * median(floor),
        ratio=median(ours) / median(floor),
        reach="<= 0.1",
        unit="ms",
        runs=runs,
        note=f"{spread([1000 * value for value in ours])} ms",
    )


def alternatives(model: Path, home: Path, runs: int) -> Figure:
    """Seconds for several replies to one prompt at once, and for as many asked one by one."""
    n_threads = len(os.sched_getaffinity(0))
    with worker(model, home / "choices", 4096, n_threads, 0) as at:

        def total(request: Generate) -> float:
            begin = time.perf_counter()
            at.run(_finish_all(at, request))
            return time.perf_counter() - begin

        def together() -> float:
            return total(at.request(SHARED, EACH, n=CHOICES))

        def apart() -> float:
            return sum(total(at.request(SHARED, EACH)) for _ in range(CHOICES))

        ours, floor = alternate(runs, together, apart)
    return Figure(
        what=f"{CHOICES} alternatives of {EACH} tokens after a prompt of {SHARED}",
        against=f"{CHOICES} answers, each prompt read afresh",
        ours=median(ours),
        floor=median(floor),
        ratio=median(ours) / median(floor),
        reach="<= 0.5",
        unit="s",
        runs=runs,
        note=f"{spread(ours)} against {spread(floor)} s",
    )
