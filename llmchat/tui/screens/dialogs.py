"""Small questions: yes or no, and one line of words."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from llmchat.text import say
from llmchat.text.cleaning import clean

OTHER_LINES = 8
"""Lines of a question's box that are not its subject: frame, question and keys."""

_FRAME = """
    align: center middle;
    & > Vertical {
        width: 64;
        max-width: 94%;
        height: auto;
        max-height: 90%;
        padding: 1 2;
        background: $panel;
        border: round $border;
        & > Static { width: 1fr; margin: 0 0 1 0; }
        & > VerticalScroll { height: auto; scrollbar-size-vertical: 1; }
        & > .dialog--keys { color: $quiet; padding: 1 0 0 0; margin: 0; }
    }
"""


class ConfirmScreen(ModalScreen[bool]):
    """A question with the thing it is about; `y` or Enter is yes, anything else is no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", show=False),
        Binding("n,escape,q", "answer(False)", show=False),
    ]
    DEFAULT_CSS = f"ConfirmScreen {{ {_FRAME} }}"

    def __init__(self, question: str, subject: str = "") -> None:
        super().__init__()
        self._question, self._subject = question, subject

    def compose(self) -> ComposeResult:
        """The question, its subject whole (the arrows scroll a long one), and the keys."""
        with Vertical():
            yield Static(Content.styled(self._question, "bold"))
            if self._subject:
                with VerticalScroll():
                    yield Static(Content(clean(self._subject)))
            yield Static(Content(say("tui.confirm_keys")), classes="dialog--keys")

    def on_resize(self, event: events.Resize) -> None:
        """The question and the keys stay in sight, however long the subject is."""
        for subject in self.query(VerticalScroll):
            subject.styles.max_height = max(2, event.size.height * 9 // 10 - OTHER_LINES)

    def action_answer(self, yes: bool) -> None:
        """Answer."""
        self.dismiss(yes)


class LineScreen(ModalScreen[str | None]):
    """One line of words; Enter takes them, Esc leaves things as they are."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", show=False)]
    DEFAULT_CSS = f"LineScreen {{ {_FRAME} }}"

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self._question, self._value = question, value

    def compose(self) -> ComposeResult:
        """The question and a line to write in."""
        with Vertical():
            yield Static(Content.styled(self._question, "bold"))
            yield Input(clean(self._value), compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the words."""
        event.stop()
        self.dismiss(event.value)

    def action_cancel(self) -> None:
        """Leave things as they are."""
        self.dismiss(None)
