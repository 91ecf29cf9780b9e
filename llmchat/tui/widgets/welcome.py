"""What an empty chat shows: which model is ready, or how to get one."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import VerticalGroup
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import OptionList, Static

from llmchat.text import say
from llmchat.tui.actions import ACTIONS, keys_of
from llmchat.tui.key_names import key_label
from llmchat.tui.widgets.model_list import ModelEntry, ModelList

TIPS = ("chat.model", "chat.settings", "chat.palette", "chat.help")


class Welcome(VerticalGroup):
    """A greeting over the composer; with no model, a list to take one from."""

    DEFAULT_CSS = """
    Welcome {
        width: 1fr;
        height: auto;
        max-height: 100%;
        overflow-y: auto;
        padding: 1 3;
        & > .welcome--name { color: $primary; text-style: bold; margin: 0 0 1 0; }
        & > .welcome--words { margin: 0 0 1 0; max-width: 72; }
        & > ModelList { display: none; max-height: 10; }
        & > .welcome--tips { color: $quiet; }
        &.-choosing > ModelList { display: block; }
    }
    """

    @dataclass
    class Chosen(Message):
        """The user wants this model: to be pulled, or used."""

        entry: ModelEntry

    model: reactive[str | None] = reactive(None)
    """The model that would answer, "" = none on this disk, None = not looked yet."""

    def __init__(self, keymap: dict[str, str] | None = None) -> None:
        super().__init__()
        self._keymap = keymap or {}

    def compose(self) -> ComposeResult:
        """Name, words, list, tips."""
        yield Static("llmchat", classes="welcome--name")
        yield Static("", classes="welcome--words", markup=False)
        yield ModelList()
        yield Static(self._tips(), classes="welcome--tips")

    def _tips(self) -> Content:
        by_id = {action.id: action for action in ACTIONS}
        lines = []
        for identity in TIPS:
            action = by_id[identity]
            key = key_label(keys_of(action, self._keymap).split(",")[0].strip())
            lines.append(Content.assemble((f"{key:<8}", "$text-accent"), action.label))
        return Content("\n").join(lines)

    def watch_model(self) -> None:
        """Say who would answer."""
        if self.is_mounted:
            self._tell()

    def _tell(self) -> None:
        words = ""
        if self.model:
            words = say("tui.welcome_ready", model=self.model)
        elif self.offered is not None and not self.offered.pull:
            words = say("tui.welcome_choose")
        elif self.model == "":
            words = say("tui.welcome_none")
        self.query_one(".welcome--words", Static).update(Content(words))

    def on_mount(self) -> None:
        """Draw what is known."""
        self.watch_model()

    def offer(self, entries: Sequence[ModelEntry]) -> None:
        """Models to choose from; none hides the list."""
        self.set_class(bool(entries), "-choosing")
        self.query_one(ModelList).show(entries)
        self._tell()

    def focus_list(self) -> None:
        """Put the focus on the list, if there is one."""
        if self.offered is not None:
            self.query_one(ModelList).focus()

    @property
    def offered(self) -> ModelEntry | None:
        """What Enter would take."""
        return self.query_one(ModelList).chosen if self.has_class("-choosing") else None

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click."""
        event.stop()
        if (entry := self.query_one(ModelList).entry(event.option.id)) is not None:
            self.post_message(self.Chosen(entry))
