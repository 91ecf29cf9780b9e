"""A box at the top of the screen with one line to type in and a list below that follows it.

Owns the frame, moving in the list while the words stay in the line, and keys typed before the line
has the focus: they are words for it. What is listed, and what Enter takes, is each screen's.
"""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Input, OptionList

MARGIN = 2
"""Lines above the box."""
OTHER_LINES = 9
"""Lines of the box that are not the list: frame, the line, a note and the keys."""


class SearchLineScreen(ModalScreen[ScreenResultType]):
    """A dialog with one line to type in, that loses nothing to somebody who types fast."""

    ROWS: ClassVar[int] = 14
    """Lines of the list where there is room for them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", show=False),
        Binding("up", "move('cursor_up')", show=False, priority=True),
        Binding("down", "move('cursor_down')", show=False, priority=True),
        Binding("pageup", "move('page_up')", show=False, priority=True),
        Binding("pagedown", "move('page_down')", show=False, priority=True),
    ]

    DEFAULT_CSS = """
    SearchLineScreen {
        align: center top;
        & > Vertical {
            width: 84;
            max-width: 96%;
            height: auto;
            max-height: 90%;
            margin: 2 0 0 0;
            padding: 1 2;
            background: $panel;
            border: round $border;
            & > Input { margin: 0 0 1 0; background: $surface; }
            & > Static { color: $quiet; }
            & > .-keys { margin: 1 0 0 0; }
        }
    }
    """

    def on_mount(self) -> None:
        """Ready to type."""
        self.query_one(Input).focus()

    def on_resize(self, event: events.Resize) -> None:
        """The cursor and the keys stay in sight, however long the list is."""
        room = (event.size.height - MARGIN) * 9 // 10 - OTHER_LINES
        self.query_one(OptionList).styles.max_height = max(2, min(self.ROWS, room))

    def on_key(self, event: events.Key) -> None:
        """What comes to the screen itself comes from before the line was there."""
        line = self.query_one(Input)
        if line.has_focus:
            return
        if event.is_printable and event.character:
            event.stop()
            line.insert_text_at_cursor(event.character)
        elif event.key == "enter":
            event.stop()
            line.post_message(Input.Submitted(line, line.value))

    def action_move(self, how: str) -> None:
        """The cursor in the list, while the words stay in the line."""
        rows = self.query_one(OptionList)
        if rows.scrollable_content_region:  # else Textual 8.2.8 knows no lines yet to move by
            getattr(rows, f"action_{how}")()

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
