"""Small questions: yes or no, one of a few, and one line of words."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from llmchat.text import say
from llmchat.text.cleaning import clean, clean_line

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


class ChoiceScreen(ModalScreen[int | None]):
    """One of a few: the arrows and Enter choose, Esc leaves things as they are."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", show=False)]
    DEFAULT_CSS = f"""
    ChoiceScreen {{ {_FRAME}
        & OptionList {{
            height: auto;
            max-height: 12;
            border: none;
            padding: 0;
            background: $panel;
            &:focus {{ border: none; }}
        }}
    }}
    """

    def __init__(
        self, question: str, choices: Sequence[tuple[str, str]], *, chosen: int = 0
    ) -> None:
        """Each choice is a label and a few words about it; `chosen`: where the cursor begins."""
        super().__init__()
        self._question, self._choices, self._chosen = question, choices, chosen

    def compose(self) -> ComposeResult:
        """The question, the choices, the keys."""
        with Vertical():
            yield Static(Content(clean(self._question)))
            yield OptionList(*(Option(self._line(*choice)) for choice in self._choices))
            yield Static(Content(say("tui.choice_keys")), classes="dialog--keys")

    def _line(self, label: str, about: str) -> Content:
        words = Content(clean_line(label, 60))
        return Content.assemble(words, (f"  {clean_line(about, 80)}", "$quiet")) if about else words

    def on_mount(self) -> None:
        """Begin at the choice that holds."""
        choices = self.query_one(OptionList)
        choices.focus()
        choices.highlighted = self._chosen

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take it."""
        event.stop()
        self.dismiss(event.option_index)

    def action_cancel(self) -> None:
        """Leave things as they are."""
        self.dismiss(None)


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
