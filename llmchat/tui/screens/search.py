"""Ctrl+K: everything that was ever said, found while it is typed.

Owns the question, the list of hits and choosing one; finding is `rt.chats.search`, opening the
conversation at the hit is the chat screen's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.follower import sentences
from llmchat.tui.screens.typed_ahead import SearchLineScreen
from llmchat.tui.widgets.plain_list import PlainList

if TYPE_CHECKING:
    from llmchat.store.search import Hit

Find = Callable[[str], Awaitable[Sequence["Hit"]]]

PAUSE = 0.12
"""Seconds without a key after which is looked."""
MARKS = ("\x01", "\x02")
"""Around each match in a snippet."""


def snippet_line(snippet: str) -> Content:
    """A snippet on one line, its matches marked; everything outside the marks is cleaned."""
    # Other control characters become visible signs; these two are the store's own.
    parts: list[tuple[str, str]] = []
    for place, piece in enumerate(snippet.split(MARKS[0])):
        match, mark, rest = piece.partition(MARKS[1])
        if place == 0 or not mark:
            parts.append((_folded(piece), "$quiet"))
            continue
        parts += [(_folded(match), "bold $text-accent"), (_folded(rest), "$quiet")]
    return Content.assemble(*parts)


def _folded(text: str) -> str:
    # `clean_line` strips the ends, where a space parts a match from its neighbours.
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() and text.strip() else ""
    return before + clean_line(text) + after


def when(created: float, now: float) -> str:
    """The date a person looks for: `14:05` today, `3 Nov` this year, else `2023-11-14`."""
    then, today = time.localtime(created), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    if then.tm_year == today.tm_year:
        return f"{then.tm_mday} {time.strftime('%b', then)}"
    return time.strftime("%Y-%m-%d", then)


class SearchScreen(SearchLineScreen["Hit | None"]):
    """Type to search, Enter opens the conversation at the hit, Esc changes nothing."""

    ROWS = 100
    DEFAULT_CSS = """
    SearchScreen > Vertical {
        width: 100;
    }
    """

    def __init__(self, find: Find, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._find, self._clock = find, clock
        self._hits: Sequence[Hit] = ()
        self._looked = ""

    def compose(self) -> ComposeResult:
        """A line to search in, the hits, the keys."""
        with Vertical():
            yield Input(placeholder=say("tui.search_placeholder"), compact=True)
            yield PlainList()
            yield Static(Content(say("tui.search_keys")), classes="-keys", markup=False)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._look_soon(event.value)

    @work(group="look", exclusive=True)
    async def _look_soon(self, words: str) -> None:
        await asyncio.sleep(PAUSE)
        await self._look(words)

    async def _look(self, words: str) -> None:
        try:
            hits = await self._find(words)
        except LlmchatError as error:
            self.notify(sentences(error), severity="error", markup=False)
            return
        self._hits, self._looked = hits, words
        rows = self.query_one(OptionList)
        rows.clear_options()
        rows.add_options([Option(self._row(hit)) for hit in hits])
        rows.highlighted = 0 if hits else None
        keys = "tui.search_keys" if hits or not words.strip() else "tui.search_none"
        self.query_one(".-keys", Static).update(Content(say(keys)))

    def _row(self, hit: "Hit") -> Content:
        title = clean_line(hit.title, 60) or say("tui.untitled")
        who = say(f"tui.search_{hit.role}") if hit.role else say("tui.search_title")
        about = f"   {who} · {when(hit.created, self._clock())}"
        return Content.assemble(
            (title, "$foreground"), (about, "$quiet"), "\n  ", snippet_line(hit.snippet)
        )

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self._hits[event.option_index])

    @on(Input.Submitted)
    async def _submitted(self, event: Input.Submitted) -> None:
        # Typed fast, Enter comes before the last words were looked up.
        event.stop()
        if event.value != self._looked:
            self.workers.cancel_group(self, "look")
            await self._look(event.value)
        place = self.query_one(OptionList).highlighted
        if place is not None:
            self.dismiss(self._hits[place])
