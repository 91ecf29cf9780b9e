"""What a model thought before it answered: open while it thinks, folded once it answers."""

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalGroup
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from llmchat.text import say
from llmchat.text.cleaning import StreamCleaner


class Thinking(VerticalGroup):
    """A line that says how much was thought, and the words below it when open."""

    DEFAULT_CSS = """
    Thinking {
        color: $reasoning;
        margin: 0 0 1 0;
        & > .thinking--title { width: auto; color: $quiet; pointer: pointer; }
        & > .thinking--words { padding: 0 0 0 2; display: none; border-left: outer $rule; }
        &.-open > .thinking--words { display: block; }
    }
    """

    open: reactive[bool] = reactive(False, toggle_class="-open")
    """Whether the words show."""

    def __init__(self, text: str = "", *, running: bool = False) -> None:
        super().__init__()
        self._cleaner = StreamCleaner()
        self._text = self._cleaner.feed(text)
        self._live = running
        self.set_reactive(Thinking.open, running)
        self.set_class(running, "-open")

    def compose(self) -> ComposeResult:
        """The title and the words."""
        yield Static(self._title(), classes="thinking--title")
        yield Static(Content(self._text), classes="thinking--words", markup=False)

    def _title(self) -> Content:
        sign = "▾" if self.open else "▸"
        key = "tui.thinking_now" if self._live else "tui.thinking_done"
        return Content(f"{sign} {say(key, words=len(self._text.split()))}")

    def watch_open(self) -> None:
        """Turn the sign."""
        if self.is_mounted:
            self.query_one(".thinking--title", Static).update(self._title())

    def feed(self, piece: str) -> None:
        """More thought, raw."""
        self._text += self._cleaner.feed(piece)
        if self.is_mounted:
            self.query_one(".thinking--words", Static).update(Content(self._text))
            self.query_one(".thinking--title", Static).update(self._title())

    def settle(self) -> None:
        """The thinking is over: fold, unless it is all that was written."""
        if self._live:
            self._live = False
            self.open = False
            self.watch_open()

    def on_click(self, event: events.Click) -> None:
        """Fold or open, by the title."""
        if isinstance(event.widget, Static) and event.widget.has_class("thinking--title"):
            event.stop()
            self.open = not self.open
