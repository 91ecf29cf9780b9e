"""Opening a conversation: its draft, its messages, and the turn that may run in it.

Owns what changes when another conversation is shown. Refuses to change any.
"""

from functools import partial
from typing import TYPE_CHECKING, cast

from llmchat.tui.screens.compacting_actions import CompactingActions
from llmchat.values import Conversation

if TYPE_CHECKING:
    from llmchat.core.asking import Asking
    from llmchat.core.turn import Turn


class Opening(CompactingActions):
    """Shows one conversation after another."""

    async def open(self, conversation: Conversation | None) -> None:
        """Show a conversation, or an empty chat; the draft of the one left behind is kept."""
        await self.changes.whole(partial(self.change_to, conversation))
        await self.refresh_around()

    async def change_to(self, conversation: Conversation | None) -> None:
        """The part of `open` that nothing may come between."""
        rt = await self.runtime()
        typed = "" if self.opened else self.composer.text
        if self.opened:
            self.leave_edit()
            self.keep_draft()
            self.waiting.clear()  # they are in the draft of the conversation they were for
        elif self.waiting:
            self.drafts.put(None, "")  # sent before anything was open: they go out, not back
        is_first, self.opened = not self.opened, True
        self.workers.cancel_group(self, "follow")
        before = self.conversation.id if self.conversation else None
        self.conversation, self.turn = conversation, None
        self.activity.tell("")
        self.status.rate = None
        identity = conversation.id if conversation else None
        self.composer.replace_text(typed or self.drafts.get(identity))
        self._change_files(before, is_first=is_first)
        messages = await rt.chats.branch(conversation.id) if conversation else []
        running = next(iter(rt.chats.turns(conversation.id)), None) if conversation else None
        written = [reply.id for reply in running.replies] if running is not None else []
        shown = next((message.id for message in messages if message.id in written), None)
        messages = [message for message in messages if message.id not in written]
        await self.transcript.show(messages)
        self.composer.sent = [m.text for m in messages if m.role == "user"]
        self.set_class(not messages and running is None, "-empty")
        if running is not None:
            self._watch(running, shown)

    def _change_files(self, before: str | None, *, is_first: bool) -> None:
        """What is attached to the draft of the conversation that is open now.

        What was attached before any was open, as words typed by then, is for the first one.
        """
        identity = self.draft.conversation
        carried = self.attached if is_first else ()
        if is_first:
            for reading in self.reading:
                reading.draft = self.draft
        elif not self.to_restore:  # else the draft knows them
            self.attached_elsewhere[before] = self.attached
        self.to_restore = ()
        if identity in self.attached_elsewhere:
            self.put_attached(self.attached_elsewhere.pop(identity))
            return
        self.to_restore = self.drafts.files(identity)
        self.put_attached(carried)
        if self.to_restore:
            self.restore_files()

    def _watch(self, running: "Asking", shown: str | None) -> None:
        from llmchat.core.compacting import Compaction

        if isinstance(running, Compaction):
            self.watch_compaction(running)
        else:
            self.watch_turn(cast("Turn", running), shown)
