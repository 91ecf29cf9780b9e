"""What the inference thread spends beside llama.cpp: CPU milliseconds a token, by its own clock.

The real backend on a thread of this process, its events into a real outbox that another thread
empties. `time.thread_time` counts only this thread's work, so a busy machine does not disturb it.
`python -m benchmarks.loop_cpu` prints a profile instead of a row.
"""

import cProfile
import itertools
import pstats
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Figure, median, spread
from llmchat.engine.backend import Verdict
from llmchat.engine.protocol import ChatMessage, Event, Finished, Generate, Messages
from llmchat.engine.shell.outbox import Outbox
from llmchat.engine.worker.capi import Context
from llmchat.engine.worker.loop import LlamaBackend
from llmchat.values import ModelFile, Sampling, Wants
from tests.models import starter

TOKENS = 192
LIMIT_MS = 0.25


class _Clock:
    """CPU of the calling thread inside llama_decode, and outside of it."""

    def __init__(self) -> None:
        self.decode = 0.0
        self.marks: list[tuple[float, float]] = []
        """(CPU outside of decode so far, wall clock) after each decode."""

    def wrap(self, name: str) -> Callable[[Context], int | None]:
        """A method of Context that counts its own CPU."""
        plain = getattr(Context, name)

        def counted(context: Context) -> int | None:
            begin = time.thread_time()
            result: int | None = plain(context)
            end = time.thread_time()
            self.decode += end - begin
            if name == "decode":
                self.marks.append((end - self.decode, time.perf_counter()))
            return result

        return counted


@contextmanager
def _counted() -> Iterator[_Clock]:
    clock = _Clock()
    kept = Context.decode, Context.synchronize
    Context.decode = clock.wrap("decode")  # type: ignore[method-assign,assignment]
    Context.synchronize = clock.wrap("synchronize")  # type: ignore[method-assign,assignment]
    try:
        yield clock
    finally:
        Context.decode, Context.synchronize = kept  # type: ignore[method-assign]


class _Loop:
    """A loaded backend, its loop on a thread, and an outbox that somebody empties."""

    def __init__(self, model: Path, profile: cProfile.Profile | None = None) -> None:
        self.backend = LlamaBackend()
        self._model = ModelFile(name="b", path=str(model), identity="0" * 64, size=1)
        self._profile = profile
        self._ready = threading.Event()
        self._due = threading.Event()
        self._done = threading.Event()
        self._stopped = False
        self.outbox = Outbox(1 << 30, self._due.set)
        threads = [threading.Thread(target=target) for target in (self._run, self._drain)]
        self._threads = threads
        for thread in threads:
            thread.start()
        self._ready.wait(120)

    def _run(self) -> None:
        self.backend.load(
            self._model,
            Wants(n_ctx=1024, n_threads=1),
            progress=lambda _loading: None,
            proceed=lambda _plan: Verdict.GO,
        )
        self._ready.set()
        if self._profile is not None:
            self._profile.enable()
        self.backend.run()
        if self._profile is not None:
            self._profile.disable()

    def _drain(self) -> None:
        while not self._stopped:
            self._due.wait(0.03)
            self._due.clear()
            while self.outbox.take():
                pass

    def generate(self, n: int) -> None:
        """Ask, and wait for the end."""
        self._done.clear()

        def emit(event: Event) -> None:
            self.outbox.put(event)
            if isinstance(event, Finished):
                self._done.set()

        prompt = Messages(messages=(ChatMessage(role="user", content="Tell me a long story."),))
        greedy = Sampling(temperature=0.0)
        self.backend.submit(
            Generate(id=1, prompt=prompt, sampling=greedy, max_tokens=n, ignore_eos=True), emit
        )
        self._done.wait(300)

    def close(self) -> None:
        """Stop both threads."""
        self.backend.stop()
        self._stopped = True
        for thread in self._threads:
            thread.join(60)


def per_token(model: Path, runs: int) -> list[float]:
    """Median milliseconds between two decodes, of each run."""
    found = []
    with _counted() as clock:
        loop = _Loop(model)
        try:
            loop.generate(16)
            for _ in range(runs):
                clock.marks.clear()
                loop.generate(TOKENS)
                cpu = [mark[0] for mark in clock.marks[4:-1]]
                steps = [after - before for before, after in itertools.pairwise(cpu)]
                found.append(statistics.fmean(steps) * 1000)
        finally:
            loop.close()
    return found


def measure(model: Path, runs: int = 5) -> Figure:
    """One row: CPU of the inference thread beside decode, against a quarter of a millisecond."""
    ours = per_token(model, runs)
    return Figure(
        what="CPU beside llama_decode in the inference thread, a token",
        against="the limit",
        ours=median(ours),
        floor=LIMIT_MS,
        ratio=median(ours) / LIMIT_MS,
        reach="<= 1",
        unit="ms",
        runs=runs,
        note=f"ms {spread(ours)}; greedy, no logprobs, {TOKENS} tokens",
    )


def main() -> None:
    """Where the time goes."""
    profile = cProfile.Profile(time.thread_time)
    loop = _Loop(starter(), profile)
    loop.generate(TOKENS)
    loop.close()
    pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(30)
    print(per_token(starter(), 3))


if __name__ == "__main__":
    main()
