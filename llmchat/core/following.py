"""What a turn has published, for any number of followers, early or late.

A late follower gets everything once more with neighbouring text merged; a slow one gets what it
missed merged in the same way. Nothing is dropped, and nobody who follows can hold the turn up.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from llmchat.core.events import (
    AnyChatEvent,
    ModelLoading,
    PromptRead,
    Queued,
    TextAdded,
    ThinkingAdded,
)


@dataclass(slots=True)
class _Run:
    """Neighbouring pieces of one reply's text."""

    first: TextAdded | ThinkingAdded
    pieces: list[str]

    def event(self) -> AnyChatEvent:
        return msgspec.structs.replace(self.first, text="".join(self.pieces))


class _Line:
    """Events in order: text merged with the text before it, progress replaced by newer progress."""

    def __init__(self) -> None:
        self._items: list[_Run | AnyChatEvent] = []

    def add(self, event: AnyChatEvent) -> None:
        last = self._items[-1] if self._items else None
        if isinstance(event, TextAdded | ThinkingAdded):
            if (
                isinstance(last, _Run)
                and type(last.first) is type(event)
                and last.first.message == event.message
            ):
                last.pieces.append(event.text)
            else:
                self._items.append(_Run(event, [event.text]))
        elif isinstance(event, ModelLoading | PromptRead | Queued) and type(last) is type(event):
            self._items[-1] = event
        else:
            self._items.append(event)

    def events(self) -> list[AnyChatEvent]:
        return [item.event() if isinstance(item, _Run) else item for item in self._items]

    def take(self) -> list[AnyChatEvent]:
        taken = self.events()
        self._items.clear()
        return taken


class Published:
    """One turn's events. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._history = _Line()
        self._followers: dict[_Line, asyncio.Event] = {}
        self.closed = False

    def add(self, event: AnyChatEvent) -> None:
        """Publish a fact."""
        self._history.add(event)
        for line, news in self._followers.items():
            line.add(event)
            news.set()

    def close(self) -> None:
        """There will be no more."""
        self.closed = True
        for news in self._followers.values():
            news.set()

    async def follow(self) -> AsyncIterator[AnyChatEvent]:
        """Everything so far, then everything that comes, until the end."""
        line, news = _Line(), asyncio.Event()
        for event in self._history.events():
            line.add(event)
        self._followers[line] = news
        try:
            while True:
                for event in line.take():
                    yield event
                if self.closed and not line.events():
                    return
                if not line.events():
                    news.clear()
                    await news.wait()
        finally:
            del self._followers[line]
