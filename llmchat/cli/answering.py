"""One turn on the command line: the answer to stdout as it is written, everything else to stderr.

Owns following a turn's events, Ctrl+C, and what is said afterwards. Refuses to choose a model or
to make a prompt.
"""

import asyncio
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from llmchat.cli.amounts import clock
from llmchat.cli.deciding import choose_policy
from llmchat.cli.output import end_status, is_terminal, note, note_dim, status
from llmchat.cli.progress import Bar
from llmchat.cli.tooling import call_line, call_value
from llmchat.cli.writer import AnswerWriter
from llmchat.core.events import (
    AnyChatEvent,
    ContextDropped,
    ContextFull,
    ModelLoading,
    PromptRead,
    Queued,
    TextAdded,
    ThinkingAdded,
    ToolCalled,
)
from llmchat.text import say
from llmchat.text.cleaning import StreamCleaner
from llmchat.values import FinishReason, Message, Timings, Usage

if TYPE_CHECKING:
    from llmchat.core.asking import Asking
    from llmchat.core.chats import Chats

SLOW_PROMPT = 1.0
"""Seconds of reading that a prompt must have left before that is worth a line."""


class Answer(Struct, frozen=True, kw_only=True):
    """What `run --json` prints."""

    model: str
    conversation: str
    message: str
    text: str
    thinking: str
    tool_calls: list[dict[str, object]]
    finish: FinishReason | None
    seed: int | None
    usage: Usage
    timings: Timings


def answer_of(reply: Message) -> Answer:
    """A finished reply as a program reads it."""
    made = reply.generation
    return Answer(
        model=made.model if made else "",
        conversation=reply.conversation,
        message=reply.id,
        text=reply.text,
        thinking=reply.thinking,
        tool_calls=[call_value(part) for part in reply.parts if part.kind == "tool_call"],
        finish=made.finish if made else None,
        seed=made.seed if made else None,
        usage=made.usage if made else Usage(),
        timings=made.timings if made else Timings(),
    )


class Follower:
    """Follows one turn. `raw`: text exactly as the model wrote it; `silent`: nothing to stdout."""

    def __init__(
        self,
        chats: "Chats",
        turn: "Asking",
        *,
        raw: bool = False,
        silent: bool = False,
        thinking: bool = True,
    ) -> None:
        self._chats = chats
        self._turn = turn
        self._raw = raw
        self._silent = silent
        self._show_thinking = thinking and is_terminal(sys.stderr)
        self._text = StreamCleaner()
        self._thought = StreamCleaner()
        self._was_thinking = False
        self._wrote = False
        self._waiting = False
        self._last = "\n"
        self._bar = Bar("")
        self._deciding: asyncio.Task[None] | None = None
        self.stopped_by: int | None = None
        """The signal that stopped the answer."""

    async def follow(self) -> Message | None:
        """Write the answer until the turn is over; the reply, complete or cut short.

        None when it was stopped before its first word: nothing of it is kept.

        Raises:
            ReaderGone: nobody reads our stdout any more; the turn is stopped, its text kept.
            LlmchatError: what the turn failed with.
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        writer = AnswerWriter(partial(loop.call_soon_threadsafe, stop.set))
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number, stop)
        stopper = asyncio.create_task(self._stop_when(stop))
        try:
            async for event in self._turn.events():
                self._show(event, writer)
            self._end_line(writer)
        finally:
            stopper.cancel()
            if self._deciding is not None:
                self._deciding.cancel()
            self._clear()
            await asyncio.to_thread(writer.close)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return next(iter(await self._turn.wait()), None)

    def _on_signal(self, number: int, stop: asyncio.Event) -> None:
        if self.stopped_by is not None:  # a second Ctrl+C does not wait for the model
            raise KeyboardInterrupt
        self.stopped_by = number
        stop.set()

    async def _stop_when(self, stop: asyncio.Event) -> None:
        await stop.wait()
        await self._chats.cancel(self._turn.id)

    def _show(self, event: AnyChatEvent, writer: AnswerWriter) -> None:
        if isinstance(event, TextAdded):
            self._begin_text()
            self._put(event.text if self._raw else self._text.feed(event.text), writer)
        elif isinstance(event, ThinkingAdded):
            self._think(event.text)
        elif isinstance(event, ToolCalled):
            self._begin_text()
            self._put("" if self._last == "\n" else "\n", writer)
            self._put(call_line(event.call), writer)
        elif isinstance(event, ContextFull):
            self._clear()
            self._deciding = asyncio.create_task(self._decide(event))
        elif isinstance(event, ContextDropped):
            self._clear()
            note(say("cli.context_dropped", count=len(event.messages), tokens=event.tokens))
        elif not self._wrote:
            self._show_waiting(event)

    async def _decide(self, full: ContextFull) -> None:
        from llmchat.core.turn import Turn  # it is there: the Runtime has it

        policy = await choose_policy(full)
        if isinstance(self._turn, Turn):
            self._turn.decide(policy)

    def _show_waiting(self, event: AnyChatEvent) -> None:
        """What happens before the first word, on a line that the first word replaces."""
        if isinstance(event, ModelLoading):
            self._bar.share(say("cli.loading", model=event.model), event.fraction)
        elif isinstance(event, Queued):
            status(say("cli.queued", count=event.position))
        elif isinstance(event, PromptRead):
            left = event.seconds_left
            if left is None or left < SLOW_PROMPT:
                return
            label = say("cli.reading", done=event.done, total=event.total)
            status(f"{label}  {clock(left)}")
        else:
            return
        self._waiting = True

    def _clear(self) -> None:
        """Take the line away; never once there is text, which the other thread may be writing."""
        if self._waiting:
            self._waiting = False
            end_status()

    def _think(self, text: str) -> None:
        if self._show_thinking:
            self._clear()
            self._was_thinking = self._wrote = True
            note_dim(self._thought.feed(text))

    def _begin_text(self) -> None:
        self._clear()
        self._wrote = True
        if self._was_thinking:
            self._was_thinking = False
            note_dim(self._thought.end() + "\n\n")

    def _put(self, text: str, writer: AnswerWriter) -> None:
        if text and not self._silent:
            self._last = text[-1]
            writer.write(text)

    def _end_line(self, writer: AnswerWriter) -> None:
        """The prompt of a shell belongs on a line of its own; --raw adds nothing."""
        if not self._raw:
            self._put(self._text.end(), writer)
            if self._last != "\n":
                writer.write("\n")


def say_figures(reply: Message) -> None:
    """Tokens, seconds and speed of a reply on stderr (`--stats`)."""
    made = reply.generation
    if made is None:
        return
    usage, timings = made.usage, made.timings
    note(
        say(
            "cli.stats_prompt",
            tokens=usage.prompt_tokens,
            memory=usage.from_memory,
            disk=usage.from_disk,
            seconds=timings.prompt,
            rate=usage.read / timings.prompt if timings.prompt else 0.0,
        )
    )
    decoded = max(0, usage.completion_tokens - 1)
    note(
        say(
            "cli.stats_answer",
            tokens=usage.completion_tokens,
            seconds=timings.generation,
            rate=decoded / timings.generation if timings.generation else 0.0,
        )
    )
    note(
        say(
            "cli.stats_rest",
            first=timings.first_token,
            seed=made.seed if made.seed is not None else "-",
            finish=made.finish or "-",
        )
    )
