"""A worker and a session with it, for figures that are taken at the socket; and the bare loop.

One event loop for the whole measurement, driven step by step, so that a benchmark is plain code.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from llmchat.engine.client.engine import LocalEngine
from llmchat.engine.protocol import Finished, Generate, RawTokens
from llmchat.engine.session import GenerateEvent, Session
from llmchat.paths import find_places
from llmchat.values import ModelFile, Sampling, Wants

GREEDY = Sampling(temperature=0.0)
Result = TypeVar("Result")


class Worker:
    """A session with the real worker, and the clock of this process."""

    def __init__(self, session: Session, runner: asyncio.Runner) -> None:
        self.session = session
        self._runner = runner
        self._chance = random.Random(1)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do something on the session's event loop."""
        return self._runner.run(work)

    def tokens(self, count: int) -> tuple[int, ...]:
        """Random ones, never the same twice."""
        size = self.session.facts.n_vocab
        return tuple(self._chance.randrange(size // 8, size - size // 8) for _ in range(count))

    def request(self, prompt: int, tokens: int, **given: Any) -> Generate:  # noqa: ANN401
        """So many tokens after a prompt that nobody has read, greedy, to the last."""
        return Generate(
            prompt=RawTokens(tokens=self.tokens(prompt)),
            sampling=GREEDY,
            max_tokens=tokens,
            ignore_eos=True,
            **given,
        )

    async def finish(self, request: Generate) -> tuple[Finished, float]:
        """How it ended, and when (perf_counter)."""
        async with aclosing(self.session.generate(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event, time.perf_counter()
        raise AssertionError("it ended without an end")

    def stream(self, request: Generate) -> AsyncGenerator[GenerateEvent, None]:
        """Its events."""
        return self.session.generate(request)


@contextmanager
def worker(
    model: Path, home: Path, n_ctx: int, n_threads: int, kv_budget: int | None = None
) -> Iterator[Worker]:
    """A worker of its own; it leaves at the end. `kv_budget`: bytes that its states may take."""
    environ = dict(os.environ) | {"LLMCHAT_HOME": str(home)}
    found = ModelFile(name="bench", path=str(model), identity="be" * 32, size=model.stat().st_size)
    engine = LocalEngine(
        find_places(environ), face="bench", environ=environ, keep_alive=0, kv_budget=kv_budget
    )
    with asyncio.Runner() as runner:
        session = runner.run(engine.open(found, Wants(n_ctx=n_ctx, n_threads=n_threads)))
        try:
            yield Worker(session, runner)
        finally:
            runner.run(engine.aclose())


@contextmanager
def bare(module: str, *arguments: object) -> Iterator["Bare"]:
    """A bare loop in a process of its own, loaded and waiting."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    loop = Bare(process)
    loop.read()
    try:
        yield loop
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=30)


class Bare:
    """Asks a bare loop for seconds."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def read(self) -> str:
        """A line of its answer."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def seconds(self, *numbers: int) -> float:
        """What it says to a line of numbers."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, numbers)) + "\n")
        self._process.stdin.flush()
        return float(self.read())
