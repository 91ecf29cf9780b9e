"""Ctrl+O: which model answers in this conversation."""

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static

from llmchat.text import say
from llmchat.tui.screens.typed_ahead import SearchLineScreen
from llmchat.tui.widgets.model_list import ModelEntry, ModelList

Look = Callable[[], Awaitable[Sequence[ModelEntry]]]


class ModelSwitcher(SearchLineScreen[ModelEntry | None]):
    """Type to search, Enter chooses, Esc changes nothing. The list is looked up while it shows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "search_hub", show=False, priority=True)
    ]

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look

    def compose(self) -> ComposeResult:
        """A line to search in, the list, the keys."""
        with Vertical():
            yield Input(placeholder=say("tui.switcher_placeholder"), compact=True)
            yield ModelList()
            yield Static("", classes="-empty", markup=False)
            yield Static(Content(say("tui.switcher_keys")), classes="-keys")

    def on_mount(self) -> None:
        """Look now, and again while it is open: models load and leave."""
        self._show()
        self.set_interval(2, self._show)

    @work(group="look", exclusive=True)
    async def _show(self) -> None:
        entries = await self._look()
        self.query_one(ModelList).show(entries)
        self._tell_empty()

    def _tell_empty(self) -> None:
        none = self.query_one(ModelList).option_count == 0
        self.query_one(".-empty", Static).update(Content(say("tui.switcher_none") if none else ""))

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        event.stop()
        self.query_one(ModelList).filter(event.value)
        self._tell_empty()

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self.query_one(ModelList).entry(event.option.id))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        # Comes behind the last change of the words, as a binding would not.
        event.stop()
        if (entry := self.query_one(ModelList).chosen) is not None:
            self.dismiss(entry)

    def action_search_hub(self) -> None:
        """Look for the words on the hub; behind the keys that were typed before this one."""
        self.call_later(self.query_one(Input).call_later, self._leave_for_hub)

    def _leave_for_hub(self) -> None:
        self.dismiss(ModelEntry(name=self.query_one(Input).value.strip(), search=True))
