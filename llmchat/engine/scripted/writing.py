"""How a scripted worker writes: a prompt read in steps, then its replies word by word.

Owns a Generate request from its turn to its last Finished or Failed, at the script's pace. Refuses
the queue (`backend.py`), waiting and ending early (`job.py`), what a token is (`reading.py`), and
hanging or dying (`dying.py`): it only says which stage it has reached.
"""

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Final

from llmchat.engine.protocol import (
    Delta,
    DeltaKind,
    Failed,
    Finished,
    Generate,
    PromptProgress,
    TokenInfo,
)
from llmchat.engine.scripted.dying import Fate
from llmchat.engine.scripted.job import Job
from llmchat.engine.scripted.reading import VOCAB, count_of, number, tokens_of
from llmchat.engine.scripted.script import Script
from llmchat.values import FinishReason, Timings, ToolCall, Usage

READ_STEP: Final = 32
"""Tokens of a prompt that are read at once."""


class Writer:
    """One Generate request: `words` are the user's, and `script` is what they ask for."""

    def __init__(
        self,
        job: Job,
        work: Generate,
        words: str,
        script: Script,
        *,
        fate: Fate,
        n_ctx: int,
        on_token: Callable[[], None],
    ) -> None:
        self.prompt: Final = script.prompt or sum(count_of(work.prompt))
        """Tokens that its prompt has, or seems to have."""
        self._job = job
        self._work = work
        self._words = words
        self._script = script
        self._fate = fate
        self._n_ctx = n_ctx
        self._on_token = on_token
        self._reading = 0.0

    def run(self) -> bool:
        """Answer it. False: it came to nothing, which has been said."""
        if self._script.fail:
            self._refuse(self._script.fail, self._script.message)
            return False
        if self.prompt >= self._n_ctx:
            message = f"The prompt has {self.prompt} tokens; the context holds {self._n_ctx}."
            self._refuse("context_exceeded", message)
            return False
        started = time.monotonic()
        if not self._read():
            self._job.end(self.prompt)
            return False
        self._fate.reach("first")
        self._reading = time.monotonic() - started
        self._write()
        return True

    def _refuse(self, code: str, message: str) -> None:
        self._job.emit(Failed(id=self._work.id, code=code, message=message))

    def _read(self) -> bool:
        """Whether the prompt was read to its end."""
        script = self._script
        for done in range(0, self.prompt, READ_STEP):
            self._progress(done)
            if done >= self.prompt // 2:
                self._fate.reach("read")
            if script.read and self._job.pause(READ_STEP / script.read, deaf=script.deaf):
                return False
        self._progress(self.prompt)
        return True

    def _progress(self, done: int) -> None:
        self._job.emit(PromptProgress(id=self._work.id, done=done, total=self.prompt))

    def _write(self) -> None:
        """All the replies side by side, a token of each at a time, as a model writes them."""
        began = time.monotonic()
        makes = partial(_pieces, self._work, self._script, self._words)
        replies = [_Reply(choice, list(makes(choice))) for choice in range(self._work.n)]
        writing = replies
        for position in count():
            stopped = self._stopped(position, began)
            for reply in writing:
                self._step(reply, stopped, began)
            writing = [reply for reply in writing if not reply.is_over]
            if not writing:
                return

    def _step(self, reply: "_Reply", stopped: FinishReason | None, began: float) -> None:
        """One token more, or the end."""
        position = len(reply.tokens)
        if stopped is None and position < len(reply.pieces):
            if position == len(reply.pieces) // 2:
                self._fate.reach("reply")
            kind, piece = reply.pieces[position]
            reply.tokens.append(number(piece))
            self._on_token()
            self._show(reply.choice, kind, piece, reply.tokens[-1])
        if stopped is not None or len(reply.tokens) == len(reply.pieces):
            reply.is_over = True
            ends: FinishReason = "tool_calls" if self._script.tool else "stop"
            self._finish(reply.choice, stopped or ends, reply.tokens, began)

    def _stopped(self, position: int, began: float) -> FinishReason | None:
        """Wait until the token at `position` is due; why there will be none."""
        script, limit = self._script, self._work.max_tokens
        if limit is not None and position >= limit:
            return "length"
        # Against the clock from the start, so that late wake-ups do not add up.
        due = began + (position + 1) / script.rate if script.rate else 0.0
        if due and self._job.pause(due - time.monotonic(), deaf=script.deaf):
            return "cancelled"
        return "cancelled" if self._job.unwanted and not script.deaf else None

    def _show(self, choice: int, kind: DeltaKind, piece: str, token: int) -> None:
        work = self._work
        info = (TokenInfo(token=token),) if work.want_tokens or work.top_logprobs else ()
        self._job.emit(Delta(id=work.id, choice=choice, kind=kind, text=piece, tokens=info))

    def _finish(self, choice: int, reason: FinishReason, tokens: list[int], began: float) -> None:
        prompt, seed = self.prompt, self._work.sampling.seed
        self._job.emit(
            Finished(
                id=self._work.id,
                choice=choice,
                reason=reason,
                usage=Usage(prompt_tokens=prompt, read=prompt, completion_tokens=len(tokens)),
                timings=Timings(
                    queued=0.0,
                    prompt=self._reading,
                    first_token=began - self._job.arrived,
                    generation=time.monotonic() - began,
                ),
                seed=seed if seed is not None else 42,
                prompt_digest=f"{zlib.crc32(self._words.encode()):08x}",
                tool_calls=_calls(self._script) if reason == "tool_calls" else (),
                tokens=tuple(tokens),
                vocab=VOCAB,
            )
        )


@dataclass(slots=True)
class _Reply:
    """One of the replies to a request."""

    choice: int
    pieces: list[tuple[DeltaKind, str]]
    tokens: list[int] = field(default_factory=list)
    is_over: bool = False


def _pieces(
    work: Generate, script: Script, words: str, choice: int
) -> Iterator[tuple[DeltaKind, str]]:
    """The tokens of a reply: thinking, text, and a call at its end."""
    for piece in tokens_of(script.think):
        yield "thinking", piece
    forced = work.forced if isinstance(work.forced, str) else ""
    if script.words:
        text = " ".join(f"word{position}" for position in range(script.words))
    else:
        text = script.say or _quote(words)
    if choice:
        text = f"({choice + 1}) {text}"
    for piece in tokens_of(forced + text):
        yield "text", piece
    if script.tool:
        yield "tool", script.tool


def _quote(words: str) -> str:
    """What is said where the script says nothing: short Markdown, equal for equal words."""
    quoted = " ".join(words.split()) or "nothing"
    return (
        f"You said: **{quoted}**\n\n"
        f"- It has {len(words.split())} words.\n"
        f"- A scripted worker answers, not a model.\n"
    )


def _calls(script: Script) -> tuple[ToolCall, ...]:
    name, _, arguments = script.tool.partition(" ")
    return (ToolCall(id="call_1", name=name, arguments=arguments or "{}"),)
