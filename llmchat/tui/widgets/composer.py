"""Where the user writes: Enter sends, pasting never does, history is an arrow away.

Owns the words until they are sent and what was sent before. Refuses to keep drafts: it reports
changes, and the screen saves them.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from textual import events
from textual.message import Message
from textual.widgets import TextArea

from llmchat.text import say
from llmchat.text.cleaning import clean
from llmchat.tui.actions import ACTIONS, keys_of

LONGEST_PATH = 4096

KEYS = tuple(action for action in ACTIONS if action.scope == "composer")


def pasted_path(text: str) -> str | None:
    """The path of a file that is there, as terminals paste a dropped one; None if it is none."""
    words = text.strip()
    if not words or len(words) > LONGEST_PATH or "\n" in words:
        return None
    if words.startswith("file://"):
        words = unquote(words.removeprefix("file://"))
    elif words[0] in "'\"" and words[-1] == words[0] and len(words) > 2:
        words = words[1:-1]
    else:
        words = words.replace("\\ ", " ")
    path = os.path.expanduser(words)
    return path if os.path.isabs(path) and os.path.isfile(path) else None


class Composer(TextArea):
    """A text area that grows with its text, to a limit that the stylesheet sets."""

    SCOPE = "composer"

    DEFAULT_CSS = """
    Composer {
        height: auto;
        min-height: 3;
        max-height: 12;
        border: round $border-blurred;
        background: $background;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        border-title-color: $text-accent;
        &:focus { border: round $border; }
        &.-editing { border: round $accent; }
        & .text-area--placeholder { color: $quiet; }
        & .text-area--cursor-line { background: transparent; }
    }
    """

    @dataclass
    class Sent(Message):
        """The user sent these words."""

        composer: "Composer"
        text: str

        @property
        def control(self) -> "Composer":
            """The composer."""
            return self.composer

    @dataclass
    class EnteredNothing(Message):
        """Enter with no words: whatever is offered above is meant."""

        composer: "Composer"

    @dataclass
    class LeftUpwards(Message):
        """Up was pressed on the first line, and there is no history: the user wants to read."""

        composer: "Composer"

    @dataclass
    class ErasedNothing(Message):
        """Backspace where there is nothing: what is attached is meant."""

        composer: "Composer"

    @dataclass
    class Mentioned(Message):
        """`@` was typed where a word begins: a file is to be chosen."""

        composer: "Composer"

    @dataclass
    class PastedPath(Message):
        """The path of a file was pasted, and nothing else."""

        path: str

    @dataclass
    class Paged(Message):
        """The words above should go on by `by` pages."""

        by: int

    def __init__(self, *, id: str | None = None, keymap: dict[str, str] | None = None) -> None:
        super().__init__(
            id=id,
            soft_wrap=True,
            tab_behavior="focus",
            show_line_numbers=False,
            highlight_cursor_line=False,
            placeholder=say("tui.composer_placeholder"),
            compact=False,
        )
        self.sent: list[str] = []
        self.has_files = False
        """Whether something is attached: then no words are needed."""
        # Not bindings: those run before the keys that wait in this widget's queue, so that an Enter
        # typed fast would send the message without its last words.
        deeds: dict[str, Callable[[], None]] = {
            "send": self.action_send,
            "newline": self.action_newline,
            "page(-1)": partial(self.action_page, -1),
            "page(1)": partial(self.action_page, 1),
        }
        self._deeds = {
            key: deeds[action.name] for action in KEYS for key in keys_of(action, keymap).split(",")
        }
        self._place: int | None = None
        self._draft = ""

    async def _on_key(self, event: events.Key) -> None:
        if (deed := self._deeds.get(event.key)) is not None:
            event.stop()
            event.prevent_default()
            deed()
        elif event.key == "backspace" and not self.text:
            event.stop()
            event.prevent_default()
            self.post_message(self.ErasedNothing(self))
        elif event.character == "@" and self._at_word:
            self.post_message(self.Mentioned(self))

    @property
    def _at_word(self) -> bool:
        """Whether a word would begin at the cursor."""
        row, column = self.cursor_location
        before = self.document.get_line(row)[:column]
        return not before or before[-1].isspace()

    def action_send(self) -> None:
        """Give the words away, unless there are none."""
        text = self.text
        if not text.strip() and not self.has_files:
            self.post_message(self.EnteredNothing(self))
            return
        self.remember(text)
        self.clear()
        self.post_message(self.Sent(self, text))

    def remember(self, text: str) -> None:
        """Add what was sent to the history."""
        if text.strip() and (not self.sent or self.sent[-1] != text):
            self.sent.append(text)
        self._place = None

    def action_newline(self) -> None:
        """Break the line."""
        self.insert("\n")
        self.scroll_cursor_visible()

    def action_page(self, by: int) -> None:
        """A page of the words above: what is written here rarely fills one."""
        self.post_message(self.Paged(by))

    def replace_text(self, text: str) -> None:
        """Other words, the cursor behind them."""
        self.text = text
        self.move_cursor(self.document.end)

    async def _on_paste(self, event: events.Paste) -> None:
        # Textual's own inserts the text as it came; here it is cleaned first, and never sends.
        event.prevent_default()
        event.stop()
        text = clean(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        if (path := pasted_path(text)) is not None:
            self.post_message(self.PastedPath(path))
            return
        result = self.replace(text, *self.selection, maintain_selection_offset=False)
        self.move_cursor(result.end_location)

    def action_cursor_up(self, select: bool = False) -> None:
        """Up a line; from the first line to what was sent before."""
        if select or not self.cursor_at_first_line or self.wrapped_above:
            super().action_cursor_up(select)
        elif not self._recall(-1) and not self.text:
            self.post_message(self.LeftUpwards(self))

    def action_cursor_down(self, select: bool = False) -> None:
        """Down a line; from the last line forward in the history."""
        if select or not self.cursor_at_last_line or self._place is None:
            super().action_cursor_down(select)
        else:
            self._recall(1)

    @property
    def wrapped_above(self) -> bool:
        """Whether the cursor's line is wrapped and the cursor is not on its first part."""
        return self.get_cursor_up_location() != (0, 0) and self.cursor_location[0] == 0

    def _recall(self, by: int) -> bool:
        if not self.sent:
            return False
        place = len(self.sent) if self._place is None else self._place
        if place == len(self.sent):
            self._draft = self.text
        place += by
        if place < 0:
            return True
        if place >= len(self.sent):
            self._place = None
            self.replace_text(self._draft)
        else:
            self._place = place
            self.replace_text(self.sent[place])
        return True
