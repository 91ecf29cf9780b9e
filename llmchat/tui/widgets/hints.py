"""The line of keys: what can be done from where the focus is."""

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from llmchat.tui.actions import ACTIONS, Action, key_label, keys_of


class Hints(Widget):
    """Keys and labels, as many as fit; the table of actions says which and in what order."""

    DEFAULT_CSS = """
    Hints { height: 1; padding: 0 1; background: $surface; color: $quiet; }
    """

    scope: reactive[str] = reactive("composer")
    """Which part of the screen has the focus."""

    def __init__(self, keymap: dict[str, str] | None = None) -> None:
        super().__init__()
        self._keymap = keymap or {}

    def _shown(self) -> list[Action]:
        own = [action for action in ACTIONS if action.hint and action.scope == self.scope]
        return own + [action for action in ACTIONS if action.hint and action.scope == "chat"]

    def render(self) -> Content:
        """One line."""
        line = Content("")
        width = self.content_size.width or self.size.width
        for action in self._shown():
            key = key_label(keys_of(action, self._keymap).split(",")[0])
            item = Content.assemble((key, "$foreground"), (f" {action.label}", ""))
            longer = line + Content("  ") + item if line else item
            if longer.cell_length > width:
                break
            line = longer
        return line
