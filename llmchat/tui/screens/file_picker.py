"""`@`: a file below the current folder, by a part of its name."""

import asyncio
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from llmchat.core.attaching.finding import browse
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.screens.typed_ahead import SearchLineScreen
from llmchat.tui.widgets.plain_list import PlainList

SHOWN = 50
"""Lines of the list."""


class FilePicker(SearchLineScreen[str | None]):
    """Type to search, Enter attaches, Esc attaches nothing. A path of its own can be typed too."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._names: list[str] = []
        self._found: list[str] = []

    def compose(self) -> ComposeResult:
        """A line to search in, the list, the keys."""
        with Vertical():
            yield Input(placeholder=say("tui.picker_placeholder"), compact=True)
            yield PlainList()
            yield Static(Content(say("tui.picker_keys")), classes="-keys")

    def on_mount(self) -> None:
        """Look, off the screen's thread."""
        self._look()

    @work
    async def _look(self) -> None:
        self._names = await asyncio.to_thread(browse, self._folder)
        self._show(self.query_one(Input).value)

    def _show(self, words: str) -> None:
        self._found = self._names[:SHOWN]
        if words.strip():
            matcher = Matcher(words.strip())
            scored = [(matcher.match(name), name) for name in self._names]
            best = sorted((row for row in scored if row[0] > 0), key=lambda row: -row[0])
            self._found = [name for _, name in best[:SHOWN]]
        files = self.query_one(OptionList)
        files.clear_options()
        files.add_options(Option(clean_line(name, 78)) for name in self._found)
        files.highlighted = 0 if self._found else None

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        event.stop()
        self._show(event.value)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self._found[event.option_index])

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        place = self.query_one(OptionList).highlighted
        if place is not None and place < len(self._found):
            self.dismiss(self._found[place])
        elif event.value.strip():
            self.dismiss(event.value.strip())
