"""Markdown that grows while a model writes.

Owns the pace: at most ten paints a second, fewer when one takes long, so that keys stay quick on a
busy machine; what comes between two paints is joined. Cleans everything it is fed. Raw HTML is
shown as text, since a tag that vanishes is a word the model wrote and nobody can read.
"""

import asyncio
from contextlib import suppress
from time import monotonic

from markdown_it import MarkdownIt
from textual import work
from textual.widgets import Markdown

from llmchat.text.cleaning import StreamCleaner, clean
from llmchat.tui.widgets.growing_lists import GrowingBullets, GrowingNumbers

PACE = 0.1
"""Seconds from one paint to the next."""
LONGEST = 1.0
"""Seconds that one paint is waited for."""
REST = 4
"""A paint is followed by this many times its own length of rest: a fifth of one core at most."""


def parser() -> MarkdownIt:
    """GitHub's Markdown as Textual draws it, with HTML as plain words."""
    return MarkdownIt("gfm-like", {"html": False})


class StreamedMarkdown(Markdown):
    """Markdown in two modes: `text` given whole, or `feed` piece by piece and then `finish`."""

    BLOCKS = Markdown.BLOCKS | {
        "bullet_list_open": GrowingBullets,
        "ordered_list_open": GrowingNumbers,
    }

    DEFAULT_CSS = """
    StreamedMarkdown {
        padding: 0;
        background: transparent;
        & > * { margin: 0 0 1 0; }
        & > MarkdownFence, & > MarkdownFence:light {
            background: $code-background;
            color: $foreground;
        }
        & MarkdownBlock:dark > .code_inline, & MarkdownBlock:light > .code_inline {
            background: $code-background;
            color: $text-accent;
        }
        & > MarkdownH1 { content-align: left middle; text-style: bold; }
        & > MarkdownH2 { text-style: bold; }
        & > MarkdownBlockQuote { background: $code-background; border-left: outer $rule; }
    }
    """

    def __init__(self, text: str = "", *, classes: str | None = None) -> None:
        super().__init__(clean(text), open_links=False, parser_factory=parser, classes=classes)
        self._cleaner = StreamCleaner()
        self._pending: list[str] = []
        self._painting = False
        self._drawn = asyncio.Event()

    def on_mount(self) -> None:
        """Painting may begin once the first, whole text has been drawn."""
        self.call_later(self._drawn.set)

    def on_unmount(self) -> None:
        """Nobody waits for what will not be drawn."""
        self._drawn.set()

    def feed(self, piece: str) -> None:
        """More text, raw; painted soon."""
        if cleaned := self._cleaner.feed(piece):
            self._pending.append(cleaned)
        if self._pending and not self._painting:
            self._painting = True
            self._paint()

    @work
    async def _paint(self) -> None:
        try:
            await self._drawn.wait()
            while self._pending:
                text = "".join(self._pending)
                self._pending.clear()
                started = monotonic()
                await self.append(text)
                await self._refreshed()
                took = monotonic() - started
                await asyncio.sleep(max(PACE - took, REST * took))
        finally:
            self._painting = False

    async def _refreshed(self) -> None:
        painted = asyncio.Event()
        self.call_after_refresh(painted.set)
        with suppress(TimeoutError):  # a box that closes takes what was to be called with it
            async with asyncio.timeout(LONGEST):
                await painted.wait()

    async def finish(self, text: str) -> None:
        """The whole text, raw, as it was saved: draws what is missing, at once."""
        await self._drawn.wait()
        self._pending.clear()
        whole = clean(text)
        if self.source != whole and self.is_running:
            await self.update(whole)
