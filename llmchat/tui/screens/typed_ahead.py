"""Keys typed before a dialog's line has the focus: they are words for that line."""

from textual import events
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Input


class SearchLineScreen(ModalScreen[ScreenResultType]):
    """A dialog with one line to type in, that loses nothing to somebody who types fast."""

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
