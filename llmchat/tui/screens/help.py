"""F1: every key, from the one table of actions."""

import textwrap
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from llmchat.text import say
from llmchat.tui.actions import ACTIONS, Action, keys_of
from llmchat.tui.key_names import keys_label

WIDTH, FRAME, KEYS = 88, 8, 30
"""Columns of the box, of its frame with the scroll bar, and of the keys."""
SCOPES = ("composer", "chat", "message", "sidebar")


class HelpScreen(ModalScreen[None]):
    """Keys and sentences, by where they work."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q,enter", "dismiss", show=False)]

    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        & > Vertical {
            width: 88;
            max-width: 98%;
            height: auto;
            max-height: 96%;
            padding: 1 2;
            background: $panel;
            border: round $border;
            & > VerticalScroll { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
        }
    }
    """

    def __init__(self, keymap: dict[str, str] | None = None) -> None:
        super().__init__()
        self._keymap = keymap or {}

    def compose(self) -> ComposeResult:
        """One text, so that it scrolls as one."""
        with Vertical(), VerticalScroll():
            yield Static("", markup=False)

    def on_mount(self) -> None:
        """The arrows scroll."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self, event: events.Resize) -> None:
        """Wrap the sentences beside their keys."""
        room = min(WIDTH, event.size.width * 98 // 100) - FRAME - KEYS
        self.query_one(Static).update(self._text(max(16, room)))

    def _text(self, room: int) -> Content:
        lines: list[Content] = []
        for scope in SCOPES:
            lines.append(Content.styled(say(f"tui.help_{scope}"), "bold $text-primary"))
            lines += [self._line(action, room) for action in ACTIONS if action.scope == scope]
            lines.append(Content(""))
        return Content("\n").join(lines[:-1])

    def _line(self, action: Action, room: int) -> Content:
        label = keys_label(keys_of(action, self._keymap))
        sentence = textwrap.fill(action.help, room).replace("\n", "\n" + " " * KEYS)
        return Content.assemble((f"{label:<{KEYS}}", "$text-accent"), (sentence, ""))
