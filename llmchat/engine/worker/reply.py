"""One request and its replies while they run.

Owns what belongs to a choice: its tokens, its sequence, its chain, its text, and when it is over.
Refuses the loop and llama.cpp's memory.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from llmchat.engine.backend import Emit
from llmchat.engine.protocol import Finished, Generate
from llmchat.engine.worker.adapters import NOTHING
from llmchat.engine.worker.constraint.rule import Rule
from llmchat.engine.worker.memory import Slot
from llmchat.engine.worker.prompts import Read
from llmchat.engine.worker.reply_text import Parser, ReplyText
from llmchat.engine.worker.sampling import Chain
from llmchat.engine.worker.speculation import Drafter
from llmchat.engine.worker.vocab import Vocab
from llmchat.values import FinishReason, Timings, ToolCall, Usage


class Task:
    """One Generate request."""

    def __init__(
        self,
        request: Generate,
        emit: Emit,
        arrival: int,
        read: Read,
        *,
        stop: tuple[str, ...] = (),
    ) -> None:
        self.request = request
        self.emit = emit
        self.arrival = arrival
        self.read = read
        self.stop = stop
        self.replies: list[Reply] = []
        self.cancelled = False
        self.arrived = time.perf_counter()
        self.admitted = 0.0
        self.prompt_done = 0.0
        self.from_memory = 0
        self.from_disk = 0
        self.marks: list[int] = []
        """Lengths of the prompt at which what was read is kept (`memory/checkpoints.py`)."""
        self.forced: list[int] = []
        self.ends: frozenset[int] = frozenset()
        """Tokens that end a reply and are not part of it."""
        self.mixture = NOTHING
        self.rules: list[Rule] = []
        """One for each choice, at the reply's beginning; empty without a constraint."""
        self.position = -1
        """Place in line as the client was told it."""

    @property
    def prompt(self) -> list[int]:
        """What is read before the first token is chosen, as the prefix memory knows it.

        Its first token has the adapters' name, if there are any: see `Reply.to_compute`.
        """
        return self.mixture.named(self.read.tokens + self.forced)

    @property
    def usage(self) -> Usage:
        """Counts of the prompt; a reply adds its own."""
        total = len(self.read.tokens) + len(self.forced)
        return Usage(
            prompt_tokens=total,
            from_memory=self.from_memory,
            from_disk=self.from_disk,
            read=total - self.from_memory - self.from_disk,
        )


class Part(NamedTuple):
    """What one reply has of a decode."""

    reply: "Reply"
    read: int
    """How many tokens of its own."""
    row: int
    """The row of the last of them."""
    guess: list[int]
    """Tokens that may follow, each with a row behind that."""


class Reply:
    """One choice of a task. `tokens` is prompt and answer; `pending` of them have no cells yet."""

    def __init__(
        self, task: Task, choice: int, slot: Slot | None, chain: Chain, parser: Parser
    ) -> None:
        self.task = task
        self.choice = choice
        self.slot: Slot | None = slot
        self.chain = chain
        self.rule: Rule | None = None
        self.tokens = task.prompt
        self.n_prompt = len(self.tokens)
        self.text = ReplyText(task.request.id, choice, task.emit, parser, task.stop)
        self.first = 0.0
        self.last = 0.0
        self.finish: FinishReason | None = None
        self.over = False
        """The model has chosen to end it, which is not told yet."""
        self.drafter: Drafter | None = None
        self.leader: Reply | None = None
        """Whose prompt it will share; it waits until that is read."""

    def to_compute(self, start: int, count: int) -> list[int]:
        """The tokens that the model computes at these places."""
        tokens = self.tokens[start : start + count]
        if start == 0 and self.task.mixture.name:
            tokens[0] = (self.task.read.tokens + self.task.forced)[0]
        return tokens

    @property
    def pending(self) -> int:
        """Tokens without cells: 1 while it generates."""
        return len(self.tokens) - (len(self.slot.tokens) if self.slot else 0)

    @property
    def stretch(self) -> int:
        """How many of them may be computed at once: up to the next mark."""
        at = len(self.tokens) - self.pending
        return min((mark - at for mark in self.task.marks if mark > at), default=self.pending)

    @property
    def is_watched(self) -> bool:
        """Something beside the model has a say in, or wants to know of, each of its tokens."""
        request = self.task.request
        return (
            self.rule is not None
            or self.drafter is not None
            or request.top_logprobs > 0
            or request.want_tokens
            or bool(self.task.stop)
        )

    @property
    def order(self) -> tuple[int, int]:
        """For the scheduler."""
        return (-self.task.request.priority, self.task.arrival)

    @property
    def generating(self) -> bool:
        """Its next row gives a token of the answer, and nothing else is left to read."""
        slot = self.slot
        return self.first > 0 and slot is not None and len(self.tokens) == len(slot.tokens) + 1

    @property
    def written(self) -> int:
        """Tokens chosen so far."""
        return len(self.tokens) - self.n_prompt

    def end(self, reason: FinishReason, vocab: Vocab) -> None:
        """Send what was held back, and Finished."""
        # Half a character is not text: its tokens are kept, a sign for it is not written.
        self.text.end(whole=reason == "stop")
        calls = _with_ids(self.text.tool_calls, f"{self.task.read.digest}{self.chain.seed}")
        self.finish = "tool_calls" if calls and reason == "stop" else reason
        cut = self.text.stopped  # the text ends before the tokens do
        start = self.n_prompt - len(self.task.forced)
        self.task.emit(
            Finished(
                id=self.task.request.id,
                choice=self.choice,
                reason=self.finish,
                usage=_with_completion(self.task.usage, self.written),
                timings=self._timings(),
                seed=self.chain.seed,
                prompt_digest=self.task.read.digest,
                tool_calls=calls,
                tokens=() if cut else tuple(self.to_compute(start, len(self.tokens))),
                vocab=vocab.digest,
            )
        )

    def close(self) -> None:
        """Free what llama.cpp holds for it."""
        self.chain.close()
        if self.rule is not None:
            self.rule.close()

    def _timings(self) -> Timings:
        task = self.task
        now = time.perf_counter()
        return Timings(
            queued=(task.admitted or now) - task.arrived,
            prompt=max(0.0, (task.prompt_done or now) - task.admitted) if task.admitted else 0.0,
            first_token=self.first - task.arrived if self.first else 0.0,
            generation=self.last - self.first,
        )


def _with_ids(calls: Sequence[ToolCall], reply: str) -> tuple[ToolCall, ...]:
    """Calls with ids of their own in a whole conversation: nine signs, as Mistral's models want."""
    digest = hashlib.sha256(reply.encode()).hexdigest()[:6]
    return tuple(replace(call, id=f"{digest}{number:03}") for number, call in enumerate(calls))


def _with_completion(usage: Usage, count: int) -> Usage:
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        from_memory=usage.from_memory,
        from_disk=usage.from_disk,
        read=usage.read,
        completion_tokens=count,
    )
