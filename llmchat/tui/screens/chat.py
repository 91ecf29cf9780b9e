"""The chat: conversations on the left, the words in the middle, the composer below.

Owns composition, how it begins, what other processes wrote, and the focus. The rest is in the parts
that it is put together from; `chat_base.py` names them.
"""

from typing import TYPE_CHECKING

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.actions import bindings
from llmchat.tui.screens.conversation_actions import ConversationActions
from llmchat.tui.screens.message_actions import MessageActions
from llmchat.tui.screens.slash import SlashCommands
from llmchat.tui.screens.view_actions import ViewActions
from llmchat.tui.told import told
from llmchat.tui.widgets.activity import Activity
from llmchat.tui.widgets.chips import Chips
from llmchat.tui.widgets.composer import Composer
from llmchat.tui.widgets.hints import CHAT, NOWHERE, Hints
from llmchat.tui.widgets.sidebar import Sidebar
from llmchat.tui.widgets.status_line import StatusLine
from llmchat.tui.widgets.transcript import Transcript
from llmchat.tui.widgets.welcome import Welcome

if TYPE_CHECKING:
    from llmchat.core.asking import Asking
    from llmchat.core.runtime import Runtime

POLL = 2.0
"""Seconds between looks at what other processes wrote."""


class ChatScreen(ViewActions, ConversationActions, MessageActions, SlashCommands):
    """The one screen that is always there."""

    BINDINGS = bindings("chat")
    AUTO_FOCUS = "Composer"
    # Textual declares these two in a way that mypy takes for instance variables.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (14, "-tall")]  # noqa: RUF012

    _typing = False
    """The composer had the focus when the screen became too small to show it."""

    def compose(self) -> ComposeResult:
        """Everything that the first paint needs, and nothing that needs the Runtime."""
        yield Static(Content(say("tui.too_small")), id="small")
        with Horizontal(id="body"):
            yield Sidebar(id="sidebar", clock=self.clock)
            with Vertical(id="main"):
                with Vertical(id="stage"):
                    yield Transcript(id="transcript")
                    yield Welcome(self.keymap)
                yield Activity()
                yield Chips(markup=False)
                yield Composer(id="composer", keymap=self.keymap)
        yield StatusLine()
        yield Hints(self.keymap)

    def on_mount(self) -> None:
        """Show the shell; the rest comes when the Runtime is there."""
        self.status.state = say("tui.state_starting")
        self.watch(self, "focused", self._hint)
        self.watch(self.status, "busy", self._hint)
        self._begin()

    @work(group="begin")
    @told
    async def _begin(self) -> None:
        rt = await self.runtime()
        self.status.state = say("tui.state_ready")
        if self.wanted is not None:
            await self.open(await rt.chats.find(self.wanted))
        elif self.fresh.model is None and (last := await rt.chats.last(include_cli=False)):
            await self.open(last)
        else:
            await self.open(None)
        self.set_interval(POLL, self._poll)
        self._tell_news(rt)
        self.use_theme(rt.settings.theme)
        self.send_next()

    # -- what is new ----------------------------------------------------------------------

    def _tell_news(self, rt: "Runtime") -> None:
        """What the Runtime has to say since last time, and whether something is not saved."""
        for notice in rt.news():
            self.notify(clean_line(notice), severity="warning", timeout=10, markup=False)
        self.status.unsaved = bool(rt.chats.unsaved)

    @work(group="poll", exclusive=True)
    @told
    async def _poll(self) -> None:
        rt = await self.runtime()
        is_new = await rt.chats.changed()
        self._tell_news(rt)
        if not is_new:
            return
        await self.refresh_sidebar()
        if self.conversation is not None and not self.answering:
            await self.show_what_is_there(self.conversation.id)

    # -- sending --------------------------------------------------------------------------

    @on(Composer.Sent)
    def _sent(self, event: Composer.Sent) -> None:
        event.stop()
        if self.editing is None and self.slash(event.text):
            return
        if names := self.being_read:
            self.composer.replace_text(event.text)
            self.tell(say("tui.still_reading", names=clean_line(", ".join(names), 120)))
        elif self.editing is not None:
            self.send_edit(event.text)
        else:
            self.send(event.text)

    def action_stop(self) -> None:
        """Esc: stop what runs; otherwise leave an edit; otherwise back to the composer."""
        if self.editing is not None:
            self.leave_edit()
        elif self.turn is not None and not self.turn.done:
            self.status.state = say("tui.state_stopping")
            self._cancel(self.turn)
        else:
            self.composer.focus()

    @work(group="cancel")
    @told
    async def _cancel(self, turn: "Asking") -> None:
        rt = await self.runtime()
        await rt.chats.cancel(turn.id)

    # -- focus and size -------------------------------------------------------------------

    def _hint(self) -> None:
        """The line of keys tells what the focused part can do; a dialog has a line of its own."""
        where = getattr(self.focused, "SCOPE", CHAT) if self.app.screen is self else NOWHERE
        view = self.focused if where == "message" else None
        message = getattr(view, "message", None)  # of a class that is imported with a message
        for hints in self.query(Hints):
            hints.scope = where
            hints.without = self.refused(message) if message is not None else frozenset()

    def on_screen_suspend(self) -> None:
        """A dialog lies over the chat."""
        self.query_one(Hints).scope = NOWHERE

    def on_screen_resume(self) -> None:
        """The dialog is gone."""
        self._hint()

    def on_resize(self, event: events.Resize) -> None:
        """Below 20 x 6 there is no chat to be had: say so."""
        tiny = event.size.width < 20 or event.size.height < 6
        if tiny and not self.has_class("-tiny"):
            self._typing = self.composer.has_focus
        self.set_class(tiny, "-tiny")
        self.call_after_refresh(self._keep_focus)

    def _keep_focus(self) -> None:
        # Textual takes the focus from what a small size hides; keys must go somewhere after it.
        if not self.is_current or self.has_class("-tiny"):
            return
        if self.focused is None or self._typing:
            self._typing = False
            self.composer.focus()

    def on_key(self, event: events.Key) -> None:
        """Words typed while nothing has the focus belong to the composer."""
        if self.focused is None and event.character is not None and event.is_printable:
            event.stop()
            self.composer.insert(event.character)
            self.composer.focus()

    @on(Composer.LeftUpwards)
    def _read(self, event: Composer.LeftUpwards) -> None:
        event.stop()
        if not self.transcript.focus_last():
            self.welcome.focus_list()
