"""The chat: conversations on the left, the words in the middle, the composer below.

Owns composition, what is open, and sending. A turn belongs to the Runtime; this screen follows it
and may leave. What is done to a single message is in `message_actions.py`, to a conversation in
the list in `conversation_actions.py`, and everything about models in `model_actions.py`.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static, TextArea

from llmchat.core.events import ContextFull
from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.actions import bindings
from llmchat.tui.follower import Follower
from llmchat.tui.screens.attaching_actions import AttachingActions
from llmchat.tui.screens.chat_base import Outgoing
from llmchat.tui.screens.compacting_actions import CompactingActions
from llmchat.tui.screens.conversation_actions import ConversationActions
from llmchat.tui.screens.message_actions import MessageActions
from llmchat.tui.screens.model_actions import ModelActions
from llmchat.tui.screens.settings_actions import SettingsActions
from llmchat.tui.screens.slash import SlashCommands
from llmchat.tui.screens.view_actions import ViewActions
from llmchat.tui.told import told
from llmchat.tui.widgets.activity import Activity
from llmchat.tui.widgets.chips import Chips
from llmchat.tui.widgets.composer import Composer
from llmchat.tui.widgets.hints import Hints
from llmchat.tui.widgets.sidebar import Sidebar
from llmchat.tui.widgets.status_line import StatusLine
from llmchat.tui.widgets.transcript import Transcript
from llmchat.tui.widgets.welcome import Welcome
from llmchat.values import ContextPolicy, Conversation, Part

if TYPE_CHECKING:
    from llmchat.core.asking import Asking
    from llmchat.core.runtime import Runtime
    from llmchat.core.turn import Turn

POLICIES: tuple[ContextPolicy, ...] = ("drop-middle", "rolling", "stop")
"""What a person may choose when not everything fits."""

DRAFT_PAUSE = 1.0
"""Seconds without a key after which a draft is written to the disk."""
POLL = 2.0
"""Seconds between looks at what other processes wrote."""


class ChatScreen(
    ViewActions,
    SettingsActions,
    ModelActions,
    ConversationActions,
    MessageActions,
    AttachingActions,
    CompactingActions,
    SlashCommands,
):
    """The one screen that is always there."""

    BINDINGS = bindings("chat")
    AUTO_FOCUS = "Composer"
    # Textual declares these two in a way that mypy takes for instance variables.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (14, "-tall")]  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the base's
        super().__init__(*args, **kwargs)
        self._files: dict[str | None, tuple[Part, ...]] = {}
        """What is attached to the drafts of other conversations."""

    _opened = False
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
                    yield Welcome()
                yield Activity()
                yield Chips(markup=False)
                yield Composer(id="composer", keymap=self.keymap)
        yield StatusLine()
        yield Hints(self.keymap)

    def on_mount(self) -> None:
        """Show the shell; the rest comes when the Runtime is there."""
        self.status.state = say("tui.state_starting")
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
        self._send_next()

    # -- what is open ---------------------------------------------------------------------

    async def open(self, conversation: Conversation | None) -> None:
        """Show a conversation, or an empty chat; the draft of the one left behind is kept."""
        rt = await self.runtime()
        typed = "" if self._opened else self.composer.text
        if self._opened:
            self._keep_draft()
            self.waiting.clear()  # they are in the draft of the conversation they were for
        elif self.waiting:
            self.drafts.put(None, "")  # sent before anything was open: they go out, not back
        self._opened = True
        self.editing = None
        self.workers.cancel_group(self, "follow")
        before = self.conversation.id if self.conversation else None
        self.conversation, self.turn = conversation, None
        self.activity.tell("")
        self.status.rate = None
        identity = conversation.id if conversation else None
        self.composer.replace_text(typed or self.drafts.get(identity))
        self._files[before] = self.attached
        self.put_attached(self._files.pop(identity, ()))
        messages = await rt.chats.branch(conversation.id) if conversation else []
        running = next(iter(rt.chats.turns(conversation.id)), None) if conversation else None
        if running is not None:
            replies = {reply.id for reply in running.replies}
            messages = [message for message in messages if message.id not in replies]
        await self.transcript.show(messages)
        self.composer.sent = [m.text for m in messages if m.role == "user"]
        self.set_class(not messages and running is None, "-empty")
        if running is not None:
            self._watch(running)
        await self.refresh_around()

    async def refresh_around(self) -> None:
        """The sidebar, the status line and the welcome, as they are now."""
        await self.refresh_sidebar()
        await self.refresh_model()
        await self.refresh_settings()

    async def refresh_sidebar(self) -> None:
        """The list of conversations, with a sign on those that are being answered."""
        rt = await self.runtime()
        conversations = await rt.chats.list(limit=200)
        running = {turn.conversation for turn in rt.chats.turns() if not turn.done}
        current = self.conversation.id if self.conversation else None
        self.sidebar.show(conversations, current=current, running=running)

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
        if self.conversation is not None and (self.turn is None or self.turn.done):
            branch = await rt.chats.branch(self.conversation.id)
            if [m.id for m in branch] != [m.id for m in self.transcript.messages]:
                await self.transcript.show(branch)
                self.set_class(not branch, "-empty")

    # -- sending --------------------------------------------------------------------------

    @on(Composer.Sent)
    def _sent(self, event: Composer.Sent) -> None:
        event.stop()
        if self.editing is not None:
            self.send_edit(event.text)
            return
        if self.slash(event.text):
            return
        self.waiting.append(Outgoing(event.text, self.attached))
        self.put_attached(())
        self._keep_draft()
        self._send_next()

    @work(group="send")
    @told
    async def _send_next(self) -> None:
        rt = await self.runtime()
        if not self.waiting or not self._opened:
            return  # what is sent before the first conversation is open waits for it
        if self.answering:
            self._tell_waiting()
            return
        going = self.waiting.pop(0)
        try:
            if self.conversation is None:
                self.conversation = await rt.chats.create(settings=self.fresh)
                self.drafts.put(None, "")
            turn = await rt.chats.send(self.conversation.id, going.words)
        except LlmchatError:
            both = filter(None, [going.text, self.composer.text])
            self.composer.replace_text("\n\n".join(both))
            self.put_attached((*going.files, *self.attached))
            raise
        self.watch_turn(turn)
        await self.refresh_sidebar()

    def _tell_waiting(self) -> None:
        if self.waiting:
            self.notify(say("tui.waits", count=len(self.waiting)), markup=False)

    def _watch(self, running: "Asking") -> None:
        from llmchat.core.compacting import Compaction

        if isinstance(running, Compaction):
            self.watch_compaction(running)
        else:
            self.watch_turn(cast("Turn", running))

    def watch_turn(self, turn: "Turn") -> None:
        """Follow a turn of the open conversation to its end."""
        self.turn = turn
        self.remove_class("-empty")
        self._follow(turn)

    @work(group="follow", exclusive=True)
    @told
    async def _follow(self, turn: "Turn") -> None:
        follower = Follower(
            self.transcript, self.activity, self.status, partial(self._choose_policy, turn)
        )
        await follower.follow(turn)
        self.turn = None
        await self.after_turn()

    def _choose_policy(self, turn: "Turn", full: ContextFull) -> None:
        """Ask what to leave out; a late look at a turn that has been answered asks nothing."""
        if not turn.undecided:
            return
        from llmchat.tui.screens.dialogs import ChoiceScreen

        def decide(place: int | None) -> None:
            turn.decide("stop" if place is None else POLICIES[place])

        question = say("tui.context_full", tokens=full.tokens, budget=full.budget)
        choices = [(say(f"tui.policy_{name.replace('-', '_')}"), "") for name in POLICIES]
        self.app.push_screen(ChoiceScreen(question, choices), decide)

    async def after_turn(self) -> None:
        """Look again at everything that a finished turn may have changed, and send what waits."""
        rt = await self.runtime()
        if self.conversation is not None:
            self.conversation = await rt.chats.get(self.conversation.id)
        await self.refresh_around()
        if self.waiting:
            self._send_next()

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

    # -- drafts ---------------------------------------------------------------------------

    @on(TextArea.Changed, "#composer")
    def _typed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.run_worker(self._save_soon(), group="draft", exclusive=True)

    @told
    async def _save_soon(self) -> None:
        await asyncio.sleep(DRAFT_PAUSE)
        self._keep_draft()
        await asyncio.to_thread(self.drafts.save)
        await self.refresh_gauge()

    def _keep_draft(self) -> None:
        if self.editing is not None:
            return  # an edit in progress is no draft; the message itself is safe
        words = [*(going.text for going in self.waiting), self.composer.text]
        identity = self.conversation.id if self.conversation else None
        self.drafts.put(identity, "\n\n".join(word for word in words if word))

    def save_drafts(self) -> None:
        """Now, because the program ends."""
        self._keep_draft()
        self.drafts.save()

    # -- focus and size -------------------------------------------------------------------

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The line of keys tells what the focused part can do."""
        self.query_one(Hints).scope = getattr(event.widget, "SCOPE", "composer")

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
