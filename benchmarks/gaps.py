"""Waiting: for a neighbour whose long prompt is read, for a stop, for news of a death."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from benchmarks.measure import Figure, spread
from benchmarks.worker import Worker, worker
from llmchat.engine.protocol import Delta, Finished, PromptProgress
from llmchat.engine.session import GenerateEvent
from llmchat.errors import WorkerDied

LONG = 1500


async def _worst_gap(at: Worker) -> float:
    """The longest time without text of one reply while a long prompt is read beside it."""
    async with aclosing(at.stream(at.request(16, 2000))) as events:
        times = [time.perf_counter()]
        while True:
            if isinstance(await anext(events), Delta):
                times.append(time.perf_counter())
            if len(times) == 10:
                break
        reading = asyncio.create_task(at.finish(at.request(LONG, 1)))
        times = [times[-1]]
        async for event in events:
            if isinstance(event, Delta):
                times.append(time.perf_counter())
            if reading.done():
                break
        await reading
    return max(after - before for before, after in itertools.pairwise(times))


async def _seconds_to_stop(
    events: AsyncGenerator[GenerateEvent, None], ended: list[float]
) -> float:
    begin = time.perf_counter()
    await events.aclose()
    async with asyncio.timeout(30):
        while not ended:  # noqa: ASYNC110 - the answer is told to a function
            await asyncio.sleep(0.001)
    return ended[0] - begin


async def _stop(at: Worker, prompt: int, kind: type[GenerateEvent], count: int) -> float:
    """Seconds from closing a stream, at its `count`th event of a kind, to the worker's Finished."""
    ended: list[float] = []

    def late(event: GenerateEvent) -> None:
        if isinstance(event, Finished):
            ended.append(time.perf_counter())

    events = at.session.generate(at.request(prompt, 2000), late)
    seen = 0
    async for event in events:
        seen += isinstance(event, kind)
        if seen >= count:
            break
    await asyncio.sleep(0.1)  # in the middle of a step, not at the end of one
    return await _seconds_to_stop(events, ended)


def _row(what: str, worst: list[float], limit: float) -> Figure:
    return Figure(
        what=what,
        against="the limit",
        ours=max(worst),
        floor=limit,
        ratio=max(worst) / limit,
        reach="<= 1",
        unit="s",
        runs=len(worst),
        note=f"the worst; s {spread(worst)}",
    )


def neighbour(model: Path, home: Path, runs: int = 5) -> Figure:
    """One row: the neighbour's worst gap."""
    with worker(model, home, 4096, len(os.sched_getaffinity(0))) as at:
        at.run(at.finish(at.request(64, 8)))
        worst = [at.run(_worst_gap(at)) for _ in range(runs)]
    return _row(f"a neighbour's worst gap while {LONG:,} tokens are read", worst, 0.6)


def stop_writing(model: Path, home: Path, runs: int = 5) -> Figure:
    """One row: a stop in generation."""
    with worker(model, home, 4096, len(os.sched_getaffinity(0))) as at:
        worst = [at.run(_stop(at, 16, Delta, 5)) for _ in range(2 * runs)]
    return _row("stop while a reply is written", worst, 0.25)


def stop_reading(model: Path, home: Path, runs: int = 5) -> Figure:
    """One row: a stop while a prompt of 3,000 tokens is read."""
    with worker(model, home, 4096, len(os.sched_getaffinity(0))) as at:
        worst = [at.run(_stop(at, 2 * LONG, PromptProgress, 2)) for _ in range(runs)]
    return _row("stop while a prompt is read", worst, 1.0)


async def _told_of_death(at: Worker) -> float:
    """Seconds from a kill amid a reply to its client's error."""
    pid = (await at.session.status()).pid
    async with aclosing(at.stream(at.request(16, 512))) as events:
        begin = 0.0
        try:
            async for event in events:
                if isinstance(event, Delta) and not begin:
                    begin = time.perf_counter()
                    os.kill(pid, signal.SIGKILL)
        except WorkerDied:
            return time.perf_counter() - begin
    raise AssertionError("it ended without an error")


def death(model: Path, home: Path, runs: int = 5) -> Figure:
    """One row: a worker that is killed amid a reply, a new one each time."""
    worst = []
    for _ in range(runs):
        with worker(model, home, 1024, len(os.sched_getaffinity(0))) as at:
            worst.append(at.run(_told_of_death(at)))
    return _row("a killed worker's client is told", worst, 0.5)
