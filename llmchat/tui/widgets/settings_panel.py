"""F4: what this conversation sets for itself, and where every other value comes from.

A line left empty takes the value of the layer below, which shows in its place. Posts `Changed`
with the whole settings; refuses to save them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static, TextArea

from llmchat.text import say
from llmchat.text.cleaning import clean, clean_line
from llmchat.tui.pruning import Fading
from llmchat.tui.setting_fields import FIELDS, Field, as_text, parse, read, write
from llmchat.values import ChatSettings


class Prompt(Fading, TextArea):
    """The system prompt; told when it loses the focus, not at every key."""

    SCOPE = "prompt"


class Line(Fading, Input):
    """One setting; told at Enter, and when it loses the focus."""

    SCOPE = "setting"


class SettingsPanel(VerticalScroll, can_focus=False):
    """The settings of one conversation."""

    DEFAULT_CSS = """
    SettingsPanel {
        width: 46;
        height: 1fr;
        background: $surface;
        padding: 1 2 0 2;
        scrollbar-size-vertical: 1;
        scrollbar-background: $surface;
        & > .panel--title { text-style: bold; color: $text-primary; margin: 0 0 1 0; }
        & > .panel--note { color: $quiet; margin: 1 0; }
        & > .panel--error { color: $text-error; display: none; margin: 1 0 0 0; }
        &.-wrong > .panel--error { display: block; }
        & > Prompt {
            height: auto;
            min-height: 3;
            max-height: 8;
            border: none;
            padding: 0 1;
            background: $panel;
            margin: 0 0 1 0;
            &:focus { border: none; background: $block-cursor-background; }
            & .text-area--placeholder { color: $quiet; }
            & .text-area--cursor-line { background: transparent; }
        }
        & > Horizontal {
            height: 1;
            & > .panel--label { width: 16; }
            & > Input {
                width: 1fr;
                padding: 0 1;
                background: $panel;
                &:focus { background: $block-cursor-background; }
                &>.input--placeholder { color: $quiet; }
            }
            & > .panel--source { width: 13; padding: 0 0 0 1; color: $quiet; }
            &.-own > .panel--source { color: $text-primary; }
        }
    }
    """

    @dataclass
    class Changed(Message):
        """A conversation should have these settings; `reload`: its model is loaded again."""

        settings: ChatSettings
        reload: bool
        conversation: str | None

    def __init__(self) -> None:
        super().__init__()
        self._own = ChatSettings()
        self._conversation: str | None = None
        self._filled = False

    def compose(self) -> ComposeResult:
        """The system prompt, then a line per setting."""
        yield Static(Content(say("tui.settings_title")), classes="panel--title")
        yield Static(Content(say("tui.set_system")))
        yield Prompt(placeholder=say("tui.set_system_empty"), tab_behavior="focus", soft_wrap=True)
        for field in FIELDS:
            with Horizontal(id=f"row-{field.id}"):
                yield Static(Content(field.label), classes="panel--label")
                yield Line(id=field.id, compact=True)
                yield Static("", classes="panel--source", markup=False)
        yield Static("", classes="panel--error", markup=False)
        yield Static(Content(say("tui.settings_note")), classes="panel--note")

    def show(
        self,
        conversation: str | None,
        own: ChatSettings,
        in_force: ChatSettings,
        sources: Mapping[str, str],
    ) -> None:
        """What a conversation sets, what is in force, and which layer set it (dotted keys).

        What is being typed for another one is saved with that.
        """
        if conversation != self._conversation and (edited := self.edited()) is not None:
            self._post(edited, reload=False)
            self._filled = False
        self._own, self._conversation = own, conversation
        prompt = self.query_one(Prompt)
        if not (prompt.has_focus and self._filled):
            prompt.text = clean(own.system or "")
            inherited = clean_line(in_force.system or "", 120)
            prompt.placeholder = inherited or say("tui.set_system_empty")
        for field in FIELDS:
            self._show_field(field, in_force, sources.get(field.key, ""))
        self._filled = True

    def _show_field(self, field: Field, in_force: ChatSettings, source: str) -> None:
        row = self.query_one(f"#row-{field.id}", Horizontal)
        line = row.query_one(Input)
        own = read(self._own, field.key)
        if not (line.has_focus and self._filled):  # keys may be on their way to it
            line.value = as_text(own)
        inherited = as_text(read(in_force, field.key)) if own is None else ""
        line.placeholder = inherited or say("tui.set_unset")
        row.set_class(own is not None, "-own")
        told = say("tui.source_conversation") if own is not None else clean_line(source, 12)
        row.query_one(".panel--source", Static).update(Content(told))

    def on_mount(self) -> None:
        """Begin with the system prompt."""
        self.query_one(Prompt).focus()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._take(event.input)

    @on(Input.Blurred)
    def _left(self, event: Input.Blurred) -> None:
        event.stop()
        self._take(event.input)

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """Leaving the system prompt saves it."""
        if isinstance(event.widget, Prompt):
            self._post(write(self._own, "system", event.widget.text.strip() or None), reload=False)

    def edited(self) -> ChatSettings | None:
        """The settings with what is being typed right now, if it would do; None before `show`."""
        if not self._filled:
            return None
        focused = self.screen.focused
        if isinstance(focused, Prompt):
            return write(self._own, "system", focused.text.strip() or None)
        for field in FIELDS:
            if isinstance(focused, Input) and focused.id == field.id:
                try:
                    return write(self._own, field.key, parse(field, focused.value))
                except ValueError:
                    break
        return self._own

    def _take(self, line: Input) -> None:
        field = next(field for field in FIELDS if field.id == line.id)
        try:
            value = parse(field, line.value)
        except ValueError as error:
            self._complain(f"{field.label}: {error}")
            return
        self._complain("")
        self._post(write(self._own, field.key, value), reload=field.reload)

    def _complain(self, sentence: str) -> None:
        self.query_one(".panel--error", Static).update(Content(sentence))
        self.set_class(bool(sentence), "-wrong")

    def _post(self, settings: ChatSettings, *, reload: bool) -> None:
        if settings != self._own:
            self._own = settings
            self.post_message(self.Changed(settings, reload, self._conversation))
