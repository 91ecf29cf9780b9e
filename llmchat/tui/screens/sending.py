"""Sending, and following the turn to its end; what is sent meanwhile waits in line.

A turn belongs to the Runtime: this follows it and may leave. Owns what is looked at again when it
is over.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual import work

from llmchat.core.events import ContextFull
from llmchat.errors import LlmchatError
from llmchat.text import say
from llmchat.text.cleaning import clean_line
from llmchat.tui.follower import Follower
from llmchat.tui.screens.chat_base import Outgoing
from llmchat.tui.screens.settings_actions import SettingsActions
from llmchat.tui.screens.writing import Writing
from llmchat.tui.told import told
from llmchat.values import ContextPolicy, Message

if TYPE_CHECKING:
    from llmchat.core.asking import Asking
    from llmchat.core.turn import Turn

POLICIES: tuple[ContextPolicy, ...] = ("drop-middle", "rolling", "stop")
"""What a person may choose when not everything fits."""


class Sending(SettingsActions, Writing):
    """From the composer to the end of the reply."""

    def send(self, text: str) -> None:
        """A message with what is attached: now, or when the turn that runs is over."""
        self.waiting.append(Outgoing(text, self.attached))
        self.put_attached(())
        self.keep_draft()
        self.send_next()

    @work(group="send")
    @told
    async def send_next(self) -> None:
        """What waits longest, unless a turn runs."""
        await self.changes.whole(self._send_next)
        await self.refresh_sidebar()

    async def _send_next(self) -> None:
        rt = await self.runtime()
        if not self.waiting or not self.opened:
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

    def _tell_waiting(self) -> None:
        if self.waiting:
            self.notify(say("tui.waits", count=len(self.waiting)), markup=False)

    def watch_turn(self, turn: "Turn", shown: str | None = None) -> None:
        """Follow a turn of the open conversation to its end, and draw the reply `shown` of it.

        One of another conversation is followed when that is opened.
        """
        if not self.is_open(turn.conversation):
            return
        self.turn = turn
        self.remove_class("-empty")
        self._follow(turn, shown)

    @work(group="follow", exclusive=True)
    @told
    async def _follow(self, turn: "Turn", shown: str | None) -> None:
        follower = Follower(
            self.transcript, self.activity, self.status, partial(self._choose_policy, turn)
        )
        await follower.follow(turn, shown)
        self.turn = None
        self.tell_crash(turn)
        await self.after_turn()

    def tell_crash(self, asked: "Asking") -> None:
        """Say that an error of ours ended it, if one did: nothing else tells of that."""
        if (crash := asked.crash) is not None:
            reason = clean_line(str(crash), 200) or type(crash).__name__
            words = say("tui.crashed", kind=type(crash).__name__, reason=reason)
            self.notify(words, severity="error", timeout=10, markup=False)

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
            self.renew(await rt.chats.get(self.conversation.id))
            await self.show_what_is_there(self.conversation.id)
        await self.refresh_around()
        if self.waiting:
            self.send_next()

    async def show_branch(self, branch: Sequence[Message], conversation: str) -> None:
        """Draw a conversation's branch, if it is the open one by then."""
        await self.transcript.show(branch, lambda: self.is_open(conversation))

    async def show_what_is_there(self, conversation: str) -> None:
        """The open conversation's branch, where the screen shows another and nothing is written.

        So comes what another program wrote, and the version that was shown before, when nothing
        came of the one that replaced it.
        """
        rt = await self.runtime()
        branch = await rt.chats.branch(conversation)
        there = [message.id for message in branch]

        def differs() -> bool:
            shown = [message.id for message in self.transcript.messages]
            return self.is_open(conversation) and not self.answering and shown != there

        if differs():
            reading = self.transcript.has_focus_within
            await self.transcript.show(branch, differs)
            self.set_class(not (self.answering or self.transcript.messages), "-empty")
            if reading:
                self.transcript.focus_last()

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
