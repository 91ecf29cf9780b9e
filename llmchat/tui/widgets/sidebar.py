"""The conversations, newest first, under the day they were last used."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.actions import bindings
from llmchat.values import Conversation


def day_of(conversation: Conversation, now: float) -> str:
    """The heading a conversation stands under: `pinned`, `today`, `yesterday`, `week`, `older`."""
    if conversation.pinned:
        return "pinned"
    today = time.localtime(now)
    midnight = now - today.tm_hour * 3600 - today.tm_min * 60 - today.tm_sec
    if conversation.updated >= midnight:
        return "today"
    if conversation.updated >= midnight - 86_400:
        return "yesterday"
    return "week" if conversation.updated >= midnight - 6 * 86_400 else "older"


class Sidebar(OptionList):
    """A list to open, rename, pin and delete conversations from."""

    SCOPE = "sidebar"
    BINDINGS = bindings("sidebar")

    DEFAULT_CSS = """
    Sidebar {
        width: 30;
        height: 1fr;
        max-height: 100%;
        border: none;
        padding: 1 1 0 1;
        background: $surface;
        scrollbar-size-vertical: 1;
        scrollbar-background: $surface;
        &:focus { border: none; background-tint: transparent; }
        & > .option-list--option-disabled { color: $quiet; }
    }
    """

    @dataclass
    class Chosen(Message):
        """Open this conversation."""

        id: str

    @dataclass
    class Asked(Message):
        """The user wants `what` done: `rename`, `pin`, `delete` with `id`, or `undo`."""

        id: str | None
        what: str

    def __init__(
        self,
        *,
        id: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(id=id, markup=False)
        self._clock = clock
        self._shown: tuple[tuple[str, str, Content], ...] = ()
        self._answering: set[str] = set()
        self._current: str | None = None
        self._conversations: Sequence[Conversation] = ()

    def show(
        self,
        conversations: Sequence[Conversation],
        *,
        current: str | None,
        running: set[str] | None = None,
    ) -> None:
        """These conversations, in this order; `running` ones carry a sign."""
        moved = current not in {None, self._current}
        self._conversations, self._current = conversations, current
        self._answering = running or set()
        now = self._clock()
        rows = tuple((day_of(c, now), c.id, self._title(c)) for c in conversations)
        if not moved and rows == self._shown:
            return
        cursor = current if moved else self._near(self.highlighted_id, [row[1] for row in rows])
        self._shown = rows
        self.clear_options()
        day = ""
        for heading, identity, title in rows:
            if heading != day:
                if day:
                    self.add_option(Option("", disabled=True))
                self.add_option(Option(Content(say(f"tui.day_{heading}")), disabled=True))
                day = heading
            self.add_option(Option(title, id=identity))
        self.highlight(cursor or current)

    def _near(self, identity: str | None, identities: Sequence[str]) -> str | None:
        """The conversation itself, or, where it has gone, the one that took its place."""
        before = [row[1] for row in self._shown]
        if identity in identities or identity not in before or not identities:
            return identity
        return identities[min(before.index(identity), len(identities) - 1)]

    def _title(self, conversation: Conversation) -> Content:
        sign = ("● ", "$accent") if conversation.id in self._answering else ("", "")
        title = clean_line(conversation.title, 60) or say("tui.untitled")
        current = conversation.id == self._current
        return Content.assemble(sign, (title, "bold $primary" if current else ""))

    @property
    def highlighted_id(self) -> str | None:
        """The conversation under the cursor."""
        option = self.highlighted_option
        return option.id if option else None

    def highlight(self, conversation_id: str | None) -> None:
        """Put the cursor on a conversation, if it is in the list."""
        if conversation_id and any(c.id == conversation_id for c in self._conversations):
            self.highlighted = self.get_option_index(conversation_id)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click opens."""
        event.stop()
        if event.option.id:
            self.post_message(self.Chosen(event.option.id))

    def action_ask(self, what: str) -> None:
        """Pass a wish on to the screen."""
        self.post_message(self.Asked(self.highlighted_id, what))
