"""How fast a model is here: prompts read and tokens written a second, through the real worker.

Owns what is measured (the tests, in llama-bench's names) and how a speed follows from a reply's own
timings. It asks a session like any other client, socket and all. Refuses tables (a face prints
them) and opening the model. Closing the generator cancels what runs.

    pp512        a prompt of 512 tokens that nobody has read before
    pp512+p      the same, when all but its last 16 tokens are in memory: what a second turn costs
    tg128        128 tokens after a prompt of 16, greedy, the model's own end ignored
    tg128 x4     four such requests at once: tokens of all of them a second
    tg128+p x4   four replies that share one prompt of 512 tokens, read once
"""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from llmchat.engine.protocol import Finished, Generate, RawTokens
from llmchat.engine.session import Session
from llmchat.errors import LlmchatError
from llmchat.values import Sampling, Wants

LEAD: Final = 16
"""Tokens before a generation without a prefix, and the new ones after a known prefix."""
GREEDY: Final = Sampling(temperature=0.0, seed=1)
_SEED: Final = 20260101


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure."""

    prompt: int = 512
    generate: int = 128
    repetitions: int = 3
    sequences: tuple[int, ...] = (1, 2, 4, 8)
    prefix: bool = True
    """Also with a prompt that is in memory."""


class Row(Struct, frozen=True, kw_only=True):
    """One row: a kind of work, and how much of it."""

    kind: Literal["prompt", "generation"]
    tokens: int
    sequences: int = 1
    prefix: int = 0
    """Tokens of the prompt that are in memory."""

    @property
    def name(self) -> str:
        """As llama-bench writes it."""
        kind = "pp" if self.kind == "prompt" else "tg"
        times = f" x{self.sequences}" if self.sequences > 1 else ""
        return f"{kind}{self.tokens}{'+p' if self.prefix else ''}{times}"


class Measured(Struct, frozen=True, kw_only=True):
    """One row, measured: tokens a second of each repetition."""

    test: str
    kind: Literal["prompt", "generation"]
    tokens: int
    sequences: int
    prefix: int
    speeds: tuple[float, ...]
    mean: float
    deviation: float
    """Sample standard deviation; 0 with a single repetition."""


class Step(Struct, frozen=True):
    """A repetition begins: for a face's progress."""

    row: Row
    share: float
    """Of everything, 0 to 1."""


def rows(plan: Plan, most: int) -> list[Row]:
    """The rows of a plan, for a model that writes at most `most` sequences at once."""
    found: list[Row] = []
    if plan.prompt:
        found.append(Row(kind="prompt", tokens=plan.prompt))
        if plan.prefix and plan.prompt > LEAD:
            known = plan.prompt - LEAD
            found.append(Row(kind="prompt", tokens=plan.prompt, prefix=known))
    if plan.generate > 1:
        prefixes = (0, plan.prompt) if plan.prefix and plan.prompt else (0,)
        found += [
            Row(kind="generation", tokens=plan.generate, sequences=count, prefix=prefix)
            for prefix in prefixes
            for count in plan.sequences
            if count <= most
        ]
    return found


def wants(plan: Plan, given: Wants) -> Wants:
    """`given`, with a context that holds the largest test if none is asked for."""
    if given.n_ctx is not None:
        return given
    most = max(plan.sequences, default=1)
    apart = most * (LEAD + plan.generate)
    shared = plan.prompt + most * plan.generate
    # A pool holds one context at least; the next multiple of 256 is what llama.cpp makes of it.
    return replace(given, n_ctx=-(-(max(apart, shared) + 2 * LEAD) // 256) * 256)


async def measure(session: Session, plan: Plan) -> AsyncGenerator[Step | Measured, None]:
    """Each repetition's begin, and each row when it is done; one warm-up that does not count.

    Raises:
        EngineError: a request failed, or the worker died.
    """
    todo = rows(plan, session.facts.n_seq_max)
    runner = _Runner(session)
    if todo:
        await runner.warm_up()
    total = len(todo) * plan.repetitions
    for number, row in enumerate(todo):
        speeds = []
        for repetition in range(plan.repetitions):
            yield Step(row, (number * plan.repetitions + repetition) / total)
            speeds.append(await runner.speed(row))
        yield Measured(
            test=row.name,
            kind=row.kind,
            tokens=row.tokens,
            sequences=row.sequences,
            prefix=row.prefix,
            speeds=tuple(speeds),
            mean=statistics.fmean(speeds),
            deviation=statistics.stdev(speeds) if len(speeds) > 1 else 0.0,
        )


class _Runner:
    """Requests with prompts that no request had before."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chance = random.Random(_SEED + time.time_ns())

    def _fresh(self, count: int) -> tuple[int, ...]:
        """Random tokens: what they say does not change how long they take."""
        size = max(2, self._session.facts.n_vocab)
        return tuple(self._chance.randrange(size // 8, size - size // 8) for _ in range(count))

    async def warm_up(self) -> None:
        """Pages and kernels, for one prompt and a few tokens."""
        await self._ask(self._fresh(LEAD), 4)

    async def speed(self, row: Row) -> float:
        """Tokens a second of one repetition."""
        if row.kind == "prompt":
            return await self._prompt(row)
        if row.prefix:
            return await self._shared(row)
        return await self._apart(row)

    async def _prompt(self, row: Row) -> float:
        known = self._fresh(row.prefix)
        if known:
            await self._ask(known, 1)
        [reply] = await self._ask((*known, *self._fresh(row.tokens - row.prefix)), 1)
        return row.tokens / max(1e-9, reply.end.timings.prompt)

    async def _apart(self, row: Row) -> float:
        """Requests of their own, all at once."""
        try:
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(self._ask(self._fresh(LEAD), row.tokens))
                    for _ in range(row.sequences)
                ]
        except* LlmchatError as failed:
            raise failed.exceptions[0] from None
        return _together([reply for one in asked for reply in one.result()])

    async def _shared(self, row: Row) -> float:
        """Replies to one prompt: read once, written in one batch."""
        return _together(await self._ask(self._fresh(row.prefix), row.tokens, row.sequences))

    async def _ask(self, prompt: tuple[int, ...], tokens: int, n: int = 1) -> "list[_Reply]":
        request = Generate(
            prompt=RawTokens(tokens=prompt),
            sampling=GREEDY,
            max_tokens=tokens,
            ignore_eos=True,
            n=n,
        )
        async with aclosing(self._session.generate(request)) as events:
            return [
                _Reply(event, time.perf_counter())
                async for event in events
                if isinstance(event, Finished)
            ]


class _Reply(Struct, frozen=True):
    """How a reply ended, and when we heard of it (perf_counter)."""

    end: Finished
    at: float


def _together(replies: "Sequence[_Reply]") -> float:
    """Tokens a second of replies that were written side by side, from the first to the last.

    The worker's clock says how long each wrote, ours when it ended.
    """
    begun = min(reply.at - reply.end.timings.generation for reply in replies)
    seconds = max(reply.at for reply in replies) - begun
    written = sum(reply.end.usage.completion_tokens - 1 for reply in replies)
    return written / max(1e-9, seconds)
