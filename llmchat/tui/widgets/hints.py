"""The line of keys: what can be done from where the focus is."""

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from llmchat.text import say
from llmchat.tui.actions import ACTIONS, Action, keys_of
from llmchat.tui.key_names import key_label

CHAT, NOWHERE = "chat", ""
"""Scopes: nothing but what works anywhere; a dialog lies over the chat, and says its own keys."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A key of a widget that is not ours to bind, or what an action means there."""

    word: str
    """Its label is `tui.hint_WORD`."""
    key: str = ""
    """As Textual names it."""
    action: str = ""
    """Or the id of the action whose key it is."""


ELSEWHERE: dict[str, tuple[Fixed, ...]] = {
    "prompt": (
        Fixed("newline", key="enter"),
        Fixed("next", key="tab"),
        Fixed("close", action="chat.settings"),
        Fixed("back", action="chat.stop"),
    ),
    "setting": (
        Fixed("set", key="enter"),
        Fixed("next", key="tab"),
        Fixed("close", action="chat.settings"),
        Fixed("back", action="chat.stop"),
    ),
    "models": (Fixed("take", key="enter"), Fixed("back", action="chat.stop")),
}
"""Where the keys are Textual's, by the scope that the focused widget names."""

_BY_ID = {action.id: action for action in ACTIONS}


class Hints(Widget):
    """Keys and labels, as many as fit; the table of actions says which and in what order."""

    DEFAULT_CSS = """
    Hints { height: 1; padding: 0 1; background: $surface; color: $quiet; }
    """

    scope: reactive[str] = reactive("composer")
    """Which part of the screen has the focus."""
    without: reactive[frozenset[str]] = reactive(frozenset())
    """Ids of actions that would be refused there."""

    def __init__(self, keymap: dict[str, str] | None = None) -> None:
        super().__init__()
        self._keymap = keymap or {}

    def shown(self) -> list[tuple[str, str]]:
        """Keys with what they do from here, the nearest first; each key once."""
        if self.scope == NOWHERE:
            return []
        found: dict[str, str] = {}
        for fixed in ELSEWHERE.get(self.scope, ()):
            key = self._key(_BY_ID[fixed.action]) if fixed.action else key_label(fixed.key)
            found.setdefault(key, say(f"tui.hint_{fixed.word}"))
        for scope in dict.fromkeys((self.scope, CHAT)):
            for action in ACTIONS:
                if action.hint and action.scope == scope and action.id not in self.without:
                    found.setdefault(self._key(action), action.label)
        return list(found.items())

    def _key(self, action: Action) -> str:
        return key_label(keys_of(action, self._keymap).split(",")[0].strip())

    def render(self) -> Content:
        """One line."""
        line = Content("")
        width = self.content_size.width or self.size.width
        for key, label in self.shown():
            item = Content.assemble((key, "$foreground"), (f" {label}", ""))
            longer = line + Content("  ") + item if line else item
            if longer.cell_length > width:
                break
            line = longer
        return line
