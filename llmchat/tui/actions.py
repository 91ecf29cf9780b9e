"""The one table of what a user can do: id, keys, scope, words.

Bindings, the hints line, the command palette, the help screen and remapping read it, so that they
cannot disagree. Refuses to do anything: an action's name is a method `action_NAME` of the screen or
widget that its scope names.
"""

from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding, BindingType

from llmchat.text import say

Scope = Literal["chat", "composer", "message", "sidebar"]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a user can do. Words are `tui.action_ID` (label) and `tui.action_ID_help`."""

    id: str
    """`scope.name`: what a user remaps."""
    keys: str
    """Textual key names, separated by commas; the first is shown."""
    name: str
    """The method `action_NAME`, with its argument if it takes one."""
    hint: bool = False
    """Shown in the line of hints."""
    priority: bool = False
    """Handled before the focused widget sees the key."""
    palette: bool = True
    """Offered in the command palette."""

    @property
    def scope(self) -> Scope:
        """Where its keys work."""
        scope: Scope = self.id.split(".")[0]  # type: ignore[assignment]
        return scope

    @property
    def label(self) -> str:
        """Two or three words."""
        return say(f"tui.action_{self.id.replace('.', '_')}")

    @property
    def help(self) -> str:
        """One sentence."""
        return say(f"tui.action_{self.id.replace('.', '_')}_help")


ACTIONS: tuple[Action, ...] = (
    Action("composer.send", "enter", "send", hint=True, palette=False),
    Action(
        "composer.newline",
        "ctrl+j,alt+enter,shift+enter",
        "newline",
        hint=True,
        palette=False,
    ),
    Action("composer.page_up", "pageup", "page(-1)", palette=False),
    Action("composer.page_down", "pagedown", "page(1)", palette=False),
    Action("chat.stop", "escape", "stop"),
    Action("chat.new", "ctrl+n", "new_chat", priority=True),
    Action("chat.model", "ctrl+o", "switch_model", hint=True, priority=True),
    Action("chat.search", "ctrl+k", "search", priority=True),
    Action("chat.attach", "f6", "attach", priority=True),
    Action("chat.profile", "f7", "profile", priority=True),
    Action("chat.compact", "f8", "compact", priority=True),
    Action("chat.palette", "ctrl+p", "palette", hint=True, priority=True, palette=False),
    Action("chat.help", "f1", "help", hint=True, priority=True),
    Action("chat.settings", "f4", "settings", hint=True, priority=True),
    Action("chat.sidebar", "ctrl+b,f5", "sidebar", priority=True),
    Action("chat.thinking", "ctrl+t", "thinking", priority=True),
    Action("chat.theme", "f9", "theme", priority=True),
    Action("chat.quit", "ctrl+q", "quit_app", priority=True),
    Action("message.previous", "up,k", "step(-1)", palette=False),
    Action("message.next", "down,j", "step(1)", palette=False),
    Action("message.edit", "e", "ask('edit')", hint=True, palette=False),
    Action("message.regenerate", "r", "ask('regenerate')", hint=True, palette=False),
    Action("message.alternatives", "R", "ask('alternatives')", palette=False),
    Action("message.continue", "c", "ask('continue')", hint=True, palette=False),
    Action("message.fork", "f", "ask('fork')", hint=True, palette=False),
    Action("message.sibling_before", "left_square_bracket", "ask('before')", palette=False),
    Action("message.sibling_after", "right_square_bracket", "ask('after')", palette=False),
    Action("message.copy", "y", "ask('copy')", hint=True, palette=False),
    Action("message.copy_code", "Y", "ask('copy_code')", palette=False),
    Action("message.delete", "d", "ask('delete')", hint=True, palette=False),
    Action("message.undo", "u", "ask('undo')", palette=False),
    Action("message.fold", "space", "fold", palette=False),
    Action("sidebar.open", "enter", "select", hint=True, palette=False),
    Action("sidebar.rename", "r", "ask('rename')", hint=True, palette=False),
    Action("sidebar.pin", "p", "ask('pin')", hint=True, palette=False),
    Action("sidebar.delete", "d", "ask('delete')", hint=True, palette=False),
    Action("sidebar.undo", "u", "ask('undo')", hint=True, palette=False),
)


def bindings(scope: Scope) -> list[BindingType]:
    """What a screen or widget of this scope binds; ids are what `App.set_keymap` remaps."""
    return [
        Binding(
            action.keys,
            action.name,
            action.label,
            show=False,
            priority=action.priority,
            id=action.id,
        )
        for action in ACTIONS
        if action.scope == scope
    ]


def keys_of(action: Action, keymap: dict[str, str] | None = None) -> str:
    """The keys that are in force, the user's own before ours."""
    return (keymap or {}).get(action.id, action.keys)
