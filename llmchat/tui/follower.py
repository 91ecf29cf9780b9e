"""Following a running turn: its events become words in the transcript and on the status line.

Owns no state of the turn: leaving and following again draws the same, since a turn replays what
has happened. The screen decides when to follow and what comes after.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from llmchat.core.events import (
    AnyChatEvent,
    ContextDropped,
    ContextFull,
    ModelLoading,
    PromptRead,
    Queued,
    TextAdded,
    ThinkingAdded,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)
from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.names import short_model
from llmchat.tui.widgets.activity import Activity, duration
from llmchat.tui.widgets.footnote import dropped, tokens_per_second
from llmchat.tui.widgets.status_line import StatusLine
from llmchat.tui.widgets.transcript import Transcript
from llmchat.values import Message

if TYPE_CHECKING:
    from llmchat.core.turn import Turn


def sentences(error: LlmchatError) -> str:
    """What happened and what to do next, on one line; cleaned."""
    return clean_line(f"{error.sentence} {error.hint or ''}")


class Follower:
    """Draws turns on the three widgets that tell of them."""

    def __init__(
        self,
        transcript: Transcript,
        activity: Activity,
        status: StatusLine,
        on_full: Callable[[ContextFull], None],
    ) -> None:
        """`on_full` asks what to leave out, if nobody has been asked yet."""
        self._transcript = transcript
        self._activity = activity
        self._status = status
        self._on_full = on_full
        self._begun: frozenset[str] = frozenset()
        self._shown: str | None = None

    async def follow(self, turn: "Turn", shown: str | None = None) -> None:
        """Draw a turn until it is over. Cancelling stops after an event, and not the turn.

        Args:
            turn: what is followed.
            shown: of several replies the one that is drawn, by its id; the first.
        """
        self._shown = shown
        self._state("tui.state_waiting")
        try:
            async for event in turn.events():
                await self._transcript.changes.whole(partial(self._draw, event))
        finally:
            self._activity.tell("")
            self._status.busy = False
            self._status.state = say("tui.state_ready")

    def _state(self, key: str, **values: object) -> None:
        self._status.busy = True
        self._status.state = say(key, **values)

    async def _draw(self, event: AnyChatEvent) -> None:
        match event:
            case TurnStarted():
                await self._start(event)
            case TextAdded() | ThinkingAdded():
                self._write(event)
            case TurnFinished():
                await self._finish(event.replies, "")
                await self._withdraw(event.replies)
            case TurnFailed():
                await self._finish(event.replies, sentences(event.error))
            case ContextFull():
                self._state("tui.state_asking")
                self._on_full(event)
            case ContextDropped():
                for view in self._transcript.streaming:
                    view.say_notice(dropped(len(event.messages), event.tokens))
            case _:
                self._tell(event)

    async def _start(self, event: TurnStarted) -> None:
        self._begun = frozenset(reply.id for reply in event.replies)
        first = event.question or event.replies[0]
        reading = self._transcript.has_focus_within
        await self._transcript.keep_up_to(first.parent)
        if (asked := self._transcript.view(first.parent or "")) is not None:
            asked.say_notice("")  # what was said of an earlier try
        if event.question is not None:
            await self._transcript.add(event.question)
        chosen = [reply for reply in event.replies if reply.id == self._shown]
        view = await self._transcript.add((chosen or event.replies)[0])
        if reading:  # the version that had the focus is gone: keys go to the new one
            view.focus()
        self._transcript.anchor()

    def _write(self, event: TextAdded | ThinkingAdded) -> None:
        self._activity.tell("")
        view = self._transcript.view(event.message)
        if view is None:
            return
        if isinstance(event, ThinkingAdded):
            self._state("tui.state_thinking")
            view.feed_thinking(event.text)
        else:
            if (count := len(self._begun)) > 1:
                self._state("tui.state_writing_all", count=count)
            else:
                self._state("tui.state_writing")
            view.feed(event.text)

    async def _withdraw(self, replies: tuple[Message, ...]) -> None:
        """Take a reply of which nothing was kept off the screen; its question says why."""
        kept = {reply.id for reply in replies}
        for view in self._transcript.streaming:
            if view.message.id in kept or view.message.id not in self._begun:
                continue
            asked = self._transcript.view(view.message.parent or "")
            reading = view.has_focus
            await self._transcript.discard_from(view.message.id)
            if asked is not None:
                asked.say_notice(say("tui.stopped_early"))
                if reading:
                    asked.focus()

    async def _finish(self, replies: tuple[Message, ...], notice: str) -> None:
        for reply in replies:
            if (view := self._transcript.view(reply.id)) is not None:
                await view.finish(reply, notice)
            if reply.generation and (rate := tokens_per_second(reply.generation)) is not None:
                self._status.rate = rate

    def _tell(self, event: AnyChatEvent) -> None:
        match event:
            case ModelLoading():
                self._state("tui.state_loading")
                words = say("tui.loading", model=short_model(event.model))
                percent = f"{round(event.fraction * 100)} %"
                self._activity.tell(words, event.fraction, percent)
            case Queued():
                self._state("tui.state_waiting")
                self._activity.tell(say("tui.queued", position=event.position))
            case PromptRead():
                self._state("tui.state_reading")
                self._activity.tell(*_reading(event))
            case _:
                pass


def _reading(event: PromptRead) -> tuple[str, float | None, str]:
    tail = say("tui.tokens_of", done=event.done, total=event.total)
    if event.seconds_left is not None and event.seconds_left >= 1:
        tail += " · " + say("tui.left", time=duration(event.seconds_left))
    fraction = event.done / event.total if event.total else None
    return say("tui.reading"), fraction, tail
