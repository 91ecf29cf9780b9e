"""One turn on the command line: the answer to stdout as it is written, everything else to stderr.

Owns following a turn's events, Ctrl+C, and the order of several answers: the first as it is
written, the others below it when all are there. Refuses to choose a model or to make a prompt; what
is said afterwards is `answered.py`'s.
"""

import asyncio
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

from llmchat.cli.amounts import clock
from llmchat.cli.answered import Shown
from llmchat.cli.deciding import choose_policy
from llmchat.cli.output import end_status, is_terminal, note, note_dim, status
from llmchat.cli.progress import Bar
from llmchat.cli.tooling import call_line, kept_call_line
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
from llmchat.text.cleaning import StreamCleaner, clean
from llmchat.values import Message

if TYPE_CHECKING:
    from llmchat.core.asking import Asking
    from llmchat.core.chats import Chats

SLOW_PROMPT = 1.0
"""Seconds of reading that a prompt must have left before that is worth a line."""


class Follower:
    """Follows one turn. With `shown.as_json` nothing goes to stdout."""

    def __init__(self, chats: "Chats", turn: "Asking", shown: Shown) -> None:
        self._chats = chats
        self._turn = turn
        self._begun = turn.replies
        self._others = {reply.id for reply in self._begun[1:]}
        self._raw = shown.raw
        self._silent = shown.as_json
        self._show_thinking = shown.thinking and is_terminal(sys.stderr)
        self._text = StreamCleaner()
        self._thought = StreamCleaner()
        self._was_thinking = False
        self._wrote = False
        self._numbered = False
        """Whether the first of several answers has its number above it."""
        self._waiting = False
        self._last = "\n"
        self._bar = Bar("")
        self._deciding: asyncio.Task[None] | None = None
        self.stopped_by: int | None = None
        """The signal that stopped the answer."""

    async def follow(self) -> tuple[Message, ...]:
        """Write the answer until the turn is over; the replies, complete or cut short.

        One that was stopped before its first word is not among them: nothing of it is kept.

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
            self._say_beginning(writer)
            async for event in self._turn.events():
                self._show(event, writer)
            self._end_line(writer)
            self._write_others(writer)
        finally:
            stopper.cancel()
            if self._deciding is not None:
                self._deciding.cancel()
            self._clear()
            await asyncio.to_thread(writer.close)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return await self._turn.wait()

    def _on_signal(self, number: int, stop: asyncio.Event) -> None:
        if self.stopped_by is not None:  # a second Ctrl+C does not wait for the model
            raise KeyboardInterrupt
        self.stopped_by = number
        stop.set()

    async def _stop_when(self, stop: asyncio.Event) -> None:
        await stop.wait()
        await self._chats.cancel(self._turn.id)

    def _say_beginning(self, writer: AnswerWriter) -> None:
        """The words that a reply goes on from."""
        for reply in self._begun[:1]:
            self._put(reply.text if self._raw else self._text.feed(reply.text), writer)

    def _show(self, event: AnyChatEvent, writer: AnswerWriter) -> None:
        if getattr(event, "message", None) in self._others:
            return  # they are written when all are there
        if isinstance(event, TextAdded):
            self._begin_text(writer)
            self._put(event.text if self._raw else self._text.feed(event.text), writer)
        elif isinstance(event, ThinkingAdded):
            self._think(event.text)
        elif isinstance(event, ToolCalled):
            self._begin_text(writer)
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

    def _begin_text(self, writer: AnswerWriter) -> None:
        self._clear()
        self._wrote = True
        if self._others and not self._numbered:
            self._numbered = True
            self._put(_heading(1, len(self._begun)), writer)
        if self._was_thinking:
            self._was_thinking = False
            note_dim(self._thought.end() + "\n\n")

    def _write_others(self, writer: AnswerWriter) -> None:
        """The other answers of several, each below its number."""
        kept = {reply.id: reply for reply in self._turn.replies}
        for place, begun in enumerate(self._begun[1:], 2):
            if (reply := kept.get(begun.id)) is None:
                continue
            text = reply.text if self._raw else clean(reply.text)
            calls = [kept_call_line(part) for part in reply.parts if part.kind == "tool_call"]
            lines = "".join([text, "" if text.endswith("\n") or not text else "\n", *calls])
            if lines:
                apart = ("\n" if self._last == "\n" else "\n\n") if self._wrote else ""
                self._wrote = True
                self._put(apart + _heading(place, len(self._begun)) + lines, writer)

    def _put(self, text: str, writer: AnswerWriter) -> None:
        if text and not self._silent:
            self._last = text[-1]
            writer.write(text)

    def _end_line(self, writer: AnswerWriter) -> None:
        """The prompt of a shell belongs on a line of its own; --raw adds nothing to one answer."""
        if not self._raw:
            self._put(self._text.end(), writer)
            if self._last != "\n":
                self._put("\n", writer)


def _heading(place: int, count: int) -> str:
    return f"[{place}/{count}]\n"
